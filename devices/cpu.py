"""The host CPU: TFLite files in LiteRT, ONNX files in ONNX Runtime, measured where edgedl itself runs.

A session is many short processes, one after the other. Each loads every file and times blocks of all of them in a
random order: what slows the machine for a moment slows all files alike, and the ratio of two files' times stays true
where neither time does. Many processes, because the same file in the same runtime is faster or slower by some percent
from one process to the next (memory layout).
"""

from __future__ import annotations

import functools
import importlib.util
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedl.core import isolation
from edgedl.core.artifacts import Conditions, LatencyReport, Memory, ModelLatency
from edgedl.core.console import reporter
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile
from edgedl.core.provenance import machine, version_of
from edgedl.devices import litert, onnx_runtime, session
from edgedl.devices.checks import check_available
from edgedl.devices.child import in_child
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.results import PEAK_MEMORY, latency_report, op_table, timing_of
from edgedl.devices.sampling import Sampled
from edgedl.devices.session import Examined, OpTimes, Timed, TimingTask

PROCESSES = 25  # at least about as many are what a budget is divided into
PROCESS_S = 0.6  # and none takes much longer than this: how processes differ is told by many of them
OPS_SHARE, OPS_S = 0.1, 0.5  # of the budget goes to times per op, but no more than so many seconds for a file


@dataclass(frozen=True)
class HostCpu:
    """The `cpu` device."""

    name: str = "cpu"
    summary: str = "this computer's processor: LiteRT for .tflite, ONNX Runtime for .onnx (measured)"

    def targets(self) -> Sequence[str]:
        """There is only one."""
        return ()

    def status(self) -> DeviceStatus:
        """Whether both runtimes are installed."""
        missing = tuple(r.PACKAGE for r in (litert, onnx_runtime) if importlib.util.find_spec(r.MODULE) is None)
        if missing:
            command = f"pip install {' '.join(missing)}"
            return DeviceStatus(False, f"{' and '.join(missing)} not installed", missing, command)
        return DeviceStatus(True, f"{machine()}; {litert.version()}, {onnx_runtime.version()}")

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Take one session; see `Device.profile`. A crash of the runtime is a ModelError that names the file."""
        check_available(self)
        return _profile(files, plan)


device = HostCpu()


def _profile(files: Sequence[ModelFile], plan: SamplingPlan) -> LatencyReport:
    started = time.monotonic()
    state = host_conditions(plan)
    isolation.warm_up("runtime")
    with reporter().progress(f"profiling {_names(files)}", plan.budget_s) as bar:
        runtime_bytes = {
            kind: in_child(session.runtime_memory, kind, subject="") for kind in {file.format for file in files}
        }
        examine_s = min(OPS_SHARE * plan.budget_s / len(files), OPS_S)
        seen = {path: _examine(file, plan, examine_s) for path, file in {file.path: file for file in files}.items()}
        deadline = started + 0.95 * plan.budget_s  # the rest is for the intervals
        processes = max(PROCESSES, round(plan.budget_s / PROCESS_S))
        sampled = Sampled(functools.partial(_time_all, files, plan), plan, processes=processes, deadline=deadline)
        sampled.take_all(bar, started)
    models = [
        _latency(file, timed, seen[file.path], runtime_bytes[file.format], plan)
        for file, timed in zip(files, sampled.by_file, strict=True)
    ]
    return latency_report(
        files,
        models,
        plan,
        device=device.name,
        hardware=machine(),
        obtained="measured",
        runtimes={runtime.NAME: version_of(runtime.PACKAGE) or "" for runtime in (litert, onnx_runtime)},
        conditions=state,
        processes=sampled.processes,
        warm_up=sampled.warm_up,
        stopped=sampled.stopped,
        started=started,
    )


def _names(files: Sequence[ModelFile]) -> str:
    return ", ".join(file.path.name for file in files)


# --- taking samples ----------------------------------------------------------------------------------------------


def _time_all(files: Sequence[ModelFile], plan: SamplingPlan, seconds: float, order_seed: int) -> Sequence[Timed]:
    task = TimingTask(
        files=tuple((file.path, file.format) for file in files),
        threads=plan.threads,
        xnnpack=plan.xnnpack,
        seed=plan.seed,
        order_seed=order_seed,
        seconds=seconds,
    )
    return in_child(session.time_files, task, subject=_names(files))


def _examine(file: ModelFile, plan: SamplingPlan, seconds: float) -> Examined:
    arguments = file.path, file.format, plan.threads, plan.xnnpack, plan.seed, seconds
    return in_child(session.examine_file, *arguments, subject=file.path.name)


# --- from samples to the report ----------------------------------------------------------------------------------


def _latency(
    file: ModelFile, timed: Sequence[Timed], seen: Examined, runtime_bytes: int, plan: SamplingPlan
) -> ModelLatency:
    timing = timing_of(timed, plan.seed)
    return ModelLatency(
        file=file.path.name,
        sha256=sha256_of(file.path),
        size_bytes=file.path.stat().st_size,
        runtime=timed[0].runtime,
        ops=op_table(seen.ops, file.facts.ops),
        timing=timing,
        memory=Memory(max(0, seen.peak_bytes - runtime_bytes), PEAK_MEMORY, runtime_bytes),
        energy_uj=seen.energy_uj,
        notes=(*timed[0].notes, *seen.ops.notes, *_profiler_cost(seen.ops, timing.median_us.value)),
    )


def _profiler_cost(times: OpTimes, median_us: float) -> tuple[str, ...]:
    """A note where the profiler, which asks for the memory in use at every kernel, took longer than the kernels."""
    factor = sum(kernel.time_us for kernel in times.ops) / median_us
    if factor < 1.5:
        return ()
    return (f"the profiler made the ops take {factor:.1f} times the median inference: their times are too long",)


# --- the state of the machine ------------------------------------------------------------------------------------


def host_conditions(plan: SamplingPlan) -> Conditions:
    """Load, governor and temperature of this computer now."""
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return Conditions(
        load_average=round(os.getloadavg()[0], 2),
        governor=governor.read_text().strip() if governor.exists() else None,
        temperature_c=_temperature_c(),
        threads=plan.threads,
        xnnpack=plan.xnnpack,
    )


def _temperature_c() -> float | None:
    """The hottest sensor of the processor (or of the system, where none is named after one)."""
    import psutil

    sensors = psutil.sensors_temperatures()
    chosen = [name for name in ("coretemp", "k10temp", "cpu_thermal") if name in sensors] or list(sensors)
    return max((entry.current for name in chosen for entry in sensors[name]), default=None)
