"""Judging candidates on the validation split: what is chosen by is never the test split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import Quality, QualityChange
from edgedl.core.contract import Contract
from edgedl.core.errors import ConfigError
from edgedl.core.isolation import Limits
from edgedl.export.inference import run_file
from edgedl.pipeline.data import Splits
from edgedl.pipeline.evaluate import ANOMALY_AUC, RECONSTRUCTION_ERROR, Arrays, Asked, Evidence, Measure, quality_change
from edgedl.pipeline.evaluate import quality as quality_of
from edgedl.pipeline.tasks import TASKS

MOST_BYTES = 256e6
MOST_EXAMPLES = 2000
_NO_SIGNAL = -300.0


@dataclass(frozen=True)
class Judged:
    """A candidate on the validation split, against the float32 file.

    lost: points of a share, or per cent by which an error grew; what limits are compared with. sqnr_db: of the judged
    output, 10·log10(Σ float² / Σ error²); None when the outputs are equal.
    """

    change: QualityChange
    sqnr_db: float | None

    @property
    def lost(self) -> float:
        """Points, or per cent of the float32 file's error."""
        if self.change.before.is_share:
            return self.change.loss
        return 100.0 * self.change.loss / max(abs(self.change.before.value), 1e-12)

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better: the loss, then the noise."""
        return (self.lost, -math.inf if self.sqnr_db is None else -self.sqnr_db)

    @property
    def words(self) -> str:
        """ "+0.4 points, 31.2 dB"."""
        unit = "points" if self.change.before.is_share else f"% of the {self.change.before.metric}"
        noise = "equal outputs" if self.sqnr_db is None else f"SQNR {self.sqnr_db:.1f} dB"
        return f"{self.lost:+.3g} {unit}, {noise}"


@dataclass(frozen=True)
class ValidationJudge:
    """Validation examples as the model is given them, and what the float32 file says to them."""

    asked: Asked
    output: str
    reference: NDArray[Any]
    evidence: Evidence
    quality: Quality
    measure: Measure
    limits: Limits

    @property
    def n(self) -> int:
        """How many examples."""
        return len(self.reference)

    def judge(self, path: Path) -> Judged:
        """A .tflite file against the float32 one. Raises ModelError, StageError when it cannot be run."""
        got = _run(path, self.asked.inputs, self.output, self.limits)
        found = self.measure.evidence(got, self.asked)
        after = quality_of(found, self.measure, of=path.name, split="validation")
        change = quality_change((self.quality, self.evidence), (after, found), self.measure)
        return Judged(change, sqnr_db(self.reference, got))

    def judge_bytes(self, content: bytes, folder: Path) -> Judged:
        """The same for the content of a file, which is written for a moment into `folder`."""
        path = folder / "candidate.tflite"
        path.write_bytes(content)
        try:
            return self.judge(path)
        finally:
            path.unlink()


def validation_judge(
    float_tflite: Path, contract: Contract, data: Splits, *, what: str, seed: int, limits: Limits
) -> ValidationJudge:
    """The judge of what is made from `float_tflite`. what: asks for it, in errors.

    At most 2,000 examples or 256 MB of them, drawn with `seed`. An anomaly detector whose validation split has no
    anomalies is judged by its reconstruction error. Raises ConfigError when there are no validation examples.
    """
    n = len(data.validation)
    if not n:
        raise ConfigError(
            f"{what} needs validation examples to choose by",
            required="data with a validation split",
            received="none",
            advice="Set data.split.validation, for example to 0.1",
        )
    most = int(min(MOST_EXAMPLES, max(1, MOST_BYTES // (4 * np.prod(data.input.shape)))))
    positions = np.arange(n)
    if n > most:
        positions = np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
    rules = TASKS[contract.task]
    asked, measure = rules.ask(contract, data, data.validation, positions), rules.measure
    if measure is ANOMALY_AUC and len(np.unique(asked.targets)) < 2:
        measure = RECONSTRUCTION_ERROR
        asked = Asked(asked.inputs, next(iter(asked.inputs.values())))
    output = contract.outputs[0].name
    reference = _run(float_tflite, asked.inputs, output, limits)
    found = measure.evidence(reference, asked)
    before = quality_of(found, measure, of="tflite float32", split="validation")
    return ValidationJudge(asked, output, reference, found, before, measure, limits)


def _run(path: Path, inputs: Arrays, output: str, limits: Limits) -> NDArray[np.float32]:
    return np.asarray(run_file(path, inputs, limits=limits)[output], np.float32)


def sqnr_db(reference: NDArray[Any], got: NDArray[Any]) -> float | None:
    """Signal-to-quantization-noise ratio in dB (Bennett 1948): 10·log10(Σ reference² / Σ (got − reference)²).

    None for equal outputs; −300 where there is no signal, or an output that is not finite.
    """
    if not np.isfinite(got).all():
        return _NO_SIGNAL
    exact = reference.astype(np.float64)
    noise, signal = float(((got.astype(np.float64) - exact) ** 2).sum()), float((exact**2).sum())
    if not noise:
        return None
    return max(_NO_SIGNAL, 10.0 * math.log10(signal / noise)) if signal else _NO_SIGNAL
