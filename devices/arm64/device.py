"""`arm64:TARGET`, the phone in a box: the runtimes' own Arm64 kernels, run instruction by instruction in QEMU.

The counts repeat to the instruction at one thread, on any machine, however busy; a millisecond here is an estimate.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from edgedl.core.artifacts import Conditions, LatencyReport, Memory, ModelLatency, OpCost
from edgedl.core.console import reporter
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile
from edgedl.core.provenance import version_of
from edgedl.devices import litert, native, onnx_runtime
from edgedl.devices.arm64 import emulator, profiles
from edgedl.devices.arm64.counting import BOXES, Counted, Job, count
from edgedl.devices.arm64.estimate import estimated
from edgedl.devices.arm64.profiles import ArmProfile
from edgedl.devices.arm64.setup import set_up
from edgedl.devices.checks import check_available, check_formats, check_target
from edgedl.devices.native.runtime import LITERT, ONNX_RUNTIME, library, library_place
from edgedl.devices.probe import write_inputs
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.results import latency_report, op_table

HEAP = "heap in use after an inference, above the runtime's"


@dataclass(frozen=True)
class PhoneInABox:
    """The `arm64` device."""

    name: str = "arm64"
    summary: str = (
        "an Arm64 processor in QEMU: instructions of LiteRT's and ONNX Runtime's kernels (emulated), "
        "milliseconds (estimated)"
    )
    undisturbed: bool = True
    exact: bool = True

    def targets(self) -> Sequence[str]:
        """Cores and boards."""
        return profiles.names()

    def status(self) -> DeviceStatus:
        """Whether emulator, C library, runtime and compiler are there."""
        missing = emulator.missing()
        if missing:
            return DeviceStatus(
                False, f"{', '.join(missing)} not installed", tuple(missing), "edgedl devices setup arm64"
            )
        there = [box.runtime for box in BOXES.values() if library_place("aarch64", box.runtime).exists()]
        runtimes = " and ".join(f"{runtime.name} {version_of(runtime.package)}" for runtime in there)
        absent = "" if ONNX_RUNTIME in there else "; for .onnx files: edgedl devices setup arm64"
        return DeviceStatus(True, f"{runtimes} for aarch64 in {emulator.EMULATOR}{absent}")

    def set_up(self) -> list[str]:
        """Bring what is missing; see `arm64.setup`."""
        return set_up()

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Count every file's instructions on the target; nothing is timed."""
        check_available(self)
        target = check_target(self, target)
        check_formats(files, self.name, *BOXES)
        return _profile(files, plan, profiles.load(target))


device = PhoneInABox()


def _profile(files: Sequence[ModelFile], plan: SamplingPlan, profile: ArmProfile) -> LatencyReport:
    started = time.monotonic()
    boxes = [BOXES[name] for name in dict.fromkeys(file.format for file in files)]
    for box in boxes:
        library("aarch64", box.runtime)
        native.built(box.probe, "aarch64")
    native.built("guest.c", "aarch64")
    native.built("instructions.c", native.host_architecture())
    processes = 0
    with (
        reporter().progress(f"emulating {', '.join(file.path.name for file in files)}", len(files)) as bar,
        tempfile.TemporaryDirectory(prefix="edgedl-arm64-") as folder,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        models: list[ModelLatency] = []
        for file, inputs in zip(files, write_inputs(files, Path(folder), plan.seed), strict=True):
            counted = count(Job(file, inputs, Path(folder), plan, profile), pool)
            processes += counted.processes
            models.append(_model(file, counted, plan, profile))
            bar.update(len(models), file.path.name)
    return latency_report(
        files,
        models,
        plan,
        device=f"{device.name}:{profile.name}",
        hardware=f"{profile.summary}, as {emulator.emulator_version()} emulates it",
        obtained="emulated",
        runtimes={box.runtime.name: version_of(box.runtime.package) or "" for box in boxes},
        conditions=Conditions(None, None, None, threads=plan.threads, xnnpack=plan.xnnpack),
        processes=processes,
        warm_up=max(box.warm_up for box in boxes),
        stopped="counted",
        started=started,
    )


def _model(file: ModelFile, counted: Counted, plan: SamplingPlan, profile: ArmProfile) -> ModelLatency:
    instructions, kernels = counted.instructions, counted.kernels
    with_litert = BOXES[file.format].runtime is LITERT
    notes = list(kernels.notes)
    if instructions.spread:
        notes.append(
            f"{plan.threads} threads: counts of {instructions.inferences} inferences spread by {instructions.spread:,}"
        )
    if profile.is_product and not with_litert:
        notes.append("the published times behind the estimate's error are of LiteRT's kernels")
    return ModelLatency(
        file=file.path.name,
        sha256=sha256_of(file.path),
        size_bytes=file.path.stat().st_size,
        runtime=litert.runtime_words(xnnpack=plan.xnnpack) if with_litert else onnx_runtime.runtime_words(),
        ops=_with_rest(op_table(kernels, file.facts.ops, "instructions"), instructions.total),
        estimate=estimated(instructions, profile) if profile.is_product else None,
        instructions=instructions,
        memory=Memory(counted.heap_bytes, HEAP),
        outputs=counted.outputs,
        notes=tuple(notes),
    )


def _with_rest(ops: tuple[OpCost, ...], total: int) -> tuple[OpCost, ...]:
    """The ops and, as a row of its own, what the runtime spends between their kernels."""
    rest = total - sum(op.cost for op in ops)
    if not ops or rest <= 0:
        return ops
    scaled = [replace(op, share=op.cost / total) for op in ops]
    return (*scaled, OpCost(-1, "between the kernels", None, rest, "instructions", rest / total))
