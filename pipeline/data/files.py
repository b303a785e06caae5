"""Files below a folder, or in a zip that is read in place: what sources of many small files list and read."""

from __future__ import annotations

import functools
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from edgedl.core.errors import DataError
from edgedl.pipeline.data.checks import existing_file, existing_folder


def _regular(pattern: str) -> str:
    try:
        names = re.compile(pattern).groupindex
    except re.error as error:
        raise PydanticCustomError("pattern", "{message}", {"message": f"a regular expression ({error})"}) from None
    if not {"label", "group"} & set(names):
        raise PydanticCustomError("pattern", "a regular expression with a group (?P<label>…) or (?P<group>…)")
    return pattern


Pattern = Annotated[str, AfterValidator(_regular)]
"""A regular expression that is searched in a file's path for its class or for what it belongs to."""


def has_group(pattern: str | None) -> bool:
    """Whether files that share a (?P<group>…) stay together."""
    return pattern is not None and "group" in re.compile(pattern).groupindex


@dataclass(frozen=True)
class FileTree:
    """root: the folder or the zip. folders, files: below it, as sorted relative paths with `/`.

    Hidden ones (`.…`, `__MACOSX`, `Thumbs.db`) are passed over.
    """

    root: Path
    folders: tuple[str, ...]
    files: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """The content of a file. Raises OSError when it cannot be read any more."""
        if self.root.is_dir():
            return (self.root / name).read_bytes()
        try:
            return _opened(self.root, self.root.stat().st_mtime_ns).read(name)
        except (zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError, RuntimeError, EOFError) as error:
            raise OSError(f"damaged in the zip: {error}") from error

    def path(self, name: str) -> str:
        """Where a file is, for people."""
        return str(self.root / name)

    def folders_in(self, folder: str = "") -> tuple[str, ...]:
        """Names of the folders right in `folder` ("": the top)."""
        return tuple(PurePosixPath(one).name for one in self.folders if _parent(one) == folder)

    def files_in(self, folder: str = "") -> tuple[str, ...]:
        """Files anywhere below `folder` ("": the top), as relative paths of the tree."""
        return tuple(one for one in self.files if not folder or one.startswith(f"{folder}/"))


def file_tree(path: Path, what: str) -> FileTree:
    """List a folder or a zip. Raises DataError when it is neither."""
    if path.expanduser().is_file() and zipfile.is_zipfile(path.expanduser()):
        return _zip_tree(existing_file(path, what))
    root = existing_folder(path, what)
    folders: list[str] = []
    files: list[str] = []
    for entry in root.rglob("*"):
        name = entry.relative_to(root).as_posix()
        if not _hidden(name):
            (folders if entry.is_dir() else files).append(name)
    return FileTree(root, tuple(sorted(folders)), tuple(sorted(files)))


def _zip_tree(root: Path) -> FileTree:
    try:
        archive = _opened(root, root.stat().st_mtime_ns)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"{root} cannot be read as a zip", received=str(error), advice="Copy it again") from None
    listed = [info for info in archive.infolist() if not _hidden(info.filename.rstrip("/"))]
    if locked := next((info.filename for info in listed if info.flag_bits & 1), None):
        raise DataError(f"{root} is encrypted", received=locked, advice="Write the zip without a password")
    files = {info.filename for info in listed if not info.is_dir()}
    folders = {info.filename.rstrip("/") for info in listed if info.is_dir()}
    folders |= {str(parent) for name in files for parent in PurePosixPath(name).parents if str(parent) != "."}
    return FileTree(root, tuple(sorted(folders)), tuple(sorted(files)))


@functools.lru_cache(maxsize=8)
def _opened(root: Path, modified_ns: int) -> zipfile.ZipFile:
    """The zip, kept open: its directory is read once. Reading is safe from many threads (zipfile locks)."""
    return zipfile.ZipFile(root)


def _parent(name: str) -> str:
    parent = str(PurePosixPath(name).parent)
    return "" if parent == "." else parent


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__")) or part == "Thumbs.db" for part in PurePosixPath(name).parts)
