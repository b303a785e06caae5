"""The `gpu` device: what runs on this computer's GPU, how far its outputs are from the CPU's, and how fast it is.

A software adapter (SwiftShader, llvmpipe) runs the same shaders on the CPU: it tells coverage and accuracy, and its
time is no GPU's. So a session on one is `emulated`, and holds no latency.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgedl.core import isolation
from edgedl.core.artifacts import Conditions, LatencyReport, ModelLatency
from edgedl.core.console import reporter
from edgedl.core.errors import StageError
from edgedl.core.files import sha256_of
from edgedl.core.isolation import Limits
from edgedl.core.model_facts import ModelFile
from edgedl.core.provenance import version_of
from edgedl.devices import cpu, litert, litert_ops, onnx_runtime, parity, session
from edgedl.devices.checks import check_available, check_formats
from edgedl.devices.child import in_child
from edgedl.devices.gpu import litert_gpu, onnx_gpu, placement, vulkan
from edgedl.devices.gpu.placement import Place
from edgedl.devices.gpu.rows import coverage, op_rows
from edgedl.devices.gpu.setup import set_up
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.results import latency_report, timing_of
from edgedl.devices.sampling import Sampled
from edgedl.devices.session import Timed, TimingTask

PROCESSES = 10
"""Fewer than on the CPU: each compiles its shaders anew."""
LIMITS = Limits(time_s=300.0)

T = TypeVar("T")


@dataclass(frozen=True)
class Gpu:
    """The `gpu` device."""

    name: str = "gpu"
    summary: str = "this computer's GPU: LiteRT for .tflite, ONNX Runtime for .onnx (measured; emulated in software)"

    def targets(self) -> Sequence[str]:
        """There is only one; EDGEDL_VULKAN_ICD chooses a driver."""
        return ()

    def status(self) -> DeviceStatus:
        """Whether there are a Vulkan driver and its loader, or ONNX Runtime for CUDA."""
        return _status()

    def set_up(self) -> list[str]:
        """Bring ONNX Runtime for WebGPU."""
        return set_up()

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Place every op, compare outputs with the CPU's and, on hardware, take one session of timing."""
        check_formats(files, "the GPU", "tflite", "onnx")
        build = onnx_gpu.needed() if any(file.format == "onnx" for file in files) else None
        if build is None or build.provider != onnx_gpu.CUDA or any(file.format == "tflite" for file in files):
            check_available(self)
        return _profile(files, plan, build)


device = Gpu()


def _status() -> DeviceStatus:
    build = onnx_gpu.build()
    onnx = build.words if build else "no ONNX Runtime for GPUs (`edgedl devices setup gpu` brings it)"
    files = vulkan.driver_files()
    if not files and build and build.provider == onnx_gpu.CUDA:
        return DeviceStatus(True, f"{onnx}, for .onnx; no Vulkan driver, which .tflite files need")
    if missing := _missing(files):
        return missing
    names = ", ".join(path.name for path in files)
    return DeviceStatus(True, f"{litert.version()} and {onnx}; Vulkan drivers: {names}")


def _missing(files: Sequence[Path]) -> DeviceStatus | None:
    """What stands between LiteRT and the GPU."""
    if absent := [str(path) for path in files if not path.exists()]:
        return DeviceStatus(False, f"the Vulkan driver file {absent[0]} is not there", (absent[0],))
    if not files:
        missing, place = ("a Vulkan driver",), vulkan.swiftshader()
        if place is None:
            detail = "no Vulkan driver: the GPU's own, or Debian's chromium for a software one"
            return DeviceStatus(False, detail, missing)
        detail = "no Vulkan driver is installed, but a browser's software adapter (coverage and accuracy only) is"
        return DeviceStatus(False, detail, missing, f"export {vulkan.OURS}={place}")
    if not vulkan.has_loader():
        return DeviceStatus(False, "Vulkan's loader is not installed", ("libvulkan1",), "apt-get install libvulkan1")
    if litert_gpu.library_place() is None:
        return DeviceStatus(False, f"{litert.PACKAGE} here has no {litert_gpu.LIBRARY}", (litert_gpu.LIBRARY,))
    return None


def _profile(files: Sequence[ModelFile], plan: SamplingPlan, build: onnx_gpu.OnnxBuild | None) -> LatencyReport:
    started = time.monotonic()
    drivers = vulkan.drivers()
    isolation.warm_up("gpu")
    found: list[_Found] = []
    with reporter().progress("looking at what the GPU takes", len(files)) as bar:
        for file in files:
            found.append(_examine(file, plan, drivers, build))
            bar.update(len(found), file.path.name)
    refusal = next((one.no_latency for one in found if one.no_latency), "")
    state = Conditions(None, None, None, threads=plan.threads, xnnpack=plan.xnnpack)
    sampled = None
    if not refusal:
        state = cpu.host_conditions(plan)
        sampled = _sample(files, plan, functools.partial(_time_all, files, plan, drivers, build))
    runtimes = {litert.NAME: version_of(litert.PACKAGE) or ""} if any(f.format == "tflite" for f in files) else {}
    if build:
        runtimes[onnx_runtime.NAME] = build.version
    return latency_report(
        files,
        [
            _latency(file, one, sampled.by_file[index] if sampled else (), plan, refusal)
            for index, (file, one) in enumerate(zip(files, found, strict=True))
        ],
        plan,
        device=device.name,
        hardware=", ".join(dict.fromkeys(one.hardware for one in found)),
        obtained="measured" if sampled else "emulated",
        runtimes=runtimes,
        conditions=state,
        processes=sampled.processes if sampled else len(files),
        warm_up=sampled.warm_up if sampled else 0,
        stopped=sampled.stopped if sampled else "nothing is timed on a software adapter",
        started=started,
    )


def _sample(files: Sequence[ModelFile], plan: SamplingPlan, take: Callable[[float, int], Sequence[Timed]]) -> Sampled:
    names = ", ".join(file.path.name for file in files)
    with reporter().progress(f"profiling {names} on the GPU", plan.budget_s) as bar:
        began = time.monotonic()
        sampled = Sampled(take, plan, processes=PROCESSES, deadline=began + plan.budget_s)
        sampled.take_all(bar, began)
    return sampled


# --- one file ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """What a file is like on the GPU. no_latency: why it is not timed, "" where it is."""

    runtime: str
    hardware: str
    no_latency: str
    places: Sequence[Place]
    parity: Sequence[parity.DeviceParity]
    notes: Sequence[str]


def _examine(file: ModelFile, plan: SamplingPlan, drivers: vulkan.Drivers, build: onnx_gpu.OnnxBuild | None) -> _Found:
    names = [tensor.name for tensor in file.facts.outputs]
    if file.format == "onnx":
        assert build is not None
        return _examine_onnx(file, names, plan, drivers, build)
    seen = _isolated(
        file.path.name, litert_gpu.examine, file.path, names, plan.threads, plan.xnnpack, plan.seed, drivers
    )
    adapter = [seen.adapter] if seen.adapter else []
    notes = [f"LiteRT's default precision here computes as {seen.default}"] if seen.default else []
    computed = {one.arithmetic for one in seen.parity}
    notes += [f"LiteRT does not compute this file in {name} here" for name in litert_gpu.PRECISIONS.keys() - computed]
    return _Found(
        runtime=f"{litert.version()} CompiledModel, WebGPU",
        hardware=vulkan.listed(adapter) or "an adapter that LiteRT does not name",
        no_latency=vulkan.no_latency(adapter),
        places=_places(file, seen, plan, drivers),
        parity=seen.parity,
        notes=notes,
    )


def _places(file: ModelFile, seen: litert_gpu.Seen, plan: SamplingPlan, drivers: vulkan.Drivers) -> Sequence[Place]:
    """Where each op runs; what the log leaves open is asked of LiteRT, one op at a time, in another child."""
    if seen.fully:
        return [Place("gpu")] * len(file.facts.ops)
    if seen.told is None:
        return [Place("", "LiteRT does not say where it runs")] * len(file.facts.ops)
    graph = litert_ops.read_graph(file.path)
    answers = _ask(file.path, placement.open_questions(graph, seen.told), plan, drivers)
    return placement.place(graph, seen.told, answers, seen.before)


def _ask(path: Path, ops: Sequence[int], plan: SamplingPlan, drivers: vulkan.Drivers) -> Mapping[int, str]:
    """LiteRT's answers on single ops. One that, alone, takes it down has none; the next child asks about the others."""
    found: dict[int, str | None] = {}
    with tempfile.TemporaryDirectory(prefix="edgedl-") as folder:
        answers = Path(folder) / "answers"
        while left := [op for op in ops if op not in found]:
            try:
                _isolated("", litert_gpu.ask, path, left, plan.threads, plan.xnnpack, drivers, answers)
                ended = True
            except StageError:
                ended = False
            seen = litert_gpu.read_answers(answers)
            if ended or len(seen) == len(found):
                found = seen
                break
            found = seen
    return {op: answer for op, answer in found.items() if answer is not None}


def _examine_onnx(
    file: ModelFile, names: Sequence[str], plan: SamplingPlan, drivers: vulkan.Drivers, build: onnx_gpu.OnnxBuild
) -> _Found:
    with tempfile.TemporaryDirectory(prefix="edgedl-") as folder:
        arguments = file.path, names, plan.threads, plan.seed, drivers, build, Path(folder)
        seen = _isolated(file.path.name, onnx_gpu.examine, *arguments)
    cuda = build.provider == onnx_gpu.CUDA
    notes: list[str] = []
    if seen.ran.copies:
        notes.append(f"{seen.ran.copies} copies between GPU and CPU in an inference")
    if seen.ran.untied:
        kinds = ", ".join(sorted({f"{kind} on {place}" for kind, place in seen.ran.untied}))
        notes.append(f"{len(seen.ran.untied)} kernels are of no one node of the file: {kinds}")
    return _Found(
        runtime=build.words,
        hardware="an NVIDIA GPU (CUDA)" if cuda else vulkan.listed(seen.adapters),
        no_latency="" if cuda else vulkan.no_latency(seen.adapters),
        places=seen.ran.places,
        parity=[seen.parity],
        notes=notes,
    )


def _time_all(
    files: Sequence[ModelFile],
    plan: SamplingPlan,
    drivers: vulkan.Drivers,
    build: onnx_gpu.OnnxBuild | None,
    seconds: float,
    order_seed: int,
) -> Sequence[Timed]:
    task = TimingTask(
        files=tuple((file.path, f"{file.format}/gpu") for file in files),
        threads=plan.threads,
        xnnpack=plan.xnnpack,
        seed=plan.seed,
        order_seed=order_seed,
        seconds=seconds,
    )
    return _isolated(", ".join(file.path.name for file in files), time_on_gpu, task, drivers, build)


def time_on_gpu(task: TimingTask, drivers: vulkan.Drivers, build: onnx_gpu.OnnxBuild | None) -> tuple[Timed, ...]:
    """In a child: `session.time_files` with the GPU's runtimes."""
    if build is None or build.provider != onnx_gpu.CUDA:
        vulkan.ready(drivers)
    if build:
        onnx_gpu.use(build)
    return session.time_files(task)


def _isolated(subject: str, function: Callable[..., T], *args: object) -> T:
    """In a child that sees the GPU."""
    return in_child(
        function,
        *args,
        subject=subject,
        runs_in="the GPU's runtime or driver",
        nursery="gpu",
        limits=LIMITS,
        advice="`--device cpu` tells whether the file runs at all",
    )


# --- from what was seen to the report ----------------------------------------------------------------------------


def _latency(
    file: ModelFile, found: _Found, timed: Sequence[Timed], plan: SamplingPlan, no_latency: str
) -> ModelLatency:
    ops = op_rows(file.facts.ops, found.places)
    notes = [*coverage(ops), *found.notes, *parity.words(found.parity, "the GPU")]
    if no_latency:
        notes.append(f"no latency: {no_latency}")
    return ModelLatency(
        file=file.path.name,
        sha256=sha256_of(file.path),
        size_bytes=file.path.stat().st_size,
        runtime=timed[0].runtime if timed else found.runtime,
        ops=ops,
        timing=timing_of(timed, plan.seed) if timed else None,
        parity=tuple(found.parity),
        notes=tuple(notes),
    )
