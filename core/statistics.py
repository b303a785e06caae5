"""Intervals for what is measured: proportions, paired differences, quantiles and their ratios. Pure functions.

All intervals are two-sided; the level is 95 % unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its confidence interval, in the estimate's unit."""

    value: float
    low: float
    high: float
    level: float = LEVEL

    def scaled(self, factor: float) -> Interval:
        """The same interval in another unit; `factor` is positive."""
        return Interval(self.value * factor, self.low * factor, self.high * factor, self.level)

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def exact(value: float) -> Interval:
    """A figure without spread: counted, or computed."""
    return Interval(value, value, value)


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927, JASA 22, 209–212).

    Never leaves [0, 1] and holds its level for proportions near 1, where accuracies live. Raises ValueError for n < 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"need 0 <= successes <= n and n >= 1, got {successes} of {n}")
    z = _normal_quantile(0.5 + level / 2)
    p = successes / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, min(p, max(0.0, center - half)), max(p, min(1.0, center + half)), level)


def paired_difference(
    before: Sequence[bool] | NDArray[np.bool_],
    after: Sequence[bool] | NDArray[np.bool_],
    level: float = LEVEL,
) -> Interval:
    """Difference of two proportions on the same examples, `before − after`, so that a loss is positive.

    Newcombe's square-and-add interval with the phi correction (Newcombe 1998, Statistics in Medicine 17, 2635–2650,
    method 10). before, after: right or wrong per example, same length n ≥ 1.
    """
    pairs = list(zip(before, after, strict=True))
    n = len(pairs)
    both = sum(bool(b) and bool(a) for b, a in pairs)
    only_before = sum(bool(b) and not a for b, a in pairs)
    only_after = sum(bool(a) and not b for b, a in pairs)
    neither = n - both - only_before - only_after
    p1, p2 = wilson(both + only_before, n, level), wilson(both + only_after, n, level)
    difference = (only_before - only_after) / n
    rows = (both + only_before) * (only_after + neither) * (both + only_after) * (only_before + neither)
    if rows == 0:
        phi = 0.0
    else:
        determinant = both * neither - only_before * only_after
        if determinant > 0:  # continuity correction of method 10
            determinant = max(determinant - n / 2, 0.0)
        phi = determinant / math.sqrt(rows)
    dl1, du1 = p1.value - p1.low, p1.high - p1.value
    dl2, du2 = p2.value - p2.low, p2.high - p2.value
    below = math.sqrt(max(0.0, dl1**2 - 2 * phi * dl1 * du2 + du2**2))
    above = math.sqrt(max(0.0, du1**2 - 2 * phi * du1 * dl2 + dl2**2))
    return Interval(difference, max(-1.0, difference - below), min(1.0, difference + above), level)


def bootstrap_mean(values: Sequence[float] | NDArray[Any], *, seed: int = 0, level: float = LEVEL) -> Interval:
    """Mean with a percentile bootstrap interval over the values (Efron 1979, Annals of Statistics 7, 1–26)."""
    import numpy as np

    data = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    draws = [float(data[rng.integers(0, data.size, data.size)].mean()) for _ in range(1000)]
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(data.mean()), float(low), float(high), level)


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], n: int, *, draws: int = 500, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Any statistic of n examples with a percentile bootstrap interval (Efron & Tibshirani 1993, §13.3).

    statistic: from the positions of the examples drawn, shape (n,), to its value.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    drawn = [statistic(rng.integers(0, n, n)) for _ in range(draws)]
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    value = statistic(np.arange(n))
    return Interval(value, min(value, float(low)), max(value, float(high)), level)


Blocks = Sequence[Sequence[Sequence[float]]]
"""Samples by process, then by block."""


def quantile_intervals(
    blocks: Blocks, quantiles: Sequence[float], *, seed: int = 0, draws: int = 1000, level: float = LEVEL
) -> tuple[Interval, ...]:
    """Quantiles of the pooled samples, each with an interval that knows that processes differ.

    Hierarchical bootstrap (Davison & Hinkley 1997, Bootstrap Methods, §3.8): draw processes with replacement, then
    blocks within each; between-process variance is the larger part of a latency's variance. Percentile intervals,
    expanded for few processes (Hesterberg 2015, The American Statistician 69, §3.3): taken at Φ(-t √(n/(n-1))), since
    resampling n processes understates their variance by (n - 1)/n and knows no t-distribution.
    """
    import numpy as np

    pooled = [sample for process in blocks for block in process for sample in block]
    n = len(blocks) if len(blocks) > 1 else len(blocks[0])
    tail = (1 - level) / 2
    if n > 1:
        tail = _normal_tail(_student_quantile(tail, n - 1) * math.sqrt(n / (n - 1)))
    intervals: list[Interval] = []
    for q, drawn in zip(quantiles, _redrawn_quantiles(blocks, quantiles, seed, draws), strict=True):
        value = _quantile(pooled, q)
        low, high = np.quantile(drawn, [tail, 1 - tail])
        intervals.append(Interval(value, min(value, float(low)), max(value, float(high)), level))
    return tuple(intervals)


def _redrawn_quantiles(blocks: Blocks, quantiles: Sequence[float], seed: int, draws: int) -> list[NDArray[np.float64]]:
    """Each quantile in `draws` resamples; shape (draws,) a quantile.

    A resample only changes how often each block counts. So the samples are sorted once into groups of neighbours, and
    a draw's quantile is the group where the cumulated weight passes the share q.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    counts = [len(process) for process in blocks]
    drawn = rng.multinomial(len(counts), [1 / len(counts)] * len(counts), draws)  # how often each process
    times = [rng.multinomial(drawn[:, i] * count, [1 / count] * count) for i, count in enumerate(counts)]
    values, members = _grouped([block for process in blocks for block in process])
    weight = np.cumsum(np.hstack(times).astype(np.float32) @ members, axis=1)
    return [values[np.argmax(weight >= q * weight[:, -1:], axis=1)] for q in quantiles]


def _grouped(blocks: Sequence[Sequence[float]]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Groups of neighbouring samples from small to large: their largest, and how many each block has in each.

    Shapes (groups,) and (blocks, groups). Up to 1,000 samples, a group is one sample.
    """
    import numpy as np

    samples = np.concatenate([np.asarray(block, dtype=np.float64) for block in blocks])
    groups = min(1000, samples.size)
    ends = np.arange(1, groups + 1) * samples.size // groups
    order = np.argsort(samples, kind="stable")
    group = np.empty(samples.size, dtype=np.int64)
    group[order] = np.searchsorted(ends, np.arange(samples.size), side="right")
    block = np.repeat(np.arange(len(blocks)), [len(part) for part in blocks])
    members = np.bincount(block * groups + group, minlength=len(blocks) * groups).reshape(len(blocks), groups)
    return samples[order][ends - 1], members.astype(np.float32)


def quantile_ratio(new: Blocks, *olds: Blocks, q: float = 0.1, level: float = LEVEL) -> Interval:
    """Typical ratio new/old of the q-quantiles of blocks that were timed next to each other.

    new, olds: the same processes and blocks in the same order; where the old file was timed more than once, each round
    gives a ratio to each. (Not one to their mean: under a load, times are skewed, and the median of a difference is
    right only where both sides are alike.) What slows the machine for a while slows all blocks of a round, so it falls
    out of their ratio. A process counts as one observation, the median of its rounds' log ratios; the interval is that
    of the mean over processes, trimmed so that a process under a passing load has no say.

    On an idle and on a busy machine this was three to ten times narrower than bootstrapping the ratio of the pooled
    quantiles. Raises ValueError when they do not have the same processes and blocks.
    """
    if any([len(process) for process in new] != [len(process) for process in old] for old in olds):
        raise ValueError("new and old must come from the same interleaved session")
    logs = [
        [_log_ratio(block, old, q) for block, *again in zip(*processes, strict=True) for old in again]
        for processes in zip(new, *olds, strict=True)
    ]
    typical = trimmed_mean(logs[0] if len(logs) == 1 else [median(process) for process in logs], level=level)
    return Interval(math.exp(typical.value), math.exp(typical.low), math.exp(typical.high), level)


def _log_ratio(new: Sequence[float], old: Sequence[float], q: float) -> float:
    return math.log(_quantile(new, q) / _quantile(old, q))


def _quantile(values: Sequence[float], q: float) -> float:
    """The smallest value with a share of at least q of the values at or below it."""
    return sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]


def trimmed_mean(values: Sequence[float], *, trim: float = 0.2, level: float = LEVEL) -> Interval:
    """Mean without the `trim` share of smallest and of largest values, with its t-interval.

    Tukey & McLaughlin 1963 (Sankhyā A 25, 331–352): the standard error is that of the winsorized values, with as many
    degrees of freedom as values are left, less one. The interval of a single value is unbounded.
    """
    ordered = sorted(values)
    n = len(ordered)
    cut = math.floor(trim * n)
    kept = ordered[cut : n - cut]
    value = fmean(kept)
    if len(kept) < 2:
        return Interval(value, -math.inf, math.inf, level)
    winsorized = [kept[0]] * cut + kept + [kept[-1]] * cut
    error = stdev(winsorized) / ((len(kept) / n) * math.sqrt(n))
    half = -_student_quantile((1 - level) / 2, len(kept) - 1) * error
    return Interval(value, value - half, value + half, level)


def independent_difference(before: Interval, after: Interval) -> Interval:
    """`before - after` of two estimates from different examples; both intervals of the same level.

    Square-and-add (Zou & Donner 2008, Statistics in Medicine 27, 1693–1702). For two Wilson intervals this is
    Newcombe's method 10 for unpaired proportions (1998, Statistics in Medicine 17, 873–890).
    """
    difference = before.value - after.value
    below = math.hypot(before.value - before.low, after.high - after.value)
    above = math.hypot(before.high - before.value, after.value - after.low)
    return Interval(difference, difference - below, difference + above, before.level)


def _normal_quantile(p: float) -> float:
    return NormalDist().inv_cdf(p)


def _normal_tail(z: float) -> float:
    return NormalDist().cdf(z)


def _student_quantile(p: float, degrees: int) -> float:
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    return float(stdtrit(degrees, p))
