"""k-means of numbers: the shared values that weights are rounded to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]

ROUNDS = 50


def plus_plus(values: Values, k: int, seed: int) -> NDArray[np.float32]:
    """k starting points (Arthur and Vassilvitskii 2007, "k-means++", §2.2): each drawn with a probability that grows
    with the squared distance to the nearest one before it, the best of 2 + ln k draws taken (their greedy form)."""
    rng = np.random.default_rng(seed)
    found = [float(rng.choice(values))]
    distance = (values - found[0]) ** 2
    for _ in range(k - 1):
        total = float(distance.sum())
        if total <= 0.0:
            break
        draws = rng.choice(values, 2 + int(np.log(k)), p=distance / total)
        rests = [np.minimum(distance, (values - draw) ** 2) for draw in draws]
        best = int(np.argmin([rest.sum() for rest in rests]))
        found.append(float(draws[best]))
        distance = rests[best]
    return np.asarray(found, np.float32)


def linear(values: Values, k: int) -> NDArray[np.float32]:
    """k starting points at equal distances (Han et al. 2016, arXiv:1510.00149, §3.2, which found large weights well
    kept by it)."""
    return np.linspace(values.min(), values.max(), k, dtype=np.float32)


def lloyd(values: Values, start: Values) -> NDArray[np.float32]:
    """The starting points moved to the means of the values nearest to them until they rest (Lloyd 1982), ascending.

    Points that no value is nearest to are dropped.
    """
    ordered = np.sort(values.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centroids = np.unique(start.astype(np.float64))
    for _ in range(ROUNDS):
        edges = np.searchsorted(ordered, (centroids[1:] + centroids[:-1]) / 2.0)
        edges = np.concatenate([[0], edges, [len(ordered)]])
        counts = np.diff(edges)
        moved = (np.diff(sums[edges]) / np.maximum(counts, 1))[counts > 0]
        if len(moved) == len(centroids) and np.allclose(moved, centroids, rtol=0.0, atol=1e-9):
            break
        centroids = moved
    return np.unique(centroids.astype(np.float32))
