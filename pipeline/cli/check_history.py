"""edgedl check history: at which commits the figures of a history change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedl.pipeline.cli.options import AsJson, Quiet
from edgedl.pipeline.cli.output import output

if TYPE_CHECKING:
    from edgedl.pipeline.check.history import HistoryLine
    from edgedl.pipeline.check.series import Series

DEFAULT = "latency-history.jsonl"


def command(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A history that checks have written [that of latency.yaml].")
    ] = None,
    chart: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw the series, as .png or .svg.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Only this model.")] = None,
    device: Annotated[str | None, typer.Option(metavar="D", help="Only this device.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find where the figures of a history change, and name the commits."""
    with output(as_json, quiet) as say:
        from edgedl.core.errors import InputError
        from edgedl.pipeline.check.change_points import fewest
        from edgedl.pipeline.check.history import read
        from edgedl.pipeline.check.history_chart import draw_history
        from edgedl.pipeline.check.series import amount, change_in_words, series_in_words, series_of

        file = file or _of_latency_yaml()
        lines = read(file)
        if not lines:
            raise InputError(f"{file} holds no check yet", advice=f"`edgedl check NEW --against OLD --history {file}`")
        found = series_of(_chosen(_chosen(lines, "model", model), "device", device))
        left_out = draw_history(found, chart) if chart else 0
        say.data(
            {"file": str(file), "series": [_as_data(one) for one in found], "chart": str(chart) if chart else None}
        )
        for one in found:
            now = amount(one.levels[-1][-1], one.key.unit)
            say.line(f"{series_in_words(one)}, {len(one.runs)} run{'s' * (len(one.runs) != 1)}, now {now}")
            for change in one.changes:
                say.line(f"  {change_in_words(one, change)}")
            if one.too_short:
                say.line(f"  too short to tell a change from noise: {fewest()} runs are needed")
            elif not one.changes:
                say.line("  no change")
            if one.searched < len(one.runs):
                say.line(f"  only the last {one.searched} runs were searched")
        if chart:
            rest = f"; {left_out} more series do not fit: choose with --model or --device" if left_out else ""
            say.line(f"chart: {chart}{rest}")


def _of_latency_yaml() -> Path:
    from edgedl.pipeline.check.latency_yaml import NAME, read_latency_yaml

    named = read_latency_yaml(Path(NAME)).history if Path(NAME).is_file() else None
    return named or Path(DEFAULT)


def _chosen(lines: list[HistoryLine], what: str, name: str | None) -> list[HistoryLine]:
    """The lines of one model or device. Raises ConfigError when there is none."""
    if name is None:
        return lines
    kept = [line for line in lines if getattr(line, what) == name]
    if not kept:
        from edgedl.core.config import unknown
        from edgedl.core.errors import ConfigError

        known = {str(getattr(line, what)) for line in lines if getattr(line, what) is not None}
        raise ConfigError(f"--{what}: {unknown(name, known, what=what)}")
    return kept


def _as_data(series: Series) -> dict[str, Any]:
    """A series for programs; the values themselves are in the history."""
    from dataclasses import asdict

    return {
        **asdict(series.key),
        "exact": series.exact,
        "runs": len(series.runs),
        "searched": series.searched,
        "too_short": series.too_short,
        "level": series.levels[-1][-1],
        "changes": [
            {
                **asdict(change.point),
                "change": change.point.change,
                "time": change.run.time.isoformat(),
                "commit": change.run.commit,
                "dirty": change.run.dirty,
                "previous_commit": change.previous.commit,
                "notes": list(change.notes),
            }
            for change in series.changes
        ],
    }
