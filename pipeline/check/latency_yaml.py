"""latency.yaml: which models of a repository are checked, on which devices, against what, within which limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias, cast

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, StringConstraints, model_validator

from edgedl.core.config import InputPath, Section, apply_settings, check, read_yaml, sentence
from edgedl.core.git import tracked_files
from edgedl.pipeline.check.limits import Limits
from edgedl.pipeline.check.locate import GIT

NAME = "latency.yaml"
SUFFIXES = (".tflite", ".onnx")


def _several(value: object) -> object:
    """`cpu` is short for `[cpu]`."""
    return (value,) if isinstance(value, str) else value


Devices: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]


class Entry(Section):
    """One model; what is given here goes before what is given for all."""

    file: InputPath = Field(description="The .tflite or .onnx file.")
    against: str | None = Field(
        default=None,
        description="git:REVISION (the file as it was there) or another file; a baseline of `baselines` unless given.",
    )
    devices: Devices = ("cpu",)
    budget_s: PositiveFloat = Field(default=30.0, description="Seconds of sampling on a device, at most.")
    threads: PositiveInt = 1
    data: str | None = Field(default=None, description="For a limit on accuracy; as `edgedl check --data` takes it.")
    limits: Limits = Limits()


FOR_ALL = ("against", "devices", "budget_s", "threads", "data", "limits")


class LatencyYaml(Section):
    """The file. Paths in it are relative to its folder."""

    baselines: InputPath = Field(default=Path("baselines"), description="Folder of the baselines, a file for each.")
    history: InputPath | None = Field(default=None, description="Every check appends a line to this file.")
    models: dict[Annotated[str, StringConstraints(pattern=r"^[\w][\w .+-]*$")], Entry] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _for_all(cls, data: object) -> object:
        """What is given beside `models` is given for each of them."""
        if not isinstance(data, Mapping):
            return data
        given = dict(cast(Mapping[str, Any], data))
        shared = {key: given.pop(key) for key in FOR_ALL if key in given}
        if isinstance(given.get("models"), Mapping):
            given["models"] = {name: _merged(shared, entry) for name, entry in given["models"].items()}
        return given

    def baseline(self, model: str, device: str) -> Path:
        """Where the model's baseline on a device lies."""
        return baseline_path(self.baselines, model, device)


def baseline_path(folder: Path, model: str, device: str) -> Path:
    """`baselines/kws.arm64-cortex-a76.json`."""
    return folder / f"{model}.{re.sub(r'[^A-Za-z0-9.-]', '-', device)}.json"


def _merged(shared: Mapping[str, Any], entry: object) -> object:
    if isinstance(entry, str):
        entry = {"file": entry}
    if not isinstance(entry, Mapping):
        return entry
    limits = [part.get("limits", {}) for part in (shared, cast(Mapping[str, Any], entry))]
    both = {**shared, **cast(Mapping[str, Any], entry)}
    if not all(isinstance(one, Mapping) for one in limits):
        raise sentence("`limits` holds keys and values, such as max_slowdown: 5%")
    return {**both, "limits": {key: value for one in limits for key, value in one.items()}}


def read_latency_yaml(path: Path) -> LatencyYaml:
    """The file, checked. Raises ConfigError naming key, requirement and what was received."""
    data: Any = apply_settings(read_yaml(path), [])
    return check(LatencyYaml, data, source=str(path), root=path.resolve().parent)


def models_below(folder: Path) -> list[Path]:
    """The model files below a folder that its repository has or could have, else all; relative to it, sorted."""
    found = tracked_files(folder, *SUFFIXES)
    if found is None:
        found = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    inside = (path.relative_to(folder) for path in found)
    return [path for path in inside if not any(part.startswith(".") for part in path.parts)]


def template(models: list[Path], *, in_git: bool) -> str:
    """A commented latency.yaml for these files."""
    names: dict[str, Path] = {}
    for path in models:
        name = path.stem if path.stem not in names else "-".join(path.with_suffix("").parts) + path.suffix
        names[re.sub(r"[^\w .+-]", "-", name)] = path
    lines = "\n".join(f"  {name}: {path.as_posix()}" for name, path in names.items())
    against = f"{GIT}HEAD" if in_git else ""
    return _TEMPLATE.format(models=lines, against=f"against: {against}" if against else "# against: git:HEAD")


_TEMPLATE = """\
# `edgedl check` in this folder checks these models. Every key: docs/gate.md of edgedl.

# Against what: the same file in another commit. Without this key: what was accepted last, in baselines/
# (`edgedl check --update-baseline` accepts the files as they are).
{against}

# Where. `edgedl devices` lists them; on an emulated processor instructions are counted, and 1 % is plain to see:
devices: [cpu]            # [cpu, arm64:cortex-a76]
budget_s: 30              # seconds of sampling on a device, at most

limits:
  max_slowdown: auto      # 5 % where it is timed, 1 % where instructions are counted
  max_size_growth: 1%
  # max_memory_growth: 5%
  # max_added_boundaries: 0     # QUANTIZE and DEQUANTIZE ops
  # max_accuracy_drop: 0.5      # points; needs `data: npz:test.npz`

# history: latency-history.jsonl     # `edgedl check history` finds the commit that changed a figure

models:
{models}
"""
