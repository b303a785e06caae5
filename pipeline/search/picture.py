"""The Pareto front as a picture: one panel for each cost against the loss, the limits as lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgedl.pipeline.report.charts import INK, LINE, MUTED, SERIES, write_picture
from edgedl.pipeline.search.budget import Budget, Quantity
from edgedl.pipeline.search.result import Candidate, SearchResult
from edgedl.pipeline.search.standing import worth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

LABELED = 8


def write_pictures(result: SearchResult, budget: Budget) -> None:
    """Write `front.png` and `front.svg` into the result's folder; nothing where no candidate was judged."""
    costs: list[Quantity] = [name for name in result.objectives if name != "loss"]
    judged = [one for one in result.candidates if one.state == "judged"]
    for name in ("front.png", "front.svg"):
        (result.folder / name).unlink(missing_ok=True)
    if not judged:
        return

    def draw(picture: Picture) -> None:
        for axes, cost in zip(picture.subplots(1, len(costs), squeeze=False)[0], costs, strict=True):
            _panel(axes, cost, judged, result, budget)

    for name in ("front.png", "front.svg"):
        write_picture(draw, result.folder / name, width=5.2 * len(costs), height=3.6)


def _panel(axes: Axes, cost: Quantity, judged: Sequence[Candidate], result: SearchResult, budget: Budget) -> None:
    front = [one for one in judged if one.number in result.front]
    others = [one for one in judged if one.number not in result.front]
    for group, color, label in ((others, MUTED, "beaten"), (front, SERIES[0], "front")):
        x, y = [_place(one, cost)[0] for one in group], [_place(one, cost)[1] for one in group]
        axes.scatter(x, y, s=26, color=color, alpha=0.8, linewidths=0, label=label, zorder=3)
    axes.scatter([1.0], [0.0], s=26, marker="s", color=INK, linewidths=0, label="float32", zorder=3)
    best = next((one for one in judged if one.number == result.best), None)
    if best is not None:
        axes.scatter(*_place(best, cost), s=110, facecolors="none", edgecolors=SERIES[1], label="best", zorder=4)
    for one in front:
        _whiskers(axes, one, cost)
    for limit in budget.limits:
        if limit.quantity == cost:
            axes.axvline(_as_ratio(limit.value, limit.relative, cost, result), color=SERIES[4], linewidth=1)
        elif limit.quantity == "loss":
            axes.axhline(limit.value, color=SERIES[4], linewidth=1)
    for one in sorted(front, key=lambda one: _place(one, cost))[:LABELED]:
        name = one.chain if len(one.chain) <= 34 else one.chain[:33] + "…"
        axes.annotate(name, _place(one, cost), (6, 5), textcoords="offset points", fontsize=7, color=MUTED)
    axes.axhline(0.0, color=LINE, linewidth=1, zorder=1)
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel(f"{cost}, of float32")
    axes.set_ylabel("loss on the validation split")
    axes.set_title(f"{len(judged)} judged; lines are limits, bars 95 % intervals")
    axes.legend(labelcolor=MUTED, fontsize=8, loc="best")


def _place(one: Candidate, cost: Quantity) -> tuple[float, float]:
    return worth(cost, one.figures[cost]), one.figures["loss"].value


def _whiskers(axes: Axes, one: Candidate, cost: Quantity) -> None:
    x, y = _place(one, cost)
    loss, ratio = one.figures["loss"].interval, one.figures[cost].ratio
    if loss is not None:
        axes.plot([x, x], [loss.low, loss.high], color=SERIES[0], alpha=0.3, linewidth=1, zorder=2)
    if ratio is not None:
        axes.plot([ratio.low, ratio.high], [y, y], color=SERIES[0], alpha=0.3, linewidth=1, zorder=2)


def _as_ratio(value: float, relative: bool, cost: Quantity, result: SearchResult) -> float:
    """A limit's place on the axis."""
    if relative:
        return value
    if cost in result.float32:
        return value / max(1.0, result.float32[cost].value)
    judged = [one.figures[cost] for one in result.candidates if cost in one.figures]
    scale = [figure.value / figure.ratio.value for figure in judged if figure.ratio]
    return value / sorted(scale)[len(scale) // 2] if scale else value
