"""Which points no other beats, and how much of the plane they cover. Smaller is better in every coordinate."""

from __future__ import annotations

from collections.abc import Sequence

Point = Sequence[float]


def dominates(one: Point, other: Point) -> bool:
    """Whether `one` is nowhere worse and somewhere better."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Positions of the points that no other dominates; of equal ones the first. In the order given."""
    return [
        i
        for i, point in enumerate(points)
        if not any(
            dominates(other, point) or (j < i and tuple(other) == tuple(point)) for j, other in enumerate(points)
        )
    ]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Volume of what the points dominate, up to the reference (Zitzler & Thiele 1998, "Multiobjective optimization
    using evolutionary algorithms", PPSN V): computed by slicing along the last coordinate (HSO, While et al. 2006).

    Points beyond the reference in any coordinate add nothing.
    """
    inside = [tuple(point) for point in points if all(a < r for a, r in zip(point, reference, strict=True))]
    return _volume([inside[i] for i in pareto_front(inside)], tuple(reference))


def _volume(front: list[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    if not front:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(point[0] for point in front)
    levels = sorted({point[-1] for point in front})
    volume = 0.0
    for low, high in zip(levels, [*levels[1:], reference[-1]], strict=True):
        below = [point[:-1] for point in front if point[-1] <= low]
        volume += (high - low) * _volume([below[i] for i in pareto_front(below)], reference[:-1])
    return volume
