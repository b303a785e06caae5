"""What every result has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from edgedl.core.files import FileRecord

Obtained = Literal["measured", "emulated", "estimated"]
"""How a figure came to be. Every figure shown to a user carries one."""


@dataclass(frozen=True)
class Record:
    """Where an artifact comes from.

    key: hash of all that determines it (stage, configuration, parents' content, versions); the store's key.
    content_hash: hash of what it is (its files and its contract); children name their parent by it.
    """

    key: str = ""
    content_hash: str = ""
    parents: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    machine: str = ""
    created_at: str = ""
    seconds: float = 0.0
    files: tuple[FileRecord, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What every result has: a name, its record, and the folder it lives in (not part of the manifest)."""

    name: str
    record: Record = field(default_factory=Record)
    folder: Path = Path()

    def path(self, name: str) -> Path:
        """The artifact's file of that name."""
        return self.folder / name

    def file_record(self, name: str) -> FileRecord:
        """Hash and sizes of the artifact's file of that name."""
        return next(entry for entry in self.record.files if entry.name == name)


A = TypeVar("A", bound=Artifact)
