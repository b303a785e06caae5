"""A file against whatever its user names: a file, a commit, or a baseline."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgedl.core.artifacts import LatencyReport, QualityChange, Record, Speed, Verdict
from edgedl.core.errors import ConfigError, InconclusiveError
from edgedl.core.files import sha256_of
from edgedl.core.provenance import machine, versions
from edgedl.core.statistics import exact
from edgedl.devices import Exact, SamplingPlan, find_device
from edgedl.pipeline.check.baseline import Baseline, Measured, is_baseline, read_baseline
from edgedl.pipeline.check.figures import figures_of
from edgedl.pipeline.check.files import check
from edgedl.pipeline.check.interface import require_same_tensors
from edgedl.pipeline.check.judge import judge_counts, judge_figures
from edgedl.pipeline.check.limits import COUNTED, Limits
from edgedl.pipeline.check.locate import GIT, Found, NotFoundError, at_commit, by_hash
from edgedl.pipeline.check.outcome import worst
from edgedl.pipeline.profile import checked, model_file

AccuracyOf = Callable[[Path, Path], QualityChange | None]
"""From (old, new) to what the new file lost, where a limit asks for it."""


def check_against(
    new: Path, against: str | Path, limits: Limits, *, accuracy: AccuracyOf, device: str, **plan: Any
) -> Verdict:
    """Judge `new` against a file's path, `git:REVISION` (itself in an earlier commit), or a baseline's path (.json).

    plan: budget_s, threads, seed, as `check` takes them. A file that an earlier commit did not have yet passes, and one
    that is the same byte for byte, in the commit or as accepted: nothing runs.
    Raises as `check` does, and ConfigError, NotFoundError or InconclusiveError where the old file cannot be had.
    """
    text = str(against)
    if text.startswith(GIT):
        model_file(new)
        name = text.removeprefix(GIT)
        found = at_commit(new, name)
        if found is None:
            note = f"{new.name} is not in {name}: a new file, with nothing to compare it with"
            return _nothing_new(new, f"{new.name} in {name}", note)
    elif is_baseline(Path(text)):
        return _against_baseline(new, Path(text), limits, accuracy, device, plan)
    else:
        found = Found(Path(text), "")
    return _both(new, found, limits, accuracy, device, plan)


def _both(new: Path, old: Found, limits: Limits, accuracy: AccuracyOf, device: str, plan: dict[str, Any]) -> Verdict:
    if old.where and sha256_of(new) == sha256_of(old.path):
        return _nothing_new(new, old.where, f"{new.name} is {old.where}, byte for byte: nothing to compare")
    change = accuracy(old.path, new)
    verdict = check(new, old.path, limits, accuracy=change, device=device, **plan)
    if not old.where:
        return verdict
    return replace(verdict, name=f"{new.name} against {old.where}", old=old.where)


def _nothing_new(new: Path, old: str, note: str) -> Verdict:
    file = model_file(new)
    return Verdict(
        name=f"{new.name} against {old}",
        new=str(file.path),
        old=old,
        outcome="pass",
        findings=(),
        figures=figures_of(file.facts),
        notes=(note,),
    )


# --- a baseline ----------------------------------------------------------------------------------------------------


def _against_baseline(
    new: Path, path: Path, limits: Limits, accuracy: AccuracyOf, device: str, plan: dict[str, Any]
) -> Verdict:
    if not path.exists():
        command = ("edgedl", "check", str(new), "--against", str(path), "--device", device, "--update-baseline")
        raise ConfigError(f"there is no baseline {path}", advice=f"`{shlex.join(command)}` accepts the file as it is")
    baseline = read_baseline(path, device=device)
    model_file(new)
    try:
        old = by_hash(baseline, path)
    except NotFoundError as error:
        return _against_counts(new, baseline, limits, plan, error)
    verdict = _both(new, old, limits, accuracy, device, plan)
    return replace(verdict, notes=(*verdict.notes, *_elsewhere(baseline, verdict)))


def _elsewhere(baseline: Baseline, verdict: Verdict) -> tuple[str, ...]:
    """A note where the baseline's figures are of another machine or other runtimes, which does not matter."""
    report = verdict.latency
    if report is None or not baseline.measured or baseline.on(report) is not None:
        return ()
    then = _on(baseline.measured[-1])
    return (f"the baseline was taken on {then}; both files were profiled again here, now",)


def _against_counts(
    new: Path, baseline: Baseline, limits: Limits, plan: dict[str, Any], missing: NotFoundError
) -> Verdict:
    """The new file's counts against those that the baseline holds: what is left where the old file is gone."""
    chosen, target = find_device(baseline.device)
    needs_the_file = limits.max_accuracy_drop is not None or limits.max_output_change is not None
    if needs_the_file or not (isinstance(chosen, Exact) and chosen.exact):
        raise missing
    started = time.monotonic()
    file = model_file(new)
    for side in ("inputs", "outputs"):
        require_same_tensors(file.path.name, getattr(file.facts, side), baseline.file, getattr(baseline, side), side)
    report = chosen.profile([file], checked(SamplingPlan(**plan)), target)
    then = baseline.on(report)
    if then is None:
        raise InconclusiveError(
            f"{missing.what}, and its counts are of other versions",
            required=f"counts on {_on(report)}",
            received="; ".join(map(_on, baseline.measured)) or "none",
            advice=missing.advice,
        )
    figures = figures_of(file.facts, report.models[0], report)
    findings = judge_figures(figures, then.figures, limits)
    notes = [f"{missing.what}: compared with the counts of the baseline"]
    if limits.max_slowdown is not None:
        after, before = (one.instructions for one in (figures, then.figures))
        if after and before:
            allowed = COUNTED if limits.max_slowdown == "auto" else limits.max_slowdown
            new_speed, old_speed = (
                Speed(exact(n), "instructions", "instructions", 1, report.obtained, None) for n in (after, before)
            )
            findings.insert(0, judge_counts(new_speed, old_speed, allowed, report.device))
        elif limits.max_slowdown != "auto" or report.speed(report.models[0]) is not None:
            raise InconclusiveError(
                f"{missing.what}, and its baseline holds no count of instructions",
                required="one, for a limit on the slowdown",
                advice=missing.advice,
            )
        else:
            notes.append(f"latency was not judged: {report.device} tells no speed of these files")
    return Verdict(
        name=f"{new.name} against the counts of {baseline.file}",
        record=Record(versions=versions(), machine=machine(), seconds=time.monotonic() - started),
        new=str(new),
        old=f"the counts of {baseline.file} in its baseline",
        outcome=worst(finding.outcome for finding in findings),
        findings=tuple(findings),
        device=report.device,
        latency=report,
        figures=figures,
        notes=tuple(notes),
    )


def _on(one: Measured | LatencyReport) -> str:
    """Machine, versions and threads, in words."""
    threads = one.threads if isinstance(one, Measured) else one.conditions.threads
    runtimes = [f"{name} {version}" for name, version in one.runtimes.items()]
    return f"{one.hardware} with {', '.join([*runtimes, *([f'{threads} threads'] if threads > 1 else [])])}"
