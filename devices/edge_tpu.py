"""`tpu`: Google's Edge TPU (Coral). Which ops of a file it would take, and an estimate of the time.

Neither Google's compiler nor its runtime is in a package registry. Where `edgetpu_compiler` is installed it decides
what maps; else the documented constraints do (`edge_tpu_ops.py`).
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from edgedl.core.artifacts import Estimate, LatencyReport, Memory, ModelLatency, OpCost
from edgedl.core.errors import ModelError
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile, OpFacts
from edgedl.core.statistics import Interval
from edgedl.devices.checks import check_formats
from edgedl.devices.edge_tpu_ops import placed, read_ops
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.results import latency_report

COMPILER = "edgetpu_compiler"
ON_CHIP_BYTES = 8 * 2**20
PUBLISHED = Path(__file__).with_name("edge_tpu_published.yaml")


# --- the compiler ------------------------------------------------------------------------------------------------


def compiled_placement(path: Path, count: int) -> list[str] | None:
    """What `edgetpu_compiler` says of each op, or None where it is not installed.

    Its log lists ops by kind and state, in no order; the kinds are told apart by the file's own order (`read_ops`).
    """
    program = shutil.which(COMPILER)
    if program is None:
        return None
    with tempfile.TemporaryDirectory(prefix="edgedl-edgetpu-") as folder:
        command = [program, "--show_operations", "--out_dir", folder, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise ModelError(
            f"{COMPILER} cannot compile {path.name}", received=(done.stderr.splitlines() or [""])[-1][:300]
        )
    rows = re.findall(r"^([A-Z0-9_]+)\s+(\d+)\s+(.+?)\s*$", done.stdout, re.MULTILINE)
    left: dict[str, list[str]] = {}
    for kind, number, state in rows:
        left.setdefault(kind, []).extend(["" if state.startswith("Mapped") else state] * int(number))
    reasons = [left.get(op.kind, [""]).pop(0) if left.get(op.kind) else "" for op in read_ops(path)]
    assert len(reasons) == count
    return reasons


# --- the device --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EdgeTpu:
    """The `tpu` device."""

    name: str = "tpu"
    summary: str = "Google's Edge TPU (Coral): which ops map and why others do not, milliseconds (estimated)"
    undisturbed: bool = True

    def targets(self) -> Sequence[str]:
        """There is only one."""
        return ()

    def status(self) -> DeviceStatus:
        """Always: without the compiler the documented constraints decide."""
        found = shutil.which(COMPILER)
        return DeviceStatus(
            True, f"mapping by {found}" if found else f"mapping by Coral's documentation; no {COMPILER}"
        )

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Place the ops of every file and estimate its time."""
        started = time.monotonic()
        check_formats(files, self.name, "tflite")
        models = tuple(_latency(file) for file in files)
        return latency_report(
            files,
            models,
            plan,
            device=self.name,
            hardware="Coral Edge TPU (4 TOPS, 8 MB on the chip), on a Dev Board",
            obtained="estimated",
            stopped="computed",
            started=started,
        )


device = EdgeTpu()


def _latency(file: ModelFile) -> ModelLatency:
    facts = file.facts.ops
    reasons = compiled_placement(file.path, len(facts)) or placed(read_ops(file.path))
    on_tpu = [fact for fact, reason in zip(facts, reasons, strict=True) if not reason]
    weights = sum(fact.weight_bytes for fact in on_tpu)
    notes: list[str] = []
    if len(on_tpu) < len(facts):
        first = next(index for index, reason in enumerate(reasons) if reason)
        notes.append(
            f"{len(on_tpu)} of {len(facts)} ops map; the first that does not, {facts[first].op} ({first}), "
            f"{reasons[first]}"
        )
    if weights > ON_CHIP_BYTES:
        notes.append(
            f"{weights / 2**20:.1f} MiB of weights, of which 8 MB stay on the chip: the rest is sent every time"
        )
    return ModelLatency(
        file=file.path.name,
        sha256=sha256_of(file.path),
        size_bytes=file.facts.size_bytes,
        runtime="none",
        ops=_op_costs(facts, reasons),
        estimate=estimate(on_tpu) if on_tpu else None,
        memory=Memory(min(weights, ON_CHIP_BYTES), "weights on the chip"),
        notes=tuple(notes),
    )


def _op_costs(facts: Sequence[OpFacts], reasons: Sequence[str]) -> tuple[OpCost, ...]:
    per_op, per_mac = (1e6 * fitted()[name] for name in ("seconds_per_op", "seconds_per_mac"))
    costs = [0.0 if reason else per_op + per_mac * fact.macs for fact, reason in zip(facts, reasons, strict=True)]
    total = sum(costs) or 1.0
    return tuple(
        OpCost(fact.index, fact.op, fact.layer, cost, "us", cost / total, "cpu" if reason else "tpu", reason)
        for fact, cost, reason in zip(facts, costs, reasons, strict=True)
    )


@functools.cache
def fitted() -> Mapping[str, Any]:
    """The constants of the time model, and its error on each network of Coral's table as fitted to the others."""
    return yaml.safe_load(PUBLISHED.read_text())


def estimate(on_tpu: Sequence[OpFacts]) -> Estimate:
    """Microseconds of the ops on the Edge TPU: a part for each op, arithmetic, and weights that do not fit on the chip.

    Bounds: the largest error of the same fit on published times that it had not seen.
    """
    found = fitted()
    streamed = max(0, sum(fact.weight_bytes for fact in on_tpu) - ON_CHIP_BYTES)
    seconds = (
        found["seconds_per_op"] * len(on_tpu)
        + found["seconds_per_mac"] * sum(fact.macs for fact in on_tpu)
        + found["seconds_per_byte"] * streamed
    )
    errors = sorted(found["errors"].values())
    latency_us = 1e6 * seconds
    bounds = Interval(latency_us, latency_us / (1 + errors[-1]), latency_us / (1 + errors[0]))
    return Estimate(
        bounds,
        f"ops, multiply–accumulates and weights beyond {ON_CHIP_BYTES / 2**20:g} MiB; median error "
        f"{median(map(abs, errors)):.0%}, {errors[0]:+.0%} to {errors[-1]:+.0%} on {len(errors)} published times",
    )
