"""`tpu`: Google's Edge TPU (Coral). Which ops of a file it takes, and its time there, measured or estimated.

Neither Google's compiler nor its runtime is in a package registry. Where both are installed the file is compiled and
timed on the Edge TPU itself (`edge_tpu_runtime.py`). Where `edgetpu_compiler` alone is installed it decides what maps;
else the documented constraints do (`edge_tpu_ops.py`).
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from edgedl.core.artifacts import Estimate, LatencyReport, Memory, ModelLatency, OpCost
from edgedl.core.console import reporter
from edgedl.core.errors import ModelError
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile, OpFacts
from edgedl.core.provenance import machine, version_of
from edgedl.core.statistics import Interval
from edgedl.devices import cpu, edge_tpu_runtime, litert, session
from edgedl.devices.checks import check_formats
from edgedl.devices.child import in_child
from edgedl.devices.edge_tpu_ops import placed, read_ops
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.results import latency_report, timing_of
from edgedl.devices.sampling import Sampled
from edgedl.devices.session import Timed, TimingTask

COMPILER = "edgetpu_compiler"
TIMEOUT_S = 600.0
PROCESSES = 10
ON_CHIP_BYTES = 8 * 2**20
PUBLISHED = Path(__file__).with_name("edge_tpu_published.yaml")


@dataclass(frozen=True)
class EdgeTpu:
    """The `tpu` device."""

    name: str = "tpu"
    summary: str = "Google's Edge TPU (Coral): measured where there is one, else which ops map and why (estimated)"

    @property
    def undisturbed(self) -> bool:
        """Whether nothing is timed."""
        return not _is_measured()

    @property
    def exact(self) -> bool:
        """Whether figures are computed."""
        return self.undisturbed

    def targets(self) -> Sequence[str]:
        """There is only one."""
        return ()

    def status(self) -> DeviceStatus:
        """Always: without the compiler the documented constraints decide."""
        compiler, runtime = shutil.which(COMPILER), edge_tpu_runtime.library()
        mapping = f"mapping by {compiler}" if compiler else f"mapping by Coral's documentation; no {COMPILER}"
        times = f"times measured through {runtime}" if _is_measured() else "times estimated"
        return DeviceStatus(True, f"{mapping}; {times}")

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Place the ops of every file; time it on the Edge TPU where compiler and runtime are there, else estimate."""
        started = time.monotonic()
        check_formats(files, self.name, "tflite")
        with tempfile.TemporaryDirectory(prefix="edgedl-edgetpu-") as folder:
            compiled = [compile_file(file.path, Path(folder) / str(index)) for index, file in enumerate(files)]
            if _is_measured() and all(compiled):
                return self._measured(files, [one for one in compiled if one], plan, started)
        return latency_report(
            files,
            [_estimated(file, one) for file, one in zip(files, compiled, strict=True)],
            plan,
            device=self.name,
            hardware="Coral Edge TPU (4 TOPS, 8 MB on the chip), on a Dev Board",
            obtained="estimated",
            stopped="computed",
            started=started,
        )

    def _measured(
        self, files: Sequence[ModelFile], compiled: Sequence[Compiled], plan: SamplingPlan, started: float
    ) -> LatencyReport:
        names = ", ".join(file.path.name for file in files)

        def take(seconds: float, order_seed: int) -> Sequence[Timed]:
            paths = tuple((one.path, "tflite/edge-tpu") for one in compiled)
            task = TimingTask(paths, plan.threads, plan.xnnpack, plan.seed, order_seed, seconds)
            return in_child(session.time_files, task, subject=names)

        conditions = cpu.host_conditions(plan)
        with reporter().progress(f"profiling {names} on the Edge TPU", plan.budget_s) as bar:
            sampled = Sampled(take, plan, processes=PROCESSES, deadline=time.monotonic() + plan.budget_s)
            sampled.take_all(bar, started)
        models = [
            replace(
                _placed(file, one),
                runtime=timed[0].runtime,
                ops=_op_sizes(file.facts.ops, one.reasons),
                timing=timing_of(timed, plan.seed),
            )
            for file, one, timed in zip(files, compiled, sampled.by_file, strict=True)
        ]
        return latency_report(
            files,
            models,
            plan,
            device=self.name,
            hardware=f"an Edge TPU at {machine()}",
            obtained="measured",
            runtimes={litert.NAME: version_of(litert.PACKAGE) or "", "libedgetpu": edge_tpu_runtime.library() or ""},
            conditions=conditions,
            processes=sampled.processes,
            warm_up=sampled.warm_up,
            stopped=sampled.stopped,
            started=started,
        )


device = EdgeTpu()


def _is_measured() -> bool:
    return shutil.which(COMPILER) is not None and edge_tpu_runtime.library() is not None


# --- the compiler ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of a file. reasons: per op "" where it maps, else why not."""

    path: Path
    reasons: Sequence[str]


def compile_file(path: Path, folder: Path) -> Compiled | None:
    """Compile a file into `folder` and read which ops map; None where there is no compiler.

    The compiler's log lists ops by kind and state, in no order; those of a kind are told apart by the file's own order.
    """
    program = shutil.which(COMPILER)
    if program is None:
        return None
    folder.mkdir()
    command = [program, "--show_operations", "--out_dir", str(folder), str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ModelError(f"{COMPILER} did not finish {path.name}", received=f"more than {TIMEOUT_S:g} s") from None
    if done.returncode:
        raise ModelError(
            f"{COMPILER} cannot compile {path.name}", received=(done.stderr.splitlines() or [""])[-1][:300]
        )
    rows = re.findall(r"^([A-Z0-9_]+)\s+(\d+)\s+(.+?)\s*$", done.stdout, re.MULTILINE)
    states: dict[str, list[str]] = {}
    for kind, number, state in rows:
        states.setdefault(kind, []).extend(["" if state.startswith("Mapped") else state] * int(number))
    reasons = [states[op.kind].pop(0) if states.get(op.kind) else "" for op in read_ops(path)]
    return Compiled(folder / f"{path.stem}_edgetpu.tflite", reasons)


# --- one file ----------------------------------------------------------------------------------------------------


def _placed(file: ModelFile, compiled: Compiled) -> ModelLatency:
    """The file without any time: what maps, and the chip's memory."""
    facts, reasons = file.facts.ops, compiled.reasons
    weights = sum(fact.weight_bytes for fact, reason in zip(facts, reasons, strict=True) if not reason)
    notes: list[str] = []
    if any(reasons):
        first = next(index for index, reason in enumerate(reasons) if reason)
        on_tpu = sum(not reason for reason in reasons)
        notes.append(
            f"{on_tpu} of {len(facts)} ops map; the first that does not, {facts[first].op} ({first}), {reasons[first]}"
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
        ops=(),
        memory=Memory(min(weights, ON_CHIP_BYTES), "weights on the chip"),
        notes=tuple(notes),
    )


def _op_sizes(facts: Sequence[OpFacts], reasons: Sequence[str]) -> tuple[OpCost, ...]:
    """Ops of a file that was timed: the Edge TPU tells no time per op."""
    total = sum(fact.macs for fact in facts) or 1
    return tuple(
        OpCost(
            fact.index, fact.op, fact.layer, fact.macs, "MACs", fact.macs / total, "cpu" if reason else "tpu", reason
        )
        for fact, reason in zip(facts, reasons, strict=True)
    )


# --- the estimate ------------------------------------------------------------------------------------------------


def _estimated(file: ModelFile, compiled: Compiled | None) -> ModelLatency:
    facts = file.facts.ops
    known = compiled or Compiled(file.path, placed(read_ops(file.path)))
    on_tpu = [fact for fact, reason in zip(facts, known.reasons, strict=True) if not reason]
    return replace(
        _placed(file, known), ops=_op_costs(facts, known.reasons), estimate=estimate(on_tpu) if on_tpu else None
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
