"""Several models on several devices: a verdict each, and one that goes wrong does not stop the others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgedl.core.artifacts import Checked, Gate, LatencyReport, Verdict
from edgedl.core.console import reporter
from edgedl.core.errors import ConfigError, EdgedlError, ExitCode, OutputError, own_fault
from edgedl.core.files import as_output_error, is_refusal
from edgedl.core.git import commit_of
from edgedl.devices import find_device
from edgedl.pipeline.check import history, locate
from edgedl.pipeline.check.baseline import (
    Baseline,
    accepted_in_words,
    baseline_of,
    is_baseline,
    read_baseline,
    write_baseline,
)
from edgedl.pipeline.check.latency_yaml import LatencyYaml, baseline_path, data_of, read_latency_yaml
from edgedl.pipeline.check.locate import GIT
from edgedl.pipeline.check.outcome import exit_code
from edgedl.pipeline.profile import model_file, profile


@dataclass(frozen=True)
class Question:
    """One model on one device. against: as `check` takes it; settings: data, budget_s, threads, limits by name.

    own: `against` is where a latency.yaml keeps this model's baseline, and nothing of another name may lie there.
    """

    model: str
    new: Path
    against: str | Path
    device: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    own: bool = False


def named(files: Sequence[Path], against: str, devices: Sequence[str], settings: Mapping[str, Any]) -> list[Question]:
    """Each file on each device against one thing: a file, `git:REVISION`, a baseline, or a folder that holds old files
    under the new ones' names, or baselines. Raises ConfigError, UnavailableError for a device that nobody knows."""
    files = list(dict.fromkeys(files))
    if not files:
        raise ConfigError("there is nothing to check", required="a .tflite or .onnx file", received="--against alone")
    if not against:
        raise ConfigError("--against is empty", required="a file, git:REVISION, a baseline (.json), or a folder")
    place = Path(against)
    folder = not against.startswith(GIT) and (place.is_dir() or against.endswith("/"))
    if len(files) * len(devices) > 1 and not (against.startswith(GIT) or folder):
        raise ConfigError(
            "several files or devices need one old file each",
            required="--against git:REVISION, or a folder",
            received=against,
        )
    stems = Counter(file.stem for file in files)
    names = {file: file.stem if stems[file.stem] == 1 else file.as_posix() for file in files}
    asked = [
        Question(model, file, _in_folder(place, file, model, device) if folder else against, device, settings)
        for file, model in names.items()
        for device in devices
    ]
    return _with_known_devices(asked)


def _in_folder(folder: Path, file: Path, model: str, device: str) -> Path:
    old = folder / file.name
    return old if old.is_file() else baseline_path(folder, model, device)


def listed(
    config: Path,
    files: Sequence[Path],
    devices: Sequence[str],
    settings: Mapping[str, Any],
    against: str | None = None,
) -> tuple[list[Question], Path | None]:
    """What a latency.yaml asks, of all its models or of `files` alone, and its history.

    devices, settings, against (`git:REVISION`): go before its own, where there are any. Raises ConfigError,
    UnavailableError for a device that nobody knows.
    """
    if not config.is_file():
        given = ", ".join(map(str, files))
        raise ConfigError(
            f"there is no {config}" if not files else f"nothing says what {given} is checked against",
            advice="`edgedl init --check` writes one" + (", or name the old file with --against" if files else ""),
        )
    if against is not None and not against.startswith(GIT):
        raise ConfigError("there is nothing to check", required="a .tflite or .onnx file", received="--against alone")
    content = read_latency_yaml(config)
    asked = list(_questions(content, config, devices, settings))
    if files:
        known = {os.path.realpath(one.new) for one in asked}
        if unknown := [file for file in files if os.path.realpath(file) not in known]:
            raise ConfigError(f"{config} names no {unknown[0]}", advice="Add it there, or name the old file: --against")
        wanted = {os.path.realpath(file) for file in files}
        asked = [one for one in asked if os.path.realpath(one.new) in wanted]
    if against is not None:
        asked = [replace(one, against=against, own=False) for one in asked]
    return _with_known_devices(asked), content.history


def _questions(
    file: LatencyYaml, config: Path, devices: Sequence[str], settings: Mapping[str, Any]
) -> Iterator[Question]:
    for model, entry in file.models.items():
        data = data_of(entry, config) if "data" not in settings else None
        shared = {"data": data, "budget_s": entry.budget_s, "threads": entry.threads, **dict(entry.limits)}
        for device in dict.fromkeys(devices or entry.devices):
            place = entry.against or file.baseline(model, device)
            against = place if isinstance(place, str) else _short(place)
            yield Question(model, _short(entry.file), against, device, {**shared, **settings}, own=not entry.against)


def _short(path: Path) -> Path:
    """Relative to the folder where the command runs, where it lies below it: as people would write it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _with_known_devices(asked: list[Question]) -> list[Question]:
    for device in dict.fromkeys(one.device for one in asked):
        find_device(device)
    return asked


def check_one(one: Question, *, seed: int = 0, history_file: Path | None = None) -> Verdict:
    """The verdict. history_file: gets a line of it. Raises EdgedlError as `edgedl.check` does."""
    from edgedl.pipeline.verbs import check

    if one.own and Path(one.against).exists():
        read_baseline(Path(one.against), device=one.device, model=one.model)
    verdict = check(one.new, str(one.against), device=one.device, seed=seed, **one.settings)
    if history_file is not None:
        if not verdict.findings:  # the same file as before, or the first one: nothing has run yet
            report = _profiled(one, seed)
            verdict = replace(verdict, device=report.device, latency=report)
        commit = commit_of(one.new.resolve().parent, besides=history_file)
        history.append(history_file, history.line_of(verdict, commit=commit, model=one.model))
    return verdict


def accept(one: Question, *, seed: int = 0) -> Verdict:
    """Make the new file, as it is, the baseline at `against`, whether there is one or not.

    It is checked against what was accepted before, where that can be had, so that what is accepted is seen; then the
    baseline is written, whole, or stays as it was. Raises EdgedlError.
    """
    path = Path(one.against)
    if not is_baseline(path):
        required = "--against FILE.json, or a latency.yaml without `against`"
        raise ConfigError("there is no baseline to update", required=required, received=str(one.against))
    before = read_baseline(path, device=one.device) if path.exists() else None
    verdict = _seen_before(one, before, seed)
    report = verdict.latency if verdict else None
    if report is None:
        report = _profiled(one, seed)
    baseline = baseline_of(path, model_file(one.new), one.model, one.device, report, before)
    write_baseline(path, baseline)
    _keep(one.new)
    return Verdict(
        name=f"{one.new.name} accepted",
        new=str(one.new),
        old=before.file if before else "nothing",
        outcome="pass",
        findings=verdict.findings if verdict else (),
        device=one.device,
        latency=report,
        notes=tuple(accepted_in_words(path, baseline, before)),
    )


def _profiled(one: Question, seed: int) -> LatencyReport:
    threads, budget_s = one.settings.get("threads", 1), one.settings.get("budget_s", 30.0)
    return profile(one.new, device=one.device, budget_s=budget_s, threads=threads, seed=seed)


def _keep(file: Path) -> None:
    """In the cache, for when another file lies in its place."""
    try:
        locate.keep(file)
    except OutputError as error:
        reporter().warn(f"{file} is not kept in the cache: {error}")


def _seen_before(one: Question, before: Baseline | None, seed: int) -> Verdict | None:
    """The check against what was accepted before; None where there is nothing, or it cannot be had any more."""
    if before is None:
        return None
    try:
        return check_one(replace(one, own=False), seed=seed)
    except ConfigError:
        raise
    except EdgedlError as error:
        reporter().warn(f"{one.model} on {one.device}: not compared with what was accepted before: {error}")
        return None


def on_all(asked: Sequence[Question], answer: Callable[[Question], Verdict]) -> tuple[Gate, tuple[EdgedlError, ...]]:
    """Every question's verdict, or why it has none, and the errors that kept them from one.

    answer: `check_one` or `accept`.
    """
    found: list[Checked] = []
    errors: list[EdgedlError] = []
    for number, one in enumerate(asked, start=1):
        if len(asked) > 1:
            reporter().note(f"{number}/{len(asked)}: {one.model} on {one.device}")
        try:
            found.append(_checked(one, answer(one)))
        except Exception as error:  # a fault of ours in one says nothing of the others
            errors.append(_told(error))
            found.append(_failed(one, errors[-1]))
    return Gate(tuple(found)), tuple(errors)


def _told(error: Exception) -> EdgedlError:
    if isinstance(error, EdgedlError):
        return error
    if isinstance(error, OSError) and is_refusal(error):
        return as_output_error(error, error.filename or "a file", doing="use")
    return own_fault(error)


def _failed(one: Question, error: EdgedlError) -> Checked:
    return Checked(one.model, one.device, str(one.new), None, " ".join(str(error).split()), int(error.exit_code))


def _checked(one: Question, verdict: Verdict) -> Checked:
    return Checked(one.model, one.device, str(one.new), verdict, "", int(exit_code(verdict)))


_WORST_FIRST = (
    ExitCode.CHECK_FAILED,
    ExitCode.OWN_FAULT,
    ExitCode.BAD_INPUT,
    ExitCode.UNAVAILABLE,
    ExitCode.INCONCLUSIVE,
    ExitCode.FINE,
)


def gate_exit_code(gate: Gate) -> ExitCode:
    """1 where any regressed, else what kept one from an answer (2, 3), else 4 where any is inconclusive, else 0."""
    return min((ExitCode(one.exit_code) for one in gate.checked), key=_WORST_FIRST.index)
