"""What QEMU counts of one file: a TFLite file in LiteRT, an ONNX file in ONNX Runtime.

Costs per op come from LiteRT's profiler under the instruction clock. ONNX Runtime's own profiler spends more on a node
than a small node does, so it only tells which nodes ran, in which order; the counter tells the instructions from one
node to the next (see `native/probe_onnx.c`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from edgedl.core.artifacts import CacheMisses, Instructions
from edgedl.core.model_facts import ModelFile
from edgedl.devices import litert_ops, native, onnx_runtime
from edgedl.devices.arm64 import emulator
from edgedl.devices.arm64.profiles import ArmProfile
from edgedl.devices.native.runtime import LITERT, ONNX_RUNTIME, Library, library
from edgedl.devices.probe import ProbeFile, ProbeTask, Seen, SeenFile, read_facts
from edgedl.devices.protocol import SamplingPlan
from edgedl.devices.session import OpTimes

COUNTED_THREADED = 3
"""Inferences whose counts are compared where threads may make them differ; at one thread all are the same."""


@dataclass(frozen=True)
class Box:
    """What runs files of one format. warm_up: inferences after which one is like the next."""

    runtime: Library
    probe: str
    warm_up: int


BOXES = {
    "tflite": Box(LITERT, "probe.c", warm_up=1),
    "onnx": Box(ONNX_RUNTIME, "probe_onnx.c", warm_up=2),  # the second has learnt the memory it takes from the first
}


@dataclass(frozen=True)
class Counted:
    """One file's counts. kernels: in instructions. processes: how many told them."""

    instructions: Instructions
    kernels: OpTimes
    heap_bytes: int
    outputs: tuple[str, ...]
    processes: int


@dataclass(frozen=True)
class Job:
    """One file to count. inputs: the file with its inputs' bytes. folder: where folders for the probe are made."""

    file: ModelFile
    inputs: Path
    folder: Path
    plan: SamplingPlan
    profile: ArmProfile

    @property
    def box(self) -> Box:
        """What runs it."""
        return BOXES[self.file.format]

    def run(
        self, task: Literal["count", "ops"], count: int, *, caches: bool = False
    ) -> tuple[Seen, list[emulator.Mark], Path]:
        """One process of the probe, and the folder it ran in. Raises ModelError where the runtime refuses the file."""
        files = {
            "probe": native.built(self.box.probe, "aarch64"),
            "library": library("aarch64", self.box.runtime),
            "model": self.file.path,
            "inputs": self.inputs,
        }
        if self.box.runtime is ONNX_RUNTIME:
            files = {name: self.file.path.parent / name for name in onnx_runtime.external_files(self.file.path)} | files
        wanted = ProbeTask(
            task,
            [ProbeFile("model", "inputs")],
            count,
            threads=self.plan.threads,
            xnnpack=self.plan.xnnpack,
            profiling="graph" if self.box.runtime is ONNX_RUNTIME else "1",
        )
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        command = wanted.command("./probe", "./library")
        done = emulator.run_emulated(self.profile, command, files, folder, caches=caches)
        names, runtime = [self.file.path.name], self.box.runtime.name
        return read_facts(done.lines, names, said=done.said, ended=done.ended, runtime=runtime), done.marks, folder

    def kernels(self, seen: SeenFile, folder: Path, marks: Sequence[emulator.Mark]) -> OpTimes:
        """Costs of the last inference's kernels. seen: by the profiler, in its folder; marks: of those counted."""
        if self.box.runtime is LITERT:
            return litert_ops.tie(seen.ops, litert_ops.read_graph(self.file.path))
        return node_costs(
            sorted(filter(onnx_runtime.is_node, seen.profile), key=lambda event: event["ts"]),
            [*marks[-1].steps, marks[-1].counts["all"]],
            onnx_runtime.read_graph(self.file.path),
            onnx_runtime.read_graph(folder / "graph-0.onnx"),
        )


def node_costs(
    events: Sequence[Mapping[str, object]],
    steps: Sequence[int],
    original: Sequence[onnx_runtime.Node],
    optimized: Sequence[onnx_runtime.Node],
) -> OpTimes:
    """Instructions of each executed node, from its beginning to the next one's; the last one's to the end.

    events: ONNX Runtime's, of the nodes of one inference in order. steps: instructions in all when each node began,
    and at the end.
    """
    if len(events) != len(steps) - 1:
        note = f"no instructions per node: {len(events)} nodes ran, and the executor took {len(steps) - 1} steps"
        return OpTimes((), (note,))
    costs = [
        (*onnx_runtime.name_and_op(event), float(b - a)) for event, (a, b) in zip(events, pairwise(steps), strict=True)
    ]
    return onnx_runtime.owned(costs, original, optimized)


def count(job: Job, pool: Executor) -> Counted:
    """Count one file in two processes side by side: instructions with cache misses, and what the profiler tells."""
    warm_up = job.box.warm_up
    counting = pool.submit(job.run, "count", warm_up + 1, caches=True)
    profiling = pool.submit(job.run, "ops", 0)
    seen, marks, _ = counting.result()
    totals = [marks[-1].counts["all"] - marks[-2].counts["all"]]
    if job.plan.threads > 1:
        repeated = [mark.counts["all"] for mark in job.run("count", warm_up + COUNTED_THREADED)[1][warm_up:]]
        totals += [after - before for before, after in pairwise(repeated)]
    profiled, _, folder = profiling.result()
    return Counted(
        _instructions(marks[-2].counts, marks[-1].counts, job.profile, totals),
        job.kernels(profiled.files[0], folder, marks),
        seen.files[0].heap_bytes,
        tuple(seen.files[0].outputs),
        2 if job.plan.threads == 1 else 3,
    )


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
