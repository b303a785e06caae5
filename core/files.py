"""Files that are whole or absent: atomic writes, hashes, sizes."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from edgedl.core.errors import EdgedlError, OutputError


@dataclass(frozen=True)
class FileRecord:
    """One file of an artifact: name relative to its folder, content hash, sizes in bytes.

    `gzip_bytes` is the size at gzip level 9: what an app's download pays for a model.
    """

    name: str
    sha256: str
    size_bytes: int
    gzip_bytes: int | None = None


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def gzip_size(path: Path) -> int:
    """Bytes of the file after gzip level 9."""
    return len(gzip.compress(path.read_bytes(), compresslevel=9, mtime=0))


def record_of(path: Path, root: Path, *, with_gzip: bool = False) -> FileRecord:
    """Describe `path`, named relative to `root`."""
    return FileRecord(
        name=path.relative_to(root).as_posix(),
        sha256=sha256_of(path),
        size_bytes=path.stat().st_size,
        gzip_bytes=gzip_size(path) if with_gzip else None,
    )


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`: readers see the old file or the new one, never a part of it.

    Raises OutputError when the folder cannot be written to or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def remove_folder(folder: Path) -> None:
    """Remove a folder and everything in it; absent is fine."""
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def output_errors(target: Path) -> Generator[None]:
    """Turn the operating system's refusals to write `target` into one OutputError."""
    try:
        yield
    except OSError as error:
        raise as_output_error(error, target) from error


_REFUSALS = {
    errno.ENOSPC: ("the disk is full", "free some space, or choose another folder"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or choose another folder"),
    errno.EFBIG: ("the file is larger than this system allows", "raise the limit, or choose another folder"),
    errno.EROFS: ("the folder is read-only", "choose a writable folder"),
    errno.EACCES: ("permission denied", "choose a writable folder"),
    errno.EPERM: ("permission denied", "choose a writable folder"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "choose another folder"),
    errno.EISDIR: ("the path is a folder, not a file", "choose another name"),
    errno.EEXIST: ("the path is a file, not a folder", "choose another folder"),
    errno.ENAMETOOLONG: ("the name is too long for this system", "choose a shorter one"),
}  # fmt: skip


def is_refusal(error: OSError) -> bool:
    """Whether this is the operating system refusing a write, and no bug of ours."""
    return error.errno in _REFUSALS


def as_output_error(error: OSError, target: Path | str, *, doing: str = "write") -> EdgedlError:
    """The OutputError that says what the operating system said about `target`."""
    reason, advice = _REFUSALS.get(error.errno or 0, (error.strerror or str(error), "choose another folder"))
    return OutputError(f"cannot {doing} {target}: {reason}", advice=advice[0].upper() + advice[1:])
