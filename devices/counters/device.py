"""`counters`: the instructions that an inference executes on this computer's processor, whatever else it does."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedl.core.artifacts import Conditions, LatencyReport, Memory, ModelLatency, Obtained
from edgedl.core.console import reporter
from edgedl.core.errors import UnavailableError
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile
from edgedl.core.provenance import version_of
from edgedl.devices import litert, onnx_runtime
from edgedl.devices.arm64.counting import BOXES
from edgedl.devices.arm64.device import HEAP
from edgedl.devices.checks import check_available, check_formats
from edgedl.devices.counters import callgrind, perf
from edgedl.devices.counters.job import Counted, Job
from edgedl.devices.native.runtime import LITERT
from edgedl.devices.probe import write_inputs
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.results import latency_report


@dataclass(frozen=True)
class Counter:
    """What counts. refusal: why it cannot now, or None. hardware: what the counts are of."""

    obtained: Obtained
    summary: str
    refusal: Callable[[], UnavailableError | None]
    hardware: Callable[[], str]
    count: Callable[[Job], Counted]


COUNTERS = {  # the first that can count is taken where none is named
    "callgrind": Counter(
        "emulated", "in valgrind, exact, of kernels for AVX2", callgrind.refusal, callgrind.hardware, callgrind.count
    ),
    "perf": Counter("measured", "by the processor's own counter", perf.refusal, perf.hardware, perf.count),
}


@dataclass(frozen=True)
class Counters:
    """The `counters` device."""

    name: str = "counters"
    summary: str = (
        "instructions on this computer's processor: exact under valgrind (emulated), or by its own counter (measured)"
    )
    undisturbed: bool = True
    exact: bool = True

    def targets(self) -> Sequence[str]:
        """What counts."""
        return tuple(COUNTERS)

    def status(self) -> DeviceStatus:
        """Whether valgrind is there or, without it, perf counts."""
        name = _first()
        if name:
            return DeviceStatus(True, f"{name}: {COUNTERS[name].summary}")
        refusals = [refusal for counter in COUNTERS.values() if (refusal := counter.refusal())]
        detail = "; ".join(refusal.what for refusal in refusals)
        return DeviceStatus(False, detail, (callgrind.VALGRIND,), "apt-get install valgrind")

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Count every file's instructions, at one thread; nothing is timed."""
        if target is None:
            check_available(self)
        name = target or _first() or ""
        if refusal := COUNTERS[name].refusal():
            raise refusal
        check_formats(files, self.name, *BOXES)
        return _profile(files, plan, name)


device = Counters()


def _first() -> str | None:
    return next((name for name, counter in COUNTERS.items() if counter.refusal() is None), None)


def _profile(files: Sequence[ModelFile], plan: SamplingPlan, target: str) -> LatencyReport:
    started, counter, processes = time.monotonic(), COUNTERS[target], 0
    models: list[ModelLatency] = []
    with (
        reporter().progress(f"counting {', '.join(file.path.name for file in files)}", len(files)) as bar,
        tempfile.TemporaryDirectory(prefix="edgedl-counters-") as folder,
    ):
        for file, inputs in zip(files, write_inputs(files, Path(folder), plan.seed), strict=True):
            beat = functools.partial(bar.update, len(models), file.path.name)
            counted = counter.count(Job(file, inputs, Path(folder), plan.xnnpack, beat))
            processes += counted.processes
            models.append(_model(file, counted, plan))
            bar.update(len(models), file.path.name)
    boxes = [BOXES[name] for name in dict.fromkeys(file.format for file in files)]
    return latency_report(
        files,
        models,
        plan,
        device=f"{device.name}:{target}",
        hardware=counter.hardware(),
        obtained=counter.obtained,
        runtimes={box.runtime.name: version_of(box.runtime.package) or "" for box in boxes},
        conditions=Conditions(None, None, None, threads=1, xnnpack=plan.xnnpack),
        processes=processes,
        warm_up=max(box.warm_up for box in boxes),
        stopped="counted",
        started=started,
    )


def _model(file: ModelFile, counted: Counted, plan: SamplingPlan) -> ModelLatency:
    with_litert = BOXES[file.format].runtime is LITERT
    one_thread = () if plan.threads == 1 else (f"counted at one thread, not {plan.threads}: counts of several vary",)
    return ModelLatency(
        file=file.path.name,
        sha256=sha256_of(file.path),
        size_bytes=file.path.stat().st_size,
        runtime=litert.runtime_words(xnnpack=plan.xnnpack) if with_litert else onnx_runtime.runtime_words(),
        ops=counted.ops,
        instructions=counted.instructions,
        memory=Memory(counted.seen.heap_bytes, HEAP),
        outputs=tuple(counted.seen.outputs),
        notes=(*one_thread, *counted.notes),
    )
