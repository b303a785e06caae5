"""`arm64:TARGET`, the phone in a box: LiteRT's own Arm64 kernels, run instruction by instruction in QEMU.

The counts repeat to the instruction at one thread, on any machine, however busy; a millisecond here is an estimate.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from edgedl.core.artifacts import (
    CacheMisses,
    Conditions,
    Instructions,
    LatencyReport,
    Memory,
    ModelLatency,
    OpCost,
)
from edgedl.core.console import reporter
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile
from edgedl.core.provenance import version_of
from edgedl.devices import litert, litert_ops, native
from edgedl.devices.arm64 import emulator, profiles
from edgedl.devices.arm64.estimate import estimated
from edgedl.devices.arm64.profiles import ArmProfile
from edgedl.devices.arm64.setup import set_up
from edgedl.devices.checks import check_available, check_formats, check_target
from edgedl.devices.native.runtime import library
from edgedl.devices.probe import ProbeFile, ProbeTask, Seen, read_facts, write_inputs
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.results import latency_report, op_table

WARM_UP = 1
COUNTED_THREADED = 3
"""Inferences whose counts are compared where threads may make them differ; at one thread all are the same."""
HEAP = "heap in use after an inference, above the runtime's"


@dataclass(frozen=True)
class PhoneInABox:
    """The `arm64` device."""

    name: str = "arm64"
    summary: str = "an Arm64 processor in QEMU: instructions of LiteRT's kernels (emulated), milliseconds (estimated)"

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
        return DeviceStatus(True, f"LiteRT {version_of(litert.PACKAGE)} for aarch64 in {emulator.EMULATOR}")

    def set_up(self) -> list[str]:
        """Bring what is missing; see `arm64.setup`."""
        return set_up()

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Count every file's instructions on the target; nothing is timed."""
        check_available(self)
        target = check_target(self, target)
        check_formats(files, self.name, "tflite")
        return _profile(files, plan, profiles.load(target))


device = PhoneInABox()


def _profile(files: Sequence[ModelFile], plan: SamplingPlan, profile: ArmProfile) -> LatencyReport:
    started = time.monotonic()
    runtime = litert.runtime_words(xnnpack=plan.xnnpack)
    for source, architecture in (("probe.c", "aarch64"), ("guest.c", "aarch64"), _PLUGIN):
        native.built(source, architecture)
    with (
        reporter().progress(f"emulating {', '.join(file.path.name for file in files)}", len(files)) as bar,
        tempfile.TemporaryDirectory(prefix="edgedl-arm64-") as folder,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        models: list[ModelLatency] = []
        for file, inputs in zip(files, write_inputs(files, Path(folder), plan.seed), strict=True):
            models.append(_model(file, inputs, plan, profile, runtime, pool))
            bar.update(len(models), file.path.name)
    return latency_report(
        files,
        models,
        plan,
        device=f"{device.name}:{profile.name}",
        hardware=f"{profile.summary}, as {emulator.emulator_version()} emulates it",
        obtained="emulated",
        runtimes={litert.NAME: version_of(litert.PACKAGE) or ""},
        conditions=Conditions(None, None, None, threads=plan.threads, xnnpack=plan.xnnpack),
        processes=(2 if plan.threads == 1 else 3) * len(files),
        warm_up=WARM_UP,
        stopped="counted",
        started=started,
    )


_PLUGIN = ("instructions.c", native.host_architecture())


def _model(
    file: ModelFile, inputs: Path, plan: SamplingPlan, profile: ArmProfile, runtime: str, pool: Executor
) -> ModelLatency:
    """One file in two processes side by side: counts with cache misses, and instructions per op."""
    run = functools.partial(_run, file, inputs, plan, profile)
    counting = pool.submit(run, "count", WARM_UP + 1, caches=True)
    profiling = pool.submit(run, "ops", 0)
    seen, marks = counting.result()
    totals = [marks[-1].counts["all"] - marks[-2].counts["all"]]
    if plan.threads > 1:
        repeated = [mark.counts["all"] for mark in run("count", WARM_UP + COUNTED_THREADED)[1][WARM_UP:]]
        totals += [after - before for before, after in pairwise(repeated)]
    counted = _instructions(marks[-2].counts, marks[-1].counts, profile, totals)
    kernels = litert_ops.tie(profiling.result()[0].files[0].ops, litert_ops.read_graph(file.path))
    notes = list(kernels.notes)
    if counted.spread:
        notes.append(f"{plan.threads} threads: counts of {counted.inferences} inferences spread by {counted.spread:,}")
    return ModelLatency(
        file=file.path.name,
        sha256=sha256_of(file.path),
        size_bytes=file.path.stat().st_size,
        runtime=runtime,
        ops=_with_rest(op_table(kernels, file.facts.ops, "instructions"), counted.total),
        estimate=estimated(counted, profile) if profile.is_product else None,
        instructions=counted,
        memory=Memory(seen.files[0].heap_bytes, HEAP),
        outputs=tuple(seen.files[0].outputs),
        notes=tuple(notes),
    )


def _with_rest(ops: tuple[OpCost, ...], total: int) -> tuple[OpCost, ...]:
    """The ops and, as a row of its own, what the runtime spends between their kernels."""
    rest = total - sum(op.cost for op in ops)
    if rest <= 0:
        return ops
    scaled = [replace(op, share=op.cost / total) for op in ops]
    return (*scaled, OpCost(-1, "between the kernels", None, rest, "instructions", rest / total))


def _run(
    file: ModelFile,
    inputs: Path,
    plan: SamplingPlan,
    profile: ArmProfile,
    task: Literal["count", "ops"],
    count: int,
    *,
    caches: bool = False,
) -> tuple[Seen, list[emulator.Mark]]:
    wanted = ProbeTask(
        task,
        [ProbeFile(str(file.path.absolute()), str(inputs))],
        count,
        threads=plan.threads,
        xnnpack=plan.xnnpack,
    )
    command = wanted.command(str(native.built("probe.c", "aarch64")), str(library("aarch64")))
    done = emulator.run_emulated(profile, command, clock=task == "ops", caches=caches)
    return read_facts(done.lines, [file.path.name], said=done.said, ended=done.ended), done.marks


def _instructions(
    before: Mapping[str, int], after: Mapping[str, int], profile: ArmProfile, totals: Sequence[int]
) -> Instructions:
    """What an inference added to the counts before it. totals: of all inferences counted, for the spread."""
    added = {name: after[name] - before[name] for name in after}
    return Instructions(
        total=added["all"],
        **{name: added[name] for name in ("load", "store", "branch", "simd", "dot", "multiply_add", "other")},
        caches=tuple(
            CacheMisses(level, cache.kib, cache.ways, added[f"l{level}_misses"])
            for level, cache in enumerate(profile.caches, 1)
        ),
        inferences=len(totals),
        spread=max(totals) - min(totals),
    )
