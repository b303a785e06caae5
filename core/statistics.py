"""Intervals for what is measured: proportions, paired differences, quantiles and their ratios. Pure functions.

All intervals are two-sided; the level is 95 % unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


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


Blocks = Sequence[Sequence[Sequence[float]]]
"""Samples by process, then by block."""


def quantile_interval(blocks: Blocks, q: float, *, seed: int = 0, draws: int = 500, level: float = LEVEL) -> Interval:
    """The q-quantile of the pooled samples, with an interval that knows that processes differ.

    Hierarchical bootstrap (Davison & Hinkley 1997, Bootstrap Methods, §3.8): draw processes with replacement, then
    blocks within each; between-process variance is the larger part of a latency's variance.
    """
    return _bootstrap([blocks], lambda pooled: _quantile(pooled[0], q), seed, draws, level)


def quantile_ratio(
    new: Blocks, old: Blocks, q: float = 0.1, *, seed: int = 0, draws: int = 500, level: float = LEVEL
) -> Interval:
    """Ratio new/old of q-quantiles of two interleaved series, with a paired hierarchical bootstrap interval.

    new, old: the same processes and blocks in the same order; a draw takes both sides of a block together, so that
    what slowed both does not count.
    """
    shape = [len(process) for process in new]
    if shape != [len(process) for process in old]:
        raise ValueError("new and old must come from the same interleaved session")
    return _bootstrap([new, old], lambda pooled: _quantile(pooled[0], q) / _quantile(pooled[1], q), seed, draws, level)


def _bootstrap(
    series: Sequence[Blocks],
    statistic: Callable[[Sequence[NDArray[np.float64]]], float],
    seed: int,
    draws: int,
    level: float,
) -> Interval:
    import numpy as np

    sides: list[list[list[NDArray[np.float64]]]] = [
        [[np.asarray(block, dtype=np.float64) for block in process] for process in blocks] for blocks in series
    ]
    pooled = [np.concatenate([b for process in one for b in process]) for one in sides]
    rng = np.random.default_rng(seed)
    processes = len(sides[0])
    found = np.empty(draws)
    for draw in range(draws):
        chosen: list[list[NDArray[np.float64]]] = [[] for _ in sides]
        for process in rng.integers(0, processes, processes):
            count = len(sides[0][process])
            for block in rng.integers(0, count, count):
                for side, one in enumerate(sides):
                    chosen[side].append(one[process][block])
        found[draw] = statistic([np.concatenate(side) for side in chosen])
    low, high = np.quantile(found, [0.5 - level / 2, 0.5 + level / 2])
    value = statistic(pooled)
    return Interval(value, min(value, float(low)), max(value, float(high)), level)


def _quantile(values: NDArray[np.float64], q: float) -> float:
    import numpy as np

    return float(np.quantile(values, q))


def _normal_quantile(p: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(p)
