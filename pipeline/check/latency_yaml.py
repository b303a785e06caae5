"""latency.yaml: which models of a repository are checked, on which devices, against what, within which limits."""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias, cast

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    ValidationInfo,
)

from edgedl.core.config import InputPath, Section, check, read_yaml, sentence, unknown
from edgedl.core.errors import ConfigError
from edgedl.core.git import tracked_files
from edgedl.pipeline.check.limits import Limits
from edgedl.pipeline.check.locate import GIT

NAME = "latency.yaml"
SUFFIXES = (".tflite", ".onnx")


def _several(value: object) -> object:
    """`cpu` is short for `[cpu]`."""
    return (value,) if isinstance(value, str) else value


def _old_file(value: str, info: ValidationInfo) -> str | Path:
    if value.startswith(GIT):
        return value
    if not value or "\0" in str(value):
        raise sentence(f"required git:REVISION or a file, received {str(value)!r}")
    return Path(cast(dict[str, Path], info.context or {}).get("root", ""), value)


Devices: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]


class Entry(Section):
    """One model; what is given here goes before what is given for all."""

    file: InputPath = Field(description="The .tflite or .onnx file.")
    against: Annotated[str, AfterValidator(_old_file)] | None = Field(
        default=None,
        description="git:REVISION (the file as it was there) or another file; a baseline of `baselines` unless given.",
    )
    devices: Devices = ("cpu",)
    budget_s: PositiveFloat = Field(default=30.0, description="Seconds of sampling on a device, at most.")
    threads: PositiveInt = Field(default=1, le=256)
    data: str | None = Field(default=None, description="For a limit on accuracy; as `edgedl check --data` takes it.")
    limits: Limits = Limits()


FOR_ALL = ("against", "devices", "budget_s", "threads", "data", "limits")


class LatencyYaml(Section):
    """The file. Paths in it are relative to its folder."""

    model_config = ConfigDict(regex_engine="python-re")  # of which `_names` makes its names

    baselines: InputPath = Field(
        default=Path("baselines"), validate_default=True, description="Folder of the baselines, a file for each."
    )
    history: InputPath | None = Field(default=None, description="Every check appends a line to this file.")
    models: dict[Annotated[str, StringConstraints(pattern=r"^\w[\w .+-]*\Z")], Entry] = Field(min_length=1)

    def baseline(self, model: str, device: str) -> Path:
        """Where the model's baseline on a device lies."""
        return baseline_path(self.baselines, model, device)


def baseline_path(folder: Path, model: str, device: str) -> Path:
    """`baselines/kws.arm64-cortex-a76.json`."""
    return folder / f"{_plain(model)}.{re.sub(r'[^A-Za-z0-9.-]', '-', device)}.json"


def _plain(name: str) -> str:
    """The name with nothing in it that means anything to a file system."""
    return re.sub(r"[^\w .+-]", "-", name)


def read_latency_yaml(path: Path) -> LatencyYaml:
    """The file, checked. Raises ConfigError naming key, requirement and what was received."""
    data = read_yaml(path)
    known = {*LatencyYaml.model_fields, *FOR_ALL}
    if odd := [key for key in data if key not in known]:
        raise ConfigError(f"{path}: {unknown(odd[0], known)}")
    shared = {key: data.pop(key) for key in FOR_ALL if key in data}
    if isinstance(data.get("models"), dict):
        data["models"] = {name: _merged(shared, entry, str(path)) for name, entry in data["models"].items()}
    return check(LatencyYaml, data, source=str(path), root=path.resolve().parent)


def _merged(shared: Mapping[str, Any], entry: Any, source: str) -> Any:
    """An entry with what is given beside `models` for all of them."""
    if isinstance(entry, str):
        entry = {"file": entry}
    if not isinstance(entry, dict):
        return entry
    limits = [part.get("limits", {}) for part in (shared, entry)]
    if not all(isinstance(one, dict) for one in limits):
        raise ConfigError(f"{source}: `limits` holds keys and values, such as max_slowdown: 5%")
    return {**shared, **entry, "limits": {key: value for one in limits for key, value in one.items()}}


def data_of(entry: Entry, config: Path) -> Any:
    """An entry's data as `check` takes it. Raises ConfigError."""
    if entry.data is None:
        return None
    from edgedl.pipeline.data import SourceConfig, parse_data_option

    root = config.resolve().parent
    run_or_recipe = root / entry.data
    if run_or_recipe.is_dir() or run_or_recipe.suffix in {".yaml", ".yml"}:
        return run_or_recipe
    return check(SourceConfig, parse_data_option(entry.data), source=f"{config}: data", root=root)


def models_below(folder: Path) -> list[Path]:
    """The model files below a folder that its repository has or could have, else all; relative to it, sorted.

    Those are left out that no text file can name.
    """
    found = tracked_files(folder, *SUFFIXES)
    if found is None:
        found = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    inside = (path.relative_to(folder) for path in found)
    return [path for path in inside if not any(part.startswith(".") for part in path.parts) and _is_text(str(path))]


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def template(models: Sequence[Path], *, in_git: bool) -> str:
    """A commented latency.yaml for these files."""
    named = {name: path.as_posix() for name, path in zip(_names(models), models, strict=True)}
    lines = yaml.safe_dump(named, allow_unicode=True, sort_keys=False, width=math.inf)
    against = "against" if in_git else "# against"
    return _TEMPLATE.format(models=textwrap.indent(lines, "  ").rstrip(), against=f"{against}: {GIT}HEAD")


def _names(files: Sequence[Path]) -> list[str]:
    """What the models are called: as their files are, or with their folders where another is; each name once."""
    names: list[str] = []
    for file in files:
        long = "-".join(file.with_suffix("").parts)
        words = itertools.chain((file.stem, long, long + file.suffix), (f"{long}-{n}" for n in itertools.count(2)))
        plain = (re.sub(r"^\W+", "", _plain(word)).rstrip() or "model" for word in words)
        names.append(next(name for name in plain if name not in names))
    return names


_TEMPLATE = """\
# `edgedl check` in this folder checks these models. Every key: docs/gate.md of edgedl.

# Against what: the same file in another commit. Without this key: what was accepted last, in baselines/
# (`edgedl check --update-baseline` accepts the files as they are). Where a build checks out the change itself,
# git:HEAD~1 or git:origin/main is what was before it.
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
