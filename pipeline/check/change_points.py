"""Where the level of a series changes: E-divisive with means for what is noisy, a plain rule for what is counted.

Matteson & James 2014, "A Nonparametric Approach for Multiple Change Point Analysis of Multivariate Data" (JASA 109,
334–345), as Daly et al. 2020 (ICPE, 67–75) use it on a build server's timings: each part that a change point leaves is
searched and tested on its own. Nothing is assumed of the noise but that runs are independent; a machine that drifts is
a change to this test.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_SIZE, PERMUTATIONS, SIGNIFICANCE = 3, 199, 0.01
"""Runs that a level has at least; orders drawn for a test; the chance that a series without change shows one."""
_AT_ONCE = 2**17  # entries of the matrices of distances that are worked on together: they stay in the cache


@dataclass(frozen=True)
class ChangePoint:
    """A run from which on the values are others.

    index: of the first run of the new level. before, after: medians of the levels on both sides, in the values' unit.
    p_value: how often a series in random order shows as much; None where every difference is a change (counted).
    what: "level"; "spread" where the level stays and the values scatter more, or less.
    """

    index: int
    before: float
    after: float
    p_value: float | None
    what: Literal["level", "spread"] = "level"

    @property
    def change(self) -> float | None:
        """After over before, less 1; None where before is 0."""
        return self.after / self.before - 1 if self.before else None


def exact_changes(values: Sequence[float]) -> tuple[ChangePoint, ...]:
    """The change points of a figure without noise: each value that is not the one before."""
    pairs = enumerate(pairwise(values), start=1)
    return tuple(ChangePoint(i, before, after, None) for i, (before, after) in pairs if before != after)


def change_points(
    values: Sequence[float] | NDArray[np.float64],
    *,
    min_size: int = MIN_SIZE,
    permutations: int = PERMUTATIONS,
    significance: float = SIGNIFICANCE,
    alpha: float = 1.0,
    seed: int = 0,
) -> tuple[ChangePoint, ...]:
    """The change points of a noisy series, in order; none in a series that is too short to tell (see `fewest`).

    values: finite, in any unit. min_size: values that a level has at least, 2 or more. alpha: the exponent of the
    distances, in (0, 2). Time and memory grow with the square of the length. Raises ValueError for other arguments.
    """
    import numpy as np

    series = np.asarray(values, dtype=np.float64)
    if not np.isfinite(series).all():
        raise ValueError("need finite values")
    if min_size < 2 or not 0 < alpha < 2 or not 1 / (permutations + 1) <= significance < 1:
        raise ValueError(f"cannot test with {min_size=}, {alpha=}, {permutations=}, {significance=}")
    p_values: dict[int, float] = {}
    parts = [(0, series.size)]
    while parts:
        start, stop = parts.pop()
        if stop - start < max(2 * min_size, fewest(significance)):
            continue
        test = _Test(series[start:stop], min_size, alpha)
        p_value = test.p_value(permutations, significance, np.random.default_rng((seed, start, stop)))
        if p_value <= significance:
            cut = start + test.cut
            p_values[cut] = p_value
            parts += [(start, cut), (cut, stop)]
    return _described(series.tolist(), sorted(p_values.items()))


def fewest(significance: float = SIGNIFICANCE) -> int:
    """The fewest values whose order can be so significant: with n of them, a step in the middle and its mirror image
    are 2 of C(n, n/2) ways to choose which come first."""
    n = 2
    while 2 / math.comb(n, n // 2) > significance:
        n += 1
    return n


class _Test:
    """The best place to part a series in two, and whether it means anything. series: shape (n,)."""

    def __init__(self, series: NDArray[np.float64], min_size: int, alpha: float) -> None:
        self.series, self.min_size, self.alpha = series, min_size, alpha
        self.weights = _weights(series.size, min_size)
        found = self._divergences(series)
        self.most = float(found.max())
        self.cut = min_size + int(found.max(axis=1).argmax())

    def p_value(self, permutations: int, significance: float, rng: np.random.Generator) -> float:
        """Matteson & James, §2.4: the share of random orders whose largest divergence is as large, this one included.

        Once it must be larger than `significance`, no more orders are drawn, and 1 is the answer.
        """
        import numpy as np

        if self.most <= 0:
            return 1.0
        n, drawn, as_large = self.series.size, 0, 0
        while drawn < permutations:
            count = min(permutations - drawn, max(1, _AT_ONCE // n**2))
            orders = rng.permuted(np.broadcast_to(self.series, (count, n)), axis=1)
            largest = self._divergences(orders).max(axis=(-2, -1))
            as_large += int((largest >= self.most * (1 - 1e-9)).sum())
            drawn += count
            if 1 + as_large > significance * (permutations + 1):
                return 1.0
        return (1 + as_large) / (permutations + 1)

    def _divergences(self, series: NDArray[np.float64]) -> NDArray[np.float64]:
        """Q̂ of the first τ values against those from there to κ, for every τ and κ: what (7) maximises.

        series: (…, n); returns (…, τ, κ), with τ from min_size to n − min_size and κ from 2 min_size to n.
        """
        import numpy as np

        n, size = series.shape[-1], self.min_size
        sums = series[..., :, None] - series[..., None, :]
        np.abs(sums, out=sums)
        if self.alpha != 1:
            np.power(sums, self.alpha, out=sums)
        np.cumsum(sums, axis=-1, out=sums)
        np.cumsum(sums, axis=-2, out=sums)  # now [i, j] is the sum of |x − y|^α over the first i + 1 and j + 1 values
        squares = np.einsum("...ii->...i", sums)  # each pair twice
        of_both, of_tau, of_kappa = self.weights
        found = of_both * sums[..., size - 1 : n - size, 2 * size - 1 :]
        found -= of_tau * squares[..., size - 1 : n - size, None]
        found -= of_kappa * squares[..., None, 2 * size - 1 :]
        return found


def _weights(n: int, min_size: int) -> tuple[NDArray[np.float64], ...]:
    """Q̂ as a weighted sum of S(τ, κ), S(τ, τ) and S(κ, κ), with S(a, b) the sum over the first a and b values.

    Q̂ = mn/(m+n) Ê (6) of n = τ values and the m = κ − τ after them, with (5)
    Ê = 2/(mn) Σ|X − Y|^α − 2/(n(n−1)) Σ|X − X'|^α − 2/(m(m−1)) Σ|Y − Y'|^α, whose sums over pairs are
    S(τ, κ) − S(τ, τ), S(τ, τ)/2 and (S(κ, κ) − 2 S(τ, κ) + S(τ, τ))/2. All 0 where fewer than min_size are left.
    """
    import numpy as np

    tau = np.arange(min_size, n - min_size + 1, dtype=np.float64)[:, None]
    kappa = np.arange(2 * min_size, n + 1, dtype=np.float64)[None, :]
    possible = kappa - tau >= min_size
    m = np.where(possible, kappa - tau, min_size)
    across, left, right = 2 / kappa, m / (kappa * (tau - 1)), tau / (kappa * (m - 1))
    return tuple(np.where(possible, one, 0.0) for one in (across + 2 * right, across + left + right, right))


def _described(values: Sequence[float], cuts: Iterable[tuple[int, float]]) -> tuple[ChangePoint, ...]:
    """The change points at these places, each with its p-value."""
    found = list(cuts)
    bounds = [0, *(cut for cut, _ in found), len(values)]
    levels = [values[start:stop] for start, stop in pairwise(bounds)]
    return tuple(
        ChangePoint(cut, median(one), median(other), p_value, "level" if _apart(one, other) else "spread")
        for (cut, p_value), (one, other) in zip(found, pairwise(levels), strict=True)
    )


def _apart(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two medians are further apart than three standard errors: for normal noise, σ √(π / 2n) each, with σ from
    the median absolute deviation."""
    variances = [math.pi / 2 * _deviation(values) ** 2 / len(values) for values in (one, other)]
    return abs(median(one) - median(other)) > 3 * math.sqrt(sum(variances))


def _deviation(values: Sequence[float]) -> float:
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)
