"""What was accepted: a small JSON file in the user's repository, a model on a device.

It names the accepted model file by its hash, and holds what that file was like on each machine, with the runtime's
versions. Times in it are for people: no check ever compares an old time with a new one, it times both files again.
Counts are compared with it where the old file itself cannot be had.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveInt, StringConstraints, ValidationError

from edgedl.core.artifacts import Figures, LatencyReport, Obtained, TensorSpec
from edgedl.core.config import Section, sentence
from edgedl.core.errors import ConfigError, ModelError, OutputError
from edgedl.core.files import sha256_of, write_atomically
from edgedl.core.git import commit_of
from edgedl.core.model_facts import ModelFile
from edgedl.pipeline.check.figures import figures_of

VERSION = 1


def _name_of_a_file(value: str) -> str:
    if "\0" in value or not Path(value).name:
        raise sentence(f"required the path of a file, received {value!r}")
    return value


FilePath = Annotated[str, AfterValidator(_name_of_a_file)]
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class Measured(Section):
    """What the accepted file was like on one machine, with these runtimes."""

    hardware: str
    runtimes: dict[str, str]
    threads: PositiveInt = 1
    obtained: Obtained
    figures: Figures
    p10_us: float | None = None
    """For people alone."""


class Baseline(Section):
    """One model on one device.

    file: the accepted model file, relative to this one's folder. url: where else it is, with {sha256} or {file} in it;
    written by hand. commit: around the model file when it was accepted, for people.
    """

    edgedl_baseline: Literal[1] = VERSION
    model: str
    file: FilePath
    sha256: Sha256
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    device: str
    accepted: datetime
    commit: str | None = None
    url: str | None = None
    measured: tuple[Measured, ...] = Field(default=())

    def on(self, report: LatencyReport) -> Measured | None:
        """What was measured on the same machine with the same versions of the runtimes and as many threads."""
        key = (report.hardware, dict(report.runtimes), report.conditions.threads)
        return next((one for one in self.measured if (one.hardware, one.runtimes, one.threads) == key), None)


def is_baseline(path: Path) -> bool:
    """Whether a path is meant to be one."""
    return path.suffix == ".json"


def read_baseline(path: Path, *, device: str | None = None, model: str | None = None) -> Baseline:
    """The baseline in a file. device, model: which it must be of. Raises ConfigError."""
    try:
        baseline = Baseline.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        received = error.errors()[0] if isinstance(error, ValidationError) else {"msg": error.strerror, "loc": ()}
        where = ".".join(str(part) for part in received["loc"])
        raise ConfigError(
            f"{path} is no baseline",
            required="a file that `edgedl check NEW --against FILE.json --update-baseline` writes",
            received=f"{where}: {received['msg']}" if where else str(received["msg"]),
            advice="Bring back the last whole one (`git checkout FILE.json`), or remove it and accept the file anew",
        ) from None
    if device is not None and baseline.device != device:
        raise ConfigError(
            f"{path} is a baseline of another device",
            required=device,
            received=baseline.device,
            advice=f"Give --device {baseline.device}, or another file for {device}",
        )
    if model is not None and baseline.model != model:
        raise ConfigError(
            f"{path} is a baseline of another model",
            required=model,
            received=baseline.model,
            advice=f"Bring back {model}'s (`git checkout FILE.json`), or accept the file anew with --update-baseline",
        )
    return baseline


def baseline_of(
    path: Path, new: ModelFile, model: str, device: str, report: LatencyReport | None, before: Baseline | None
) -> Baseline:
    """What accepting `new` makes of the baseline at `path`.

    report: of a session in which `new` took part. before: what was there; what was measured of the same file elsewhere
    stays.
    """
    sha256 = sha256_of(new.path)
    kept: tuple[Measured, ...] = ()
    if before is not None and before.sha256 == sha256:
        kept = tuple(one for one in before.measured if report is None or one != before.on(report))
    commit = commit_of(new.path.resolve().parent)
    return Baseline(
        model=model,
        file=Path(os.path.relpath(new.path.resolve(), path.resolve().parent)).as_posix(),
        sha256=sha256,
        inputs=new.facts.inputs,
        outputs=new.facts.outputs,
        device=device,
        accepted=datetime.now(UTC).replace(microsecond=0),
        commit=commit.sha if commit else None,
        url=before.url if before else None,
        measured=(*kept, _measured(new, sha256, report)) if report else kept,
    )


def _measured(new: ModelFile, sha256: str, report: LatencyReport) -> Measured:
    on = next((one for one in report.models if one.sha256 == sha256), None)
    if on is None:
        raise ModelError(f"{new.path} changed while it was checked", advice="Check it again")
    return Measured(
        hardware=report.hardware,
        runtimes=dict(report.runtimes),
        threads=report.conditions.threads,
        obtained=report.obtained,
        figures=figures_of(new.facts, on, report),
        p10_us=round(on.timing.p10_us.value, 3) if on.timing else None,
    )


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Whole, or as it was. Raises OutputError."""
    data: dict[str, Any] = baseline.model_dump(mode="json", exclude_none=True)
    try:
        write_atomically(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    except OutputError as error:
        advice = "Name another place: --against FILE.json, or `baselines` in latency.yaml"
        raise OutputError(error.what, advice=advice) from None
    except UnicodeEncodeError:
        raise OutputError(f"{baseline.file!a} cannot be named in {path}", required="a name that is UTF-8") from None


def accepted_in_words(path: Path, baseline: Baseline, before: Baseline | None) -> list[str]:
    """What an update accepts, for the person who asked for it."""
    same = before is not None and before.sha256 == baseline.sha256
    words = "the same file again" if same else f"{baseline.file} ({baseline.sha256[:12]})"
    lines = [f"accepted {words} for {baseline.model} on {baseline.device}, in {path}"]
    if before is not None and not same:
        lines.append(f"before: {before.file} ({before.sha256[:12]}), accepted {before.accepted:%Y-%m-%d}")
    return lines
