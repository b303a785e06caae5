"""Where a candidate stands to a budget: which limits it keeps, by how much it misses one, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from edgedl.pipeline.search.budget import Budget, Limit, Quantity
from edgedl.pipeline.search.result import Candidate, Figure

Figures: TypeAlias = Mapping[Quantity, Figure]
Standing = Literal["kept", "broken", "undecided", "unknown"]


def standing(limit: Limit, figures: Figures) -> Standing:
    """Whether the limit is kept. A time is undecided while its interval spans it; a loss is taken at its value."""
    figure = figures.get(limit.quantity)
    if figure is None:
        return "unknown"
    interval = figure.ratio if limit.relative else figure.interval
    if limit.quantity == "latency" and interval is not None:
        return "kept" if interval.high <= limit.value else "broken" if interval.low > limit.value else "undecided"
    return "kept" if asked(limit, figure) <= limit.value else "broken"


def asked(limit: Limit, figure: Figure) -> float:
    """The figure in the limit's own terms."""
    return figure.ratio.value if limit.relative and figure.ratio is not None else figure.value


def with_standing(budget: Budget, figures: Figures) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The limits that are broken, and those that are undecided, in words."""
    found = {limit.words: standing(limit, figures) for limit in budget.limits}
    return (
        tuple(words for words, how in found.items() if how == "broken"),
        tuple(words for words, how in found.items() if how == "undecided"),
    )


def excess(limit: Limit, figures: Figures) -> float | None:
    """By how much the limit is missed, as a share of it (of 1 where it is 0); 0 or less where it is kept."""
    figure = figures.get(limit.quantity)
    if figure is None:
        return None
    return (asked(limit, figure) - limit.value) / (limit.value or 1.0)


def worth(quantity: Quantity, figure: Figure) -> float:
    """What is traded off: the ratio to float32 where there is one, else the value."""
    return figure.ratio.value if figure.ratio is not None else figure.value


def point_of(candidate: Candidate, objectives: Sequence[Quantity]) -> tuple[float, ...]:
    """The coordinates of a judged candidate, one for each objective; smaller is better."""
    return tuple(worth(name, candidate.figures[name]) for name in objectives)


def best_of(candidates: Sequence[Candidate], budget: Budget) -> Candidate | None:
    """Of those that keep every limit the best in the goal, then the loss, then the rest; else of the undecided."""
    order = (budget.minimise, "loss", *budget.objectives)
    for wanted in (True, None):
        fitting = [one for one in candidates if one.fits is wanted]
        if fitting:
            return min(fitting, key=lambda one: tuple(worth(name, one.figures[name]) for name in order))
    return None


def nearest_to(candidates: Sequence[Candidate], budget: Budget, n: int = 3) -> list[Candidate]:
    """Those whose worst miss of a limit is the smallest; only what was judged, while there is any."""
    known = [one for one in candidates if one.state == "judged"] or [one for one in candidates if one.figures]

    def miss(one: Candidate) -> tuple[float, float]:
        over = [max(0.0, found) for limit in budget.limits if (found := excess(limit, one.figures)) is not None]
        return (max(over, default=float("inf")), sum(over))

    return sorted(known, key=miss)[:n]


def _told(limit: Limit, value: float) -> str:
    """A value with the limit's unit."""
    if limit.relative:
        return f"{value:.3g}x"
    if limit.quantity in {"size", "gzip"}:
        return f"{value / 1e3:.1f} kB"
    return f"{value:.1f} µs" if limit.quantity == "latency" else f"{value:.4g}"


def obstacles(candidates: Sequence[Candidate], budget: Budget) -> list[str]:
    """Which limit stands in the way: what the best candidate without it would be, and what each limit was met by."""
    found: list[str] = []
    for limit in budget.limits:
        figures = [one.figures[limit.quantity] for one in candidates if limit.quantity in one.figures]
        if not figures:
            found.append(f"{limit.words}: no candidate got far enough to tell")
            continue
        least = min(asked(limit, figure) for figure in figures)
        if least > limit.value:
            found.append(f"{limit.words}: no candidate keeps it; the least is {_told(limit, least)}")
    alone = [
        (limit, [one for one in candidates if one.state == "judged" and one.broken == (limit.words,)])
        for limit in budget.limits
    ]
    for limit, missing in alone:
        if missing:
            one = min(missing, key=lambda one: excess(limit, one.figures) or 0.0)
            value = _told(limit, asked(limit, one.figures[limit.quantity]))
            found.append(f"{limit.words} alone keeps {len(missing)} out: {one.chain} has {value} and keeps all else")
    if not any(missing for _, missing in alone) and len(budget.limits) > 1:
        found.append("no single limit stands in the way: every candidate breaks several, or was stopped early")
    return found
