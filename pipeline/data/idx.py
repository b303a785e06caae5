"""`idx`: the format of MNIST and its relatives (http://yann.lecun.com/exdb/mnist), gzipped or not.

Two zero bytes, one that says the type, one the number of axes, each axis' length as a big-endian 32-bit number, then
the values, big-endian, last axis fastest.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from edgedl.core.config import InputPath
from edgedl.core.errors import DataError
from edgedl.pipeline.data.arrays import ArrayPart, raw_data
from edgedl.pipeline.data.base import Normalize, RawData, Source
from edgedl.pipeline.data.checks import existing_file, existing_folder, listed

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_AT_MOST = 1100  # deflate shrinks by a factor of 1,032 at most (https://zlib.net/zlib_tech.html)
_CHUNK = 1 << 20
_USUAL = re.compile(r"(?P<part>train|t10k|test)[-_.](?P<what>images|labels)([-_.]idx\d)?([-_.]ubyte)?(\.gz)?", re.ASCII)


class Idx(Source):
    """Images and targets in IDX files: a folder with MNIST's usual names, or the files by name."""

    source: Literal["idx"] = Field(default="idx", description="MNIST's file format.")
    folder: InputPath | None = Field(
        default=None,
        description="Folder with train-images-idx3-ubyte(.gz), train-labels-idx1-ubyte(.gz), t10k-… for the test.",
    )
    images: InputPath | None = Field(default=None, description="The images' file, if not `folder`.")
    targets: InputPath | None = Field(default=None, description="The targets' file, if not `folder`.")
    test_images: InputPath | None = Field(default=None, description="The test images' file, if there is one.")
    test_targets: InputPath | None = Field(default=None, description="The test targets' file, if there is one.")
    labels: tuple[str, ...] | None = Field(
        default=None, description="Names of the classes, in the order of their numbers."
    )
    normalize: Normalize | None = Field(
        default=None,
        description="How raw values become the model's input; by default '0..1' for images, else 'standard'.",
    )

    @model_validator(mode="after")
    def _one_way_of_naming(self) -> Idx:
        pairs = (self.images, self.targets), (self.test_images, self.test_targets)
        half = any((first is None) != (second is None) for first, second in pairs)
        by_name = [path for pair in pairs for path in pair if path]
        if half or (self.folder is not None) == bool(by_name) or (self.test_images and not self.images):
            raise PydanticCustomError("idx_files", "`folder`, or `images` and `targets` (and both of the test)")
        return self

    def load(self) -> RawData:
        """Read the files. Raises DataError."""
        if self.folder is not None:
            files = _usual_files(existing_folder(self.folder, "data folder"))
        else:
            assert self.images and self.targets
            files = {"images": self.images, "labels": self.targets}
            if self.test_images and self.test_targets:
                files |= {"test images": self.test_images, "test labels": self.test_targets}

        def part(images: Path, targets: Path) -> ArrayPart:
            return ArrayPart(read_idx(images), read_idx(targets), str(images), str(targets))

        return raw_data(
            part(files["images"], files["labels"]),
            part(files["test images"], files["test labels"]) if "test images" in files else None,
            labels=self.labels,
            normalize=self.normalize,
        )


def _usual_files(folder: Path) -> dict[str, Path]:
    """Images and labels (and their test pair) by MNIST's names; a prefix such as `emnist-letters-` may stand before."""
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    found: dict[str, Path] = {}
    for name in names:
        if match := re.search(_USUAL.pattern + "$", name):
            role = ("" if match["part"] == "train" else "test ") + match["what"]
            if role in found and found[role].name.removesuffix(".gz") != name.removesuffix(".gz"):
                raise DataError(
                    f"{folder} has two files for the {role}",
                    received=f"{found[role].name} and {name}",
                    advice="Name the files: data.images, data.targets",
                )
            found.setdefault(role, folder / name)
    missing = [role for role in ("images", "labels") if role not in found]
    if not missing and ("test images" in found) != ("test labels" in found):
        missing = ["test labels" if "test images" in found else "test images"]
    if missing:
        raise DataError(
            f"{folder} has no file for the {' and '.join(missing)}",
            required="train-images-idx3-ubyte and train-labels-idx1-ubyte, t10k-… for the test, .gz or not",
            received=listed(names) or "an empty folder",
            advice="Rename them, or name the files: data.images, data.targets",
        )
    return found


def read_idx(path: Path) -> NDArray[Any]:
    """The array in an IDX file, gzipped or not. Memory is taken only for bytes that are there. Raises DataError."""
    path = existing_file(path, "data file")
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            dtype, shape = _header(file, path)
            declared = math.prod(shape) * dtype.itemsize
            if declared > size_bytes * (_GZIP_AT_MOST if zipped else 1):
                raise _wrong_length(path, declared, f"a file of {size_bytes} bytes")
            content = _read_at_most(file, declared + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged .gz file", received=str(error), advice="Copy it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read", received=error.strerror or str(error)) from error
    if len(content) != declared:
        received = f"{len(content)} bytes" if len(content) < declared else f"more than {declared} bytes"
        raise _wrong_length(path, declared, received)
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _header(file: BinaryIO | gzip.GzipFile, path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES or not start[3]:
        raise DataError(
            f"{path} is not an IDX file",
            required="two zero bytes, a type and a number of axes at the start",
            received=start.hex(" ") or "an empty file",
            advice="Check that it is the right file, and unpacked from .zip or .tar",
        )
    lengths = file.read(4 * start[3])
    if len(lengths) < 4 * start[3]:
        raise DataError(f"{path} is truncated in its header", advice="Copy it again")
    return np.dtype(_TYPES[start[2]]), tuple(int(length) for length in np.frombuffer(lengths, ">u4"))


def _read_at_most(file: BinaryIO | gzip.GzipFile, n: int) -> bytes:
    pieces: list[bytes] = []
    while n > 0 and (piece := file.read(min(n, _CHUNK))):
        pieces.append(piece)
        n -= len(piece)
    return b"".join(pieces)


def _wrong_length(path: Path, declared: int, received: str) -> DataError:
    return DataError(
        f"{path} does not hold what its header declares",
        required=f"{declared} bytes of values",
        received=received,
        advice="It is truncated or damaged; copy it again",
    )
