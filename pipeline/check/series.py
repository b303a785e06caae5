"""A history as series of figures that can be compared, and the commits at which they change.

Times, memory, energy and instructions that were measured are compared on one machine with the same runtimes. What was
emulated or computed is the same everywhere, so a runtime that changes it is a change, and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from edgedl.core.artifacts import Obtained
from edgedl.core.console import reporter
from edgedl.pipeline.check.change_points import MIN_SIZE, ChangePoint, change_points, exact_changes, fewest
from edgedl.pipeline.check.history import Figure, HistoryLine

LONGEST = 500
"""Runs of a noisy series that are searched, the last ones: twice as many take four times as long."""
RATIO = "ratio"
_OF_ONE_MACHINE = ("p10_us", "memory_bytes", "energy_uj", "instructions")  # where they were measured


@dataclass(frozen=True)
class SeriesKey:
    """What runs must have in common for a figure of theirs to be compared.

    where: machine and runtimes of what was measured there, or the old file of a ratio; "" where it does not matter.
    """

    model: str
    device: str | None
    threads: int | None
    figure: str
    unit: str
    obtained: Obtained
    where: str


@dataclass(frozen=True)
class Change:
    """A change point with its run, and the run before. notes: what else is the same, or not, on both sides of it."""

    point: ChangePoint
    run: HistoryLine
    previous: HistoryLine
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Series:
    """One figure of one model, run by run, the oldest first. searched: how many of the last runs were."""

    key: SeriesKey
    runs: tuple[HistoryLine, ...]
    figures: tuple[Figure, ...]
    changes: tuple[Change, ...]
    searched: int

    @property
    def levels(self) -> list[tuple[int, int, float]]:
        """From which run to which (exclusive) the figure stays, and the median of its values there."""
        bounds = [0, *(change.point.index for change in self.changes), len(self.runs)]
        return [(start, stop, median(self.values[start:stop])) for start, stop in pairwise(bounds)]

    @property
    def values(self) -> list[float]:
        """The figure's values, in its unit."""
        return [one.value for one in self.figures]

    @property
    def exact(self) -> bool:
        """Whether every run is counted or computed."""
        return all(one.exact for one in self.figures)

    @property
    def too_short(self) -> bool:
        """Whether a change cannot be told from noise yet."""
        return not self.exact and len(self.runs) < fewest()


def series_of(lines: Iterable[HistoryLine], *, seed: int = 0) -> tuple[Series, ...]:
    """The series of a history with their change points, in the order in which they begin. lines: the oldest first.

    Ratios to old files that were seen too seldom to tell anything are left out: a gate against the last release has a
    new one each time.
    """
    found: dict[SeriesKey, list[tuple[HistoryLine, Figure]]] = {}
    for line in lines:
        for name, one in [*line.figures.items(), *([(RATIO, line.ratio)] if line.ratio else [])]:
            where = _where(line, name, one)
            key = SeriesKey(line.model, line.device, line.threads, name, one.unit, one.obtained, where)
            found.setdefault(key, []).append((line, one))
    kept = {key: runs for key, runs in found.items() if key.figure != RATIO or len(runs) >= fewest()}
    made: list[Series] = []
    with reporter().progress("looking for changes", len(kept)) as bar:
        for key, runs in kept.items():
            made.append(_series(key, runs, seed))
            bar.update(len(made), key.model)
    return tuple(made)


def _where(line: HistoryLine, name: str, figure: Figure) -> str:
    if name == RATIO:
        return f"against {(line.against or 'unknown')[:12]}"
    if name not in _OF_ONE_MACHINE or figure.obtained != "measured":
        return ""
    return ", ".join([line.machine, *(f"{runtime} {version}" for runtime, version in sorted(line.runtimes.items()))])


def _series(key: SeriesKey, found: Sequence[tuple[HistoryLine, Figure]], seed: int) -> Series:
    runs, figures = tuple(line for line, _ in found), tuple(one for _, one in found)
    whole = Series(key, runs, figures, (), len(runs))
    if whole.exact:
        points = exact_changes(whole.values)
        return replace(whole, changes=tuple(_change(point, runs, 1) for point in points))
    start = max(0, len(runs) - LONGEST)
    points = [replace(one, index=one.index + start) for one in change_points(whole.values[start:], seed=seed)]
    return replace(whole, changes=tuple(_change(point, runs, MIN_SIZE) for point in points), searched=len(runs) - start)


def _change(point: ChangePoint, runs: Sequence[HistoryLine], around: int) -> Change:
    """around: runs on either side that say whether the file is the same; noise may have moved the point a little."""
    run, previous = runs[point.index], runs[point.index - 1]
    notes: list[str] = []
    for name in sorted(run.runtimes.keys() | previous.runtimes.keys()):
        before, after = previous.runtimes.get(name, "none"), run.runtimes.get(name, "none")
        if before != after:
            notes.append(f"runtime {name} {before} → {after}")
    if run.machine != previous.machine:
        notes.append(f"machine {previous.machine} → {run.machine}")
    files = {one.sha256 for one in runs[point.index - around : point.index + around]}
    if len(files) == 1 and None not in files:
        notes.append("the model file is the same")
    return Change(point, run, previous, tuple(notes))


# --- words ---------------------------------------------------------------------------------------------------------

NAMES = {"p10_us": "p10", "estimate_us": "estimated time", "memory_bytes": "memory", "energy_uj": "energy"}
NAMES |= {"size_bytes": "size", "macs": "MACs", "cpu_ops": "CPU ops"}
UNITS = {"us": "µs", "uJ": "µJ", "×": "×", "%": "%"}


def series_in_words(series: Series) -> str:
    """ "a.tflite on cpu, 4 threads: p10, measured", with where, if that matters."""
    key = series.key
    device = f" on {key.device}" if key.device else ""
    threads = f", {key.threads} threads" if key.threads and key.threads > 1 else ""
    where = f" ({key.where})" if key.where else ""
    return f"{key.model}{device}{threads}: {NAMES.get(key.figure, key.figure)}, {key.obtained}{where}"


def change_in_words(series: Series, change: Change) -> str:
    """ "2026-11-03 abc1234 (after 0123456): instructions 1,234,567 → 1,300,000 (+5.3 %), emulated; …"."""
    point, key = change.point, series.key
    after = f" (after {change.previous.short_commit})" if change.previous.commit != change.run.commit else ""
    moved = f"{number(point.before)} → {amount(point.after, key.unit)} ({change_of_level(series, change)})"
    if point.what == "spread":
        moved += ", about the same level: the values scatter otherwise"
    chance = "" if point.p_value is None else f", p = {point.p_value:.2g}"
    told = "; ".join([f"{NAMES.get(key.figure, key.figure)} {moved}, {key.obtained}{chance}", *change.notes])
    return f"{change.run.time:%Y-%m-%d} {change.run.short_commit}{after}: {told}"


def change_of_level(series: Series, change: Change) -> str:
    """ "+5.3 %"; of shares "−0.4 points"; of a count that is off by one "−1"."""
    point = change.point
    if series.key.unit == "%":
        told = f"{point.after - point.before:+.3g} points"
    elif point.change is None or abs(point.change) < 0.0005:
        told = f"{point.after - point.before:+,.4g}"
    else:
        told = f"{100 * point.change:+,.1f} %"
    return told.replace("-", "−")


def number(value: float) -> str:
    """A figure without its unit: whole from a thousand on, else to four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def amount(value: float, unit: str) -> str:
    """A figure with its unit."""
    return f"{number(value)} {UNITS.get(unit, unit)}".rstrip()
