"""How much is enough: when a profiling session stops. Pure functions, for any device that takes repeated samples.

Looking at a growing sample again and again, and stopping when it looks good, finds something sooner or later even
where there is nothing. So a session is looked at no more than `LOOKS` times, at moments fixed in advance, and a
decision needs an interval of level 1 - 5 %/LOOKS: by Bonferroni's inequality at most 5 % of all sessions show, at any
of their looks, an interval that misses the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgedl.core.statistics import Blocks, Interval, quantile_intervals, quantile_ratio
from edgedl.devices.protocol import SamplingPlan

LOOKS = 5
LOOK_LEVEL = 1 - 0.05 / LOOKS
FIRST_LOOK = 8  # processes; fewer say little about how processes differ
MAX_PROCESSES = 100


def planned_looks(processes: int) -> set[int]:
    """After how many processes of a session of `processes` to look, the last one included."""
    shares = {math.ceil(processes * k / LOOKS) for k in range(1, LOOKS + 1)}
    return {max(share, min(FIRST_LOOK, processes)) for share in shares}


def enough(files: Sequence[Blocks], plan: SamplingPlan) -> bool:
    """Whether the samples of all files answer what the plan asks."""
    if plan.decide_at is not None:
        ratios = [ratio_for_decision(blocks, files[0]) for blocks in files[1:]]
        return all(is_decided(ratio, plan.decide_at) for ratio in ratios)
    medians = [quantile_intervals(blocks, (0.5,), seed=plan.seed)[0] for blocks in files]
    return all(is_within(interval, plan.median_within) for interval in medians)


def ratio_for_decision(new: Blocks, old: Blocks) -> Interval:
    """Ratio of p10, new over old, with the interval that a decision at one of the looks rests on."""
    return quantile_ratio(new, old, 0.1, level=LOOK_LEVEL)


def is_decided(ratio: Interval, limit: float) -> bool:
    """Whether the interval lies above the limit, or at or below it."""
    return ratio.low > limit or ratio.high <= limit


def is_within(interval: Interval, share: float) -> bool:
    """Whether both bounds are within ± `share` of the estimate."""
    return max(interval.high - interval.value, interval.value - interval.low) <= share * interval.value
