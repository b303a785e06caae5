"""The history of checks: a JSON-lines file, a line a check.

{"edgedl_history": 1, "time": …, "commit": …, "model": …, "device": …, "figures": {"p10_us": {…}, "size_bytes": {…}}, …}
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from edgedl.core.artifacts import LatencyReport, ModelLatency, Obtained, Outcome, Verdict, from_json, to_json
from edgedl.core.errors import InputError
from edgedl.core.files import output_errors, sha256_of
from edgedl.core.git import Commit
from edgedl.core.statistics import Interval
from edgedl.devices import litert, onnx_runtime

VERSION = 1


@dataclass(frozen=True)
class Figure:
    """One figure of a check's new file. low, high: of its 95 % interval, or the bounds that were seen; None where there
    are none. n: inferences behind it. exact: counted or computed, so that any difference is a change."""

    value: float
    unit: str
    obtained: Obtained
    exact: bool
    low: float | None = None
    high: float | None = None
    n: int | None = None

    def __post_init__(self) -> None:
        if not all(math.isfinite(one) for one in (self.value, self.low, self.high) if one is not None):
            raise ValueError("a figure must be finite")


@dataclass(frozen=True)
class HistoryLine:
    """What is kept of one check.

    time: with its time zone. file, sha256: the new file's name and content; against: the old one's content. device,
    threads: None where only sizes or answers were compared. ratio: speed, new over old. commit: full SHA; dirty:
    whether tracked files differed from it.
    """

    time: datetime
    commit: str | None
    dirty: bool
    model: str
    file: str
    sha256: str | None
    against: str | None
    device: str | None
    threads: int | None
    machine: str
    runtimes: Mapping[str, str]
    outcome: Outcome
    figures: Mapping[str, Figure]
    ratio: Figure | None = None

    def __post_init__(self) -> None:
        if self.time.tzinfo is None:
            raise ValueError("a time must have its time zone")

    @property
    def short_commit(self) -> str:
        """ "abc1234", "abc1234+" with changes on top, "no commit"."""
        return f"{self.commit[:7]}{'+' * self.dirty}" if self.commit else "no commit"


# --- from a verdict to a line --------------------------------------------------------------------------------------


def line_of(
    verdict: Verdict, *, commit: Commit | None = None, model: str | None = None, time: datetime | None = None
) -> HistoryLine:
    """What the history keeps of a check of (new, old). model: what tells models apart, else the new file's name."""
    report = verdict.latency
    new = report.models[min(1, len(report.models) - 1)] if report else None
    return HistoryLine(
        time=(time or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0),
        commit=commit.sha if commit else None,
        dirty=commit.dirty if commit else False,
        model=model or Path(verdict.new).name,
        file=Path(verdict.new).name,
        sha256=(new.sha256 if new else None) or _content_of(verdict.new),
        against=(report.models[0].sha256 if report and len(report.models) > 1 else None) or _content_of(verdict.old),
        device=report.device if report else None,
        threads=report.conditions.threads if report else None,
        machine=report.hardware if report else verdict.record.machine,
        runtimes=_runtimes(report, new) if report and new else {},
        outcome=verdict.outcome,
        figures=_figures(verdict, report, new),
        ratio=_ratio(report, new) if report and new else None,
    )


def _content_of(file: str) -> str | None:
    return sha256_of(Path(file)) if Path(file).is_file() else None


def _runtimes(report: LatencyReport, new: ModelLatency) -> dict[str, str]:
    """What ran the file, with versions: a device names the runtimes of all formats."""
    others = {name for name in (litert.NAME, onnx_runtime.NAME) if name not in new.runtime}
    return {name: version for name, version in report.runtimes.items() if name not in others}


_COUNTED = {"size_bytes": "bytes", "macs": "MACs", "ops": "ops", "boundaries": "ops", "cpu_ops": "ops"}
"""What a check is told exactly of the new file itself, with its unit."""


def _figures(verdict: Verdict, report: LatencyReport | None, new: ModelLatency | None) -> dict[str, Figure]:
    found = _of_the_session(report, new) if report and new else {}
    for name, unit in _COUNTED.items():
        value = getattr(verdict.figures, name) if verdict.figures else None
        if value is not None:
            found[name] = Figure(value, unit, "measured", exact=True)
    for one in verdict.findings:
        if one.what == "accuracy":
            found["accuracy"] = Figure(one.new, one.unit, one.obtained, exact=False)
    return found


def _of_the_session(report: LatencyReport, new: ModelLatency) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    obtained, counted = report.obtained, report.obtained != "measured" and _steady(new)
    if new.timing is not None:
        found["p10_us"] = _figure(new.timing.p10_us, "us", obtained, n=new.timing.n)
    if new.instructions is not None:
        total, spread = new.instructions.total, new.instructions.spread
        seen = Interval(total, total - spread, total + spread)
        found["instructions"] = _figure(seen, "", obtained, exact=counted, n=new.instructions.inferences)
    if new.estimate is not None:
        found["estimate_us"] = _figure(new.estimate.latency_us, "us", "estimated", exact=_steady(new))
    if new.memory is not None:
        found["memory_bytes"] = Figure(new.memory.model_bytes, "bytes", obtained, exact=counted)
    if new.energy_uj is not None:
        found["energy_uj"] = Figure(new.energy_uj, "uJ", obtained, exact=False)
    found["size_bytes"] = Figure(new.size_bytes, "bytes", "measured", exact=True)
    return found


def _steady(new: ModelLatency) -> bool:
    """Whether what is counted is the same each time: with several threads it is not."""
    return new.instructions is None or new.instructions.spread == 0


def _figure(seen: Interval, unit: str, obtained: Obtained, *, exact: bool = False, n: int | None = None) -> Figure:
    low, high = (bound if math.isfinite(bound) else None for bound in (seen.low, seen.high))
    return Figure(seen.value, unit, obtained, exact, low, high, n)


def _ratio(report: LatencyReport, new: ModelLatency) -> Figure | None:
    speed = report.speed(new)
    if speed is None or speed.ratio is None:
        return None
    counted = speed.what != "p10" and speed.obtained != "measured" and _steady(new)
    return _figure(speed.ratio, "×", speed.obtained, exact=counted, n=speed.n)


# --- the file ------------------------------------------------------------------------------------------------------


def append(path: Path, line: HistoryLine) -> None:
    """Add a line, in one write and under a lock on the file, so that several checks can share it; then synced to disk.

    Raises InputError when the last line is cut off (nothing is written), OutputError when the file cannot be written.
    """
    text = json.dumps({"edgedl_history": VERSION, **to_json(line)}, ensure_ascii=False, allow_nan=False) + "\n"
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            data = _after_the_last_line(path, file) + text.encode()
            try:
                if file.write(data) != len(data):
                    raise OSError(None, "only a part of the line was written")
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise


def _after_the_last_line(path: Path, file: IO[bytes]) -> bytes:
    """What has to come before a new line: a line break where an editor left none. Raises InputError for half a line."""
    file.seek(0)
    lines = file.read().split(b"\n")
    if not lines[-1]:
        return b""
    _parsed(path, len(lines), lines[-1])
    return b"\n"


def read(path: Path) -> list[HistoryLine]:
    """All lines, the oldest check first. Raises InputError for a file that is not there or a line that is none."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        advice = f"`edgedl check NEW --against OLD --history {shlex.quote(str(path))}` writes one"
        raise InputError(f"no history at {path}", advice=advice) from None
    except OSError as error:
        raise InputError(f"cannot read {path}", required="a JSON-lines file", received=str(error)) from None
    found = [_parsed(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    return sorted(found, key=lambda line: line.time)


def _parsed(path: Path, number: int, text: bytes) -> HistoryLine:
    where, remove = f"{path}, line {number}", f"sed -i '{number}d' {shlex.quote(str(path))}"
    try:
        data: Any = json.loads(text)
        version = data.pop("edgedl_history")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise InputError(
            f"{where} is no line of a history",
            required='a whole JSON object with "edgedl_history", as `edgedl check --history` writes it',
            received=repr(text[:40].decode(errors="replace")),
            advice=f"A run that was killed, or a merge, leaves such a line; remove it: {remove}",
        ) from None
    if version != VERSION:
        advice = f"A newer edgedl can read it; or remove the line: {remove}"
        required, received = f'"edgedl_history": {VERSION}', json.dumps(version)[:40]
        raise InputError(f"{where} is of another version", required=required, received=received, advice=advice)
    try:
        return from_json(HistoryLine, data)
    except InputError as error:
        advice = f"Mend the line, or remove it: {remove}"
        raise InputError(f"{where} is damaged", received=error.received, advice=advice) from None
