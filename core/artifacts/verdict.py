"""What checking leads to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgedl.core.artifacts.base import Artifact, Obtained
from edgedl.core.artifacts.latency import LatencyReport
from edgedl.core.statistics import Interval

Outcome = Literal["pass", "regressed", "improved", "inconclusive"]


@dataclass(frozen=True)
class Finding:
    """One question of a check: what was compared, against which limit, and the answer.

    change: new against old: a ratio for latency, size, memory and MACs, how many more for ops, points for accuracy, a
    share of the largest output for the outputs. interval: None where exact.
    """

    what: Literal["latency", "size", "memory", "MACs", "ops", "boundaries", "CPU ops", "accuracy", "outputs"]
    outcome: Outcome
    sentence: str
    old: float
    new: float
    change: float
    limit: float | None
    interval: Interval | None
    unit: str
    obtained: Obtained = "measured"


@dataclass(frozen=True)
class Figures:
    """What a file is on a device, in the figures that a check has limits for; all but times and memory are exact.

    What the device does not tell, or does not have, is None.

    macs: of one example. boundaries: ops that only change between integers and floats. cpu_ops: ops on the CPU, of a
    device that has an accelerator beside it. memory: what the bytes were counted of. instructions: of an inference.
    """

    size_bytes: int
    macs: int
    ops: int
    boundaries: int
    cpu_ops: int | None = None
    memory_bytes: int | None = None
    memory: str = ""
    instructions: int | None = None
    obtained: Obtained = "measured"


@dataclass(frozen=True)
class OpChange:
    """One op in which two files differ.

    kind: in the new file alone, in the old one alone, or in both. old_index, new_index: in the files. old_cost,
    new_cost: in `unit` for one inference, None where the op is not there or the device told nothing of it. differs:
    what is not the same, besides the cost. macs, weight_bytes: how many more than before.
    """

    kind: Literal["new", "gone", "changed"]
    op: str
    layer: str | None
    old_index: int | None
    new_index: int | None
    old_cost: float | None
    new_cost: float | None
    unit: Literal["us", "instructions", "cycles", "MACs"] | None
    differs: tuple[str, ...]
    macs: int
    weight_bytes: int
    obtained: Obtained

    @property
    def added(self) -> float:
        """What it costs more than before; 0 where no cost is known."""
        return (self.new_cost or 0.0) - (self.old_cost or 0.0)


@dataclass(frozen=True)
class NoiseFloor:
    """What a session sees where there is nothing to see: the old file timed against itself.

    itself: its p10 over its own, with the interval of a decision. visible: the smallest slowdown or speed-up (a share)
    that a session as this one finds nine times out of ten.
    """

    itself: Interval
    visible: float


@dataclass(frozen=True, kw_only=True)
class Verdict(Artifact):
    """The answer of `check`: the worst of its findings (regressed, then inconclusive, improved, pass).

    device: on which; "" where nothing ran. latency: of (old, new), and where times were measured of old once more.
    noise: where they were. explanation: the ops in which the files differ, where a figure regressed or improved; the
    largest difference first. op_counts: "+2 DEQUANTIZE", where there are more or fewer of a kind. figures: of the new
    file. notes: what the old file is, and anything else to know.
    """

    new: str
    old: str
    outcome: Outcome
    findings: tuple[Finding, ...]
    device: str = ""
    latency: LatencyReport | None = None
    noise: NoiseFloor | None = None
    explanation: tuple[OpChange, ...] = ()
    op_counts: str = ""
    figures: Figures | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checked:
    """One model on one device: a verdict, or the failure that kept it from one. file: the new one."""

    model: str
    device: str
    file: str
    verdict: Verdict | None
    failure: str
    exit_code: int


@dataclass(frozen=True)
class Gate:
    """One or more models on one or more devices."""

    checked: tuple[Checked, ...]
