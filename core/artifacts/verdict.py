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

    change: new against old: a ratio for latency and size, points for accuracy. interval: None where exact.
    """

    what: Literal["latency", "size", "accuracy"]
    outcome: Outcome
    sentence: str
    old: float
    new: float
    change: float
    limit: float | None
    interval: Interval | None
    unit: str
    obtained: Obtained = "measured"


@dataclass(frozen=True, kw_only=True)
class Verdict(Artifact):
    """The answer of `check`: the worst of its findings (regressed, then inconclusive, improved, pass)."""

    new: str
    old: str
    outcome: Outcome
    findings: tuple[Finding, ...]
    latency: LatencyReport | None = None
