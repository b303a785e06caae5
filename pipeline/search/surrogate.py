"""The next chain, by what its parts did in the chains before it.

The logarithm of each objective is taken for a sum of effects, one for each option of a chain: Bayesian linear
regression (Bishop 2006, "Pattern recognition and machine learning", section 3.3). One draw from its posterior foretells
all chains that are left (Thompson sampling; for several objectives Bradford et al. 2018, "Efficient multiobjective
optimization employing Gaussian processes, spectral sampling and a genetic algorithm", J. Global Optim. 71); the chain
whose foretold point adds most hypervolume is next. Costs of a chain multiply, so little is left unexplained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.pipeline.search.front import hypervolume
from edgedl.pipeline.search.space import Point

Known = Sequence[float | None]
"""A chain's objectives, smaller is better; None: not found out."""

MOST = 1500
"""Of a larger space so many chains, drawn at random, are foretold."""
_PRIOR, _SPREAD = 0.1, 0.3
_LEAST_NOISE = 0.05
_SHIFT = 0.01


def propose(
    known: Mapping[str, tuple[Point, Known]],
    left: Mapping[str, Point],
    references: Sequence[Sequence[float]],
    seed: int,
) -> str:
    """One of the chains `left`. known: what was tried, with its point. references: up to where a point is of use,
    the strictest first. The same arguments, the same chain."""
    rng = np.random.default_rng(seed)
    names = sorted(left) if len(left) <= MOST else sorted(rng.choice(sorted(left), MOST, replace=False).tolist())
    foretold = _foretold(known, [left[name] for name in names], rng)
    if foretold is not None:
        front = [values for _, values in known.values() if None not in values]
        for reference in references:
            inside = [i for i in _undominated(foretold) if (foretold[i] < reference).all()]
            before = hypervolume(front, reference)  # pyright: ignore[reportArgumentType]
            gains = [hypervolume([*front, foretold[i].tolist()], reference) - before for i in inside]  # pyright: ignore
            if gains and max(gains) > 0.0:
                return names[inside[int(np.argmax(gains))]]
    return names[int(rng.integers(len(names)))]


def _foretold(
    known: Mapping[str, tuple[Point, Known]], points: Sequence[Point], rng: np.random.Generator
) -> NDArray[np.float64] | None:
    """(points, objectives); None while an objective was not seen often enough."""
    tried = [point for point, _ in known.values()]
    effects = sorted({item for point in (*tried, *points) for item in point.items()})
    columns: list[NDArray[np.float64]] = []
    for values in zip(*(values for _, values in known.values()), strict=True):
        seen = [i for i, value in enumerate(values) if value is not None]
        if len(seen) < 2:
            return None
        found = np.array([values[i] for i in seen], np.float64)
        shift = max(_SHIFT * float(np.ptp(found)), 1e-12) - min(0.0, float(found.min()))
        design = _design([tried[i] for i in seen], effects)
        drawn = _draw(design, np.log(found + shift), _design(points, effects), rng)
        columns.append(np.exp(drawn) - shift)
    return np.stack(columns, axis=1) if columns else None


def _design(points: Sequence[Point], effects: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
    return np.array([[1.0, *(float(point.get(name) == option) for name, option in effects)] for point in points])


def _draw(
    design: NDArray[np.float64], targets: NDArray[np.float64], wanted: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """One draw of the posterior (Bishop, equations 3.53 and 3.54) at `wanted`."""
    mean = targets.mean()
    covariance = np.linalg.inv(design.T @ design + _PRIOR * np.eye(design.shape[1]))
    weights = covariance @ design.T @ (targets - mean)
    noise = np.mean(np.square(targets - mean - design @ weights)) + (_LEAST_NOISE * max(1.0, targets.std())) ** 2
    drawn: Any = rng.multivariate_normal(weights, _SPREAD * noise * covariance)
    return wanted @ drawn + mean


def _undominated(points: NDArray[np.float64]) -> list[int]:
    """Positions of the points that no other dominates."""
    lower = (points[:, None] <= points[None]).all(axis=2) & (points[:, None] < points[None]).any(axis=2)
    return np.flatnonzero(~lower.any(axis=0)).tolist()
