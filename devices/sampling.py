"""A profiling session's processes, and how much is enough: for any device that takes repeated samples.

Looking at a growing sample again and again, and stopping when it looks good, finds something sooner or later even
where there is nothing. So a session is looked at no more than `LOOKS` times, at moments fixed in advance, and a
decision needs an interval of level 1 - 5 %/LOOKS: by Bonferroni's inequality at most 5 % of all sessions show, at any
of their looks, an interval that misses the truth.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from edgedl.core.console import Progress
from edgedl.core.statistics import Blocks, Interval, quantile_intervals, quantile_ratio
from edgedl.devices.protocol import SamplingPlan
from edgedl.devices.results import blocks_of
from edgedl.devices.session import Timed

LOOKS = 5
LOOK_LEVEL = 1 - 0.05 / LOOKS
FIRST_LOOK = 8  # processes; fewer say little about how processes differ
MAX_PROCESSES = 300


class Sampled:
    """A session in progress: what has been timed, by file and then process, and why it stopped, once it has.

    take_one: starts a process that times all files for about so many seconds, in an order that a seed decides.
    processes: about as many as the budget is divided into. deadline: on the monotonic clock.
    """

    def __init__(
        self,
        take_one: Callable[[float, int], Sequence[Timed]],
        plan: SamplingPlan,
        *,
        processes: int,
        deadline: float,
    ) -> None:
        self.take_one, self.plan, self.deadline = take_one, plan, deadline
        self.seconds = 0.8 * plan.budget_s / processes
        self.by_process: list[Sequence[Timed]] = []
        self.planned, self.looks = 1, {1}
        self.stopped = ""

    @property
    def processes(self) -> int:
        """How many were started."""
        return len(self.by_process)

    @property
    def by_file(self) -> list[list[Timed]]:
        """What was timed of each file, by process."""
        return [list(entries) for entries in zip(*self.by_process, strict=True)]

    @property
    def warm_up(self) -> int:
        """The most inferences before a first sample."""
        return max(entry.warm_up for entries in self.by_process for entry in entries)

    def take_all(self, bar: Progress, started: float) -> None:
        """Take processes until it stops; the bar shows the seconds since `started` (monotonic)."""
        while not self.stopped:
            self.take()
            bar.update(time.monotonic() - started, f"{self.processes} processes")

    def take(self) -> None:
        """Time all files in one more process, and look at what there is if this is a moment to look."""
        start = time.monotonic()
        order = random.Random(f"{self.plan.seed}/{self.processes}").getrandbits(32)
        self.by_process.append(self.take_one(max(0.05, min(self.seconds, self.deadline - start)), order))
        now = time.monotonic()
        if self.processes == 1:
            self.planned = max(1, min(MAX_PROCESSES, 1 + int((self.deadline - now) / (now - start))))
            self.looks = planned_looks(self.planned)
        over = self.processes >= self.planned or self.deadline - now < 0.5 * (now - start)
        if (over or self.processes in self.looks) and enough([blocks_of(timed) for timed in self.by_file], self.plan):
            self.stopped = "precise enough"
        elif over:
            self.stopped = "budget used up" if self.planned < MAX_PROCESSES else f"{self.processes} processes timed"


def planned_looks(processes: int) -> set[int]:
    """After how many processes of a session of `processes` to look, the last one included.

    Each time after as many times more of them (a geometric series): what is plain to see is seen early.
    """
    first = min(FIRST_LOOK, processes)
    return {round(first * (processes / first) ** (k / (LOOKS - 1))) for k in range(LOOKS)}


def enough(files: Sequence[Blocks], plan: SamplingPlan) -> bool:
    """Whether the samples of all files answer what the plan asks."""
    if plan.decide_at is not None:
        olds, news = ([files[0], files[-1]], files[1:-1]) if plan.control else (files[:1], files[1:])
        return all(is_decided(ratio_for_decision(new, *olds), plan.decide_at) for new in news)
    medians = [quantile_intervals(blocks, (0.5,), seed=plan.seed)[0] for blocks in files]
    return all(is_within(interval, plan.median_within) for interval in medians)


def ratio_for_decision(new: Blocks, *olds: Blocks) -> Interval:
    """Ratio of p10, new over old (timed once or more), with the interval that a decision at a look rests on.

    From a single process it is unbounded: how processes differ is most of what a ratio varies by.
    """
    ratio = quantile_ratio(new, *olds, level=LOOK_LEVEL)
    return ratio if len(new) > 1 else replace(ratio, low=0.0, high=math.inf)


def is_decided(ratio: Interval, limit: float) -> bool:
    """Whether the interval lies above the limit, or at or below it."""
    return ratio.low > limit or ratio.high <= limit


def is_within(interval: Interval, share: float) -> bool:
    """Whether both bounds are within ± `share` of the estimate."""
    return max(interval.high - interval.value, interval.value - interval.low) <= share * interval.value
