"""A device to copy. It is not in the registry; its test keeps it working.

This one only estimates, as the compiler of an accelerator does: nothing runs, and a figure comes from counting. A
device that measures fills in the same report from samples; `cpu.py` shows how to take them in several processes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from edgedl.core.artifacts import Estimate, LatencyReport, ModelLatency, OpCost
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile
from edgedl.core.statistics import Interval
from edgedl.devices.checks import check_target
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.results import latency_report

MACS_PER_US = {"small-npu": 64e3, "large-npu": 512e3}  # 1. what the targets of this device are like


@dataclass(frozen=True)
class TemplateDevice:
    """2. The words a user sees. The name is the one in the registry."""

    name: str = "template"
    summary: str = "an accelerator that does nothing but multiply (estimated from counts)"
    undisturbed: bool = True
    exact: bool = True

    def targets(self) -> Sequence[str]:
        """3. What may stand behind the colon."""
        return tuple(MACS_PER_US)

    def status(self) -> DeviceStatus:
        """4. Look for the tool, the board or the phone; name what is missing and the command that brings it."""
        return DeviceStatus(True, f"counts multiply–accumulates for {', '.join(MACS_PER_US)}")

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """5. Run or estimate every file. Errors name the file, the reason and what would work."""
        target = check_target(self, target)
        started = time.monotonic()
        models = tuple(_estimate(file, MACS_PER_US[target]) for file in files)
        return latency_report(
            files,
            models,
            plan,
            device=f"{self.name}:{target}",
            hardware=f"{MACS_PER_US[target]:g} MACs per µs",
            obtained="estimated",  # 6. never more than it is: "measured" ran there, "emulated" ran elsewhere
            stopped="nothing is sampled",
            started=started,
        )


device = TemplateDevice()


def _estimate(file: ModelFile, macs_per_us: float) -> ModelLatency:
    total = file.facts.macs or 1
    latency_us = total / macs_per_us
    return ModelLatency(  # 7. what this device cannot tell (samples, instructions, memory, energy) stays None
        file=file.path.name,
        sha256=sha256_of(file.path),
        size_bytes=file.facts.size_bytes,
        runtime="none",
        estimate=Estimate(Interval(latency_us, latency_us, latency_us), "multiply–accumulates alone; error unknown"),
        ops=tuple(
            OpCost(op.index, op.op, op.layer, op.macs / macs_per_us, "us", op.macs / total, runs_on="npu")
            for op in file.facts.ops
        ),
    )
