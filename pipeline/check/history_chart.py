"""The picture of a history: each series with its levels, and the commits at which it changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgedl.core.errors import ConfigError
from edgedl.pipeline.check.series import NAMES, UNITS, Series, change_of_level, number, series_in_words
from edgedl.pipeline.report.charts import INK, MUTED, SERIES, shortened, write_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

MOST_PANELS = 40
_MOST_LABELS = 8


def draw_history(series: Sequence[Series], path: Path) -> int:
    """Write the series as a .png or .svg picture, a panel each; returns how many do not fit.

    Raises ConfigError for another kind of file or nothing to draw, OutputError.
    """
    if path.suffix not in (".png", ".svg"):
        raise ConfigError("the chart cannot be drawn", required="a file called .png or .svg", received=str(path))
    if not series:
        raise ConfigError("the chart cannot be drawn", required="a series", received="none")
    shown = series[:MOST_PANELS]

    def draw(picture: Picture) -> None:
        for axes, one in zip(picture.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
            _draw(axes, one)

    write_picture(draw, path, width=9.4, height=2.5 * len(shown))
    return len(series) - len(shown)


def _draw(axes: Axes, series: Series) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    places = range(len(series.runs))
    for place, one in zip(places, series.figures, strict=True):
        if one.low is not None and one.high is not None and one.low < one.high:
            axes.plot([place, place], [one.low, one.high], color=SERIES[0], alpha=0.35, linewidth=1)
    axes.plot(places, series.values, "o", color=SERIES[0], markersize=3)
    for start, stop, level in series.levels:
        axes.plot([start - 0.4, stop - 0.6], [level, level], color=INK, linewidth=1.2)
    largest = sorted(series.changes, key=lambda change: -abs(change.point.after - change.point.before))[:_MOST_LABELS]
    for change in series.changes:
        axes.axvline(change.point.index - 0.5, color=SERIES[1], linewidth=1)
    for row, change in enumerate(sorted(largest, key=lambda change: change.point.index)):
        label = f" {change.run.short_commit} {change_of_level(series, change)}"
        place = (change.point.index - 0.5, 0.99 - 0.1 * (row % 2))
        axes.text(*place, label, transform=axes.get_xaxis_transform(), color=SERIES[1], fontsize=8, va="top")
    axes.set_title(f"{shortened(series_in_words(series), 100)}; n = {len(series.runs)} runs")
    axes.set_ylabel(UNITS.get(series.key.unit, series.key.unit) or NAMES.get(series.key.figure, series.key.figure))
    axes.margins(x=0.02, y=0.35)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: _day(series, place)))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.tick_params(labelcolor=MUTED)


def _day(series: Series, place: float) -> str:
    return f"{series.runs[int(place)].time:%Y-%m-%d}" if 0 <= place < len(series.runs) else ""
