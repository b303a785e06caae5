"""What kind of Keras file a file is: told from its content, never from its name, before anything of it is loaded."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedl.core.errors import ModelError
from edgedl.core.files import sha256_of
from edgedl.models import guard

KerasKind = Literal["keras-2", "keras-3", "h5", "saved-model", "weights"]

READABLE = "a full Keras model: .keras or .h5 of Keras 2 or 3, a SavedModel folder, or weights with their builder"


@dataclass(frozen=True)
class KerasFile:
    """A Keras file before anything of it is loaded. version: the Keras that wrote it, where the file tells."""

    path: Path
    kind: KerasKind
    version: str | None

    @property
    def words(self) -> str:
        """For people: "Keras 3.9.2 (h5)"."""
        return f"Keras {self.version}" if self.version else f"a file of kind {self.kind}"


def identify(path: Path) -> KerasFile:
    """Tell what a file or folder is. Raises ModelError when it is no Keras model, or one made to harm."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return KerasFile(path, "saved-model", None)
        raise ModelError(f"{path} is no model", required=READABLE, received="a folder without saved_model.pb")
    if not path.exists():
        raise ModelError(f"there is no {path}", required=READABLE)
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ModelError(f"cannot read {path}", received=str(error.strerror)) from None
    if head == b"\x89HDF\r\n\x1a\n":
        return _identify_h5(path)
    if head.startswith(b"PK"):
        return _identify_zip(path)
    if path.suffix == ".index" and path.with_suffix(".data-00000-of-00001").is_file():
        return KerasFile(path, "weights", None)
    raise ModelError(f"{path} is no Keras model", required=READABLE, received=_describe(head, path))


def _describe(head: bytes, path: Path) -> str:
    if not head:
        return "an empty file"
    if head.startswith(b"version "):
        return "a Git LFS pointer (`git lfs pull` brings the file)"
    if head[4:8] == b"TFL3":
        return "a TFLite model, which is already exported"
    return f"{path.stat().st_size} bytes that begin with {head!r}"


def _identify_zip(path: Path) -> KerasFile:
    try:
        with zipfile.ZipFile(path) as archive:
            guard.check_zip(path, archive)
            names = {name.replace("\\", "/"): name for name in archive.namelist()}
            metadata = json.loads(archive.read(names["metadata.json"]))
            archive.getinfo(names["config.json"])
        version = str(metadata["keras_version"])
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, NotImplementedError, TypeError) as error:
        raise ModelError(
            f"{path} is no whole .keras file",
            required="a zip with metadata.json, config.json and model.weights.h5",
            received=str(error).strip("'\""),
        ) from None
    return KerasFile(path, "keras-3" if version.startswith("3") else "keras-2", version)


def _identify_h5(path: Path) -> KerasFile:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            version, full = file.attrs.get("keras_version"), "model_config" in file.attrs
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{path} is no whole HDF5 file", required=READABLE, received=str(error)[:300]) from None
    told = version.decode(errors="replace") if isinstance(version, bytes) else version
    return KerasFile(path, "h5" if full else "weights", str(told) if told is not None else None)


def content_hash(path: Path) -> str:
    """Hash of a model file, or of all files of a SavedModel folder. Raises ModelError when there is none."""
    identify(path)
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    lines = "".join(f"{one.relative_to(path)} {sha256_of(one)}\n" for one in files)
    return hashlib.sha256(lines.encode()).hexdigest()
