"""How results are saved and read."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

from edgedl.core.artifacts.audited import Audit, AuditReference
from edgedl.core.artifacts.base import Artifact
from edgedl.core.artifacts.compressed import AlteredModel, CompressedModel, SensitivityReport
from edgedl.core.artifacts.exported import ExportedModel, ParityReport
from edgedl.core.artifacts.latency import LatencyReport
from edgedl.core.artifacts.trained import TrainedModel
from edgedl.core.artifacts.verdict import Verdict
from edgedl.core.errors import InputError
from edgedl.core.files import sha256_of, write_atomically

MANIFEST = "manifest.json"

KINDS: dict[str, type[Artifact]] = {
    "trained": TrainedModel,
    "altered": AlteredModel,
    "compressed": CompressedModel,
    "sensitivity": SensitivityReport,
    "exported": ExportedModel,
    "parity": ParityReport,
    "latency": LatencyReport,
    "verdict": Verdict,
    "audit-reference": AuditReference,
    "audit": Audit,
}


@functools.cache
def _adapter(kind: type[Any]) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def to_json(value: object) -> Any:
    """A dataclass as plain JSON types; an artifact loses its folder, which only this machine has."""
    data = _adapter(type(value)).dump_python(value, mode="json")
    if isinstance(value, Artifact):
        del data["folder"]
    return data


def json_text(content: Any) -> str:
    """Plain JSON types as text that every program reads: an unbounded interval's ends, which JSON has no number for
    (RFC 8259, §6), are null."""
    return json.dumps(_finite(content), indent=1, ensure_ascii=False)


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in cast(dict[str, Any], content).items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in cast(Sequence[Any], content)]
    return content


def from_json(kind: type[Any], data: Any) -> Any:
    """The dataclass `kind` from plain JSON types. Raises InputError naming what does not fit."""
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(data, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"not a {kind.__name__}", received=f"{where}: {first['msg']}") from None


def json_schema(kind: type[Any]) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of what `json_text` makes of such a result."""
    schema = _adapter(kind).json_schema(mode="serialization")
    if issubclass(kind, Artifact):
        del schema["properties"]["folder"]
    if "Interval" in schema.get("$defs", {}):
        for bound in ("low", "high"):
            schema["$defs"]["Interval"]["properties"][bound]["type"] = ["number", "null"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def kind_of(artifact: Artifact) -> str:
    """The manifest's word for the artifact's type."""
    return next(word for word, kind in KINDS.items() if type(artifact) is kind)


def save_artifact(artifact: Artifact) -> None:
    """Write `manifest.json` into the artifact's folder."""
    content = {"kind": kind_of(artifact), **to_json(artifact)}
    write_atomically(artifact.folder / MANIFEST, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def load_artifact(folder: Path) -> Artifact:
    """Read the artifact of `folder`, whatever its kind. Raises InputError when there is none or it is damaged."""
    try:
        data = json.loads((folder / MANIFEST).read_text())
        kind = KINDS[data.pop("kind")]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            f"{folder} holds no artifact of edgedl",
            required=f"a folder with a {MANIFEST} that a stage wrote",
            received=type(error).__name__,
        ) from None
    return replace(from_json(kind, data), folder=folder)


def is_intact(artifact: Artifact) -> bool:
    """Whether every recorded file is still there with its recorded content."""
    return all(
        (path := artifact.folder / entry.name).is_file() and sha256_of(path) == entry.sha256
        for entry in artifact.record.files
    )


def field_names(kind: type[Artifact]) -> Sequence[str]:
    """The fields of an artifact kind, in order."""
    return [entry.name for entry in fields(kind)]
