"""Weights in 8 or 4 bits, one scale for each output channel; activations and arithmetic stay float32.

Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference" (arXiv:1806.08342), §3.1.1:
weight-only quantization, here symmetric: real = scale × stored, |stored| ≤ 2^(bits − 1) − 1. Done by ai-edge-quantizer;
the files are about a quarter and an eighth of float32's, need no calibration, and run no faster than float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field

from edgedl.core.artifacts import Quantization
from edgedl.pipeline.compress.base import Conversion, Converted, Scheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedl.export.tflite_weights import LeftWeights, ScaleRule

ScaleChoice: TypeAlias = Literal["auto", "min-max", "mse", "octav"]

JUDGED = 200
"""Validation examples (or random inputs) that choose the rule."""

SHOWN = 5


class _WeightOnly(Scheme):
    """What both have in common."""

    scale: ScaleChoice = "min-max"

    def convert(self, job: Conversion, target: Path) -> Converted:
        """With the rule, or with the one of three whose file answers most like the float32 file's."""
        from edgedl.export.tflite_weights import RULES

        if self.scale != "auto":
            return Converted(_left_in_words(self._write(job, target, self.scale), self.quantization().weights))
        inputs, where = _inputs(job)
        reference = _answers(job.float_tflite, inputs, job)
        candidates: dict[ScaleRule, Path] = {rule: target.with_name(f"{target.stem}-{rule}.tflite") for rule in RULES}
        try:
            left = {rule: self._write(job, path, rule) for rule, path in candidates.items()}
            noise = {rule: _sqnr_db(reference, _answers(path, inputs, job)) for rule, path in candidates.items()}
            best = max(RULES, key=lambda rule: noise[rule])
            candidates[best].replace(target)
        finally:
            for path in candidates.values():
                path.unlink(missing_ok=True)
        told = ", ".join(f"{rule} {noise[rule]:.1f} dB" for rule in RULES)
        said = f"scales by {best}: signal-to-noise ratio of the outputs against float32's on {where}: {told} (measured)"
        return Converted((said, *_left_in_words(left[best], self.quantization().weights)))

    def _write(self, job: Conversion, path: Path, rule: ScaleRule) -> tuple[LeftWeights, ...]:
        from edgedl.export.tflite_weights import quantize_weights

        return quantize_weights(
            job.float_tflite,
            path,
            self.quantization(),
            job.trained.contract,
            name=job.name,
            layers=job.trained.layers,
            rule=rule,
            limits=job.limits,
        )


class WeightOnlyInt8(_WeightOnly):
    """A quarter of the size, float32's answers nearly; no data needed."""

    method: Literal["weight-only-int8"] = "weight-only-int8"
    scale: ScaleChoice = Field(
        default="min-max",
        description="Rule for each channel's scale: its largest magnitude, least squared error for a Gaussian, OCTAV's "
        "clipping; auto: the one that answers most like float32.",
    )

    def quantization(self) -> Quantization:
        """int8 weights, float32 activations."""
        return Quantization(method="weight-only-int8", weights="int8", activations="float32")


class WeightOnlyInt4(_WeightOnly):
    """An eighth of the size of what has 4-bit kernels; 15 values a channel, so judge it before use."""

    method: Literal["weight-only-int4"] = "weight-only-int4"
    scale: ScaleChoice = Field(
        default="auto",
        description="Rule for each channel's scale: its largest magnitude, least squared error for a Gaussian, OCTAV's "
        "clipping; auto: the one that answers most like float32, on validation examples where there are any.",
    )

    def quantization(self) -> Quantization:
        """int4 weights, float32 activations."""
        return Quantization(method="weight-only-int4", weights="int4", activations="float32")


def _inputs(job: Conversion) -> tuple[dict[str, NDArray[Any]], str]:
    """What rules are compared on: validation examples, else random inputs; and what they are in words."""
    from edgedl.export.verify import random_inputs
    from edgedl.pipeline.tasks import TASKS

    contract, bench = job.trained.contract, job.bench
    if bench is None or not len(bench.data.validation):
        return random_inputs(contract, JUDGED, 0), f"{JUDGED} random inputs"
    held = bench.data.validation
    n = min(JUDGED, len(held))
    positions = np.sort(np.random.default_rng(bench.seed).choice(len(held), n, replace=False))
    return dict(TASKS[contract.task].ask(contract, bench.data, held, positions).inputs), f"{n} validation examples"


def _answers(path: Path, inputs: dict[str, NDArray[Any]], job: Conversion) -> dict[str, NDArray[Any]]:
    from edgedl.export.inference import run_file

    return run_file(path, inputs, limits=job.limits)


def _sqnr_db(reference: dict[str, NDArray[Any]], got: dict[str, NDArray[Any]]) -> float:
    """10·log10(Σ ref² / Σ error²), the mean over outputs."""
    found: list[float] = []
    for name, expected in reference.items():
        signal = float((expected.astype(np.float64) ** 2).sum())
        noise = float(((got[name].astype(np.float64) - expected) ** 2).sum())
        found.append(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30)))
    return float(np.mean(found))


def _left_in_words(left: Sequence[LeftWeights], wanted: str) -> tuple[str, ...]:
    """Which ops' weights are not in the type that was asked for, a sentence for each kind and type."""
    said: list[str] = []
    for dtype, op in sorted({(one.dtype, one.op) for one in left}):
        members = [one for one in left if (one.dtype, one.op) == (dtype, op)]
        layers = list(dict.fromkeys(one.layer for one in members if one.layer))
        named = ", ".join(layers[:SHOWN]) + (f" and {len(layers) - SHOWN} more" if len(layers) > SHOWN else "")
        weights = sum(one.elements for one in members)
        said.append(
            f"{weights:,} weights of {len(members)} {op} stay {dtype}{f' ({named})' if named else ''}: "
            f"there is no {wanted} form of this op"
        )
    return tuple(said)
