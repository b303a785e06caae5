"""`keras:<name>`: the downloadable sets of keras.datasets, with checksum and cache.

Names, files and checksums are those of Keras; CIFAR comes as the authors' binary version (the one Keras fetches is a
pickle) and Fashion-MNIST with its authors' checksums, as Keras has none for it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from edgedl.core.config import InputPath
from edgedl.core.errors import DataError
from edgedl.pipeline.data.arrays import ArrayPart
from edgedl.pipeline.data.arrays import raw_data as raw_data_of
from edgedl.pipeline.data.base import Normalize, RawData, Source
from edgedl.pipeline.data.download import Remote, fetch
from edgedl.pipeline.data.idx import read_idx
from edgedl.pipeline.data.npz import read_npz

_GOOGLE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
_TORONTO = "https://www.cs.toronto.edu/~kriz"

_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@dataclass(frozen=True)
class Loaded:
    """Training and test part (if the set has one), and the names of the classes (None: their numbers)."""

    train: ArrayPart
    test: ArrayPart | None = None
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Set:
    """The files of a set, and the function that reads them, in that order."""

    files: tuple[Remote, ...]
    read: Callable[[list[Path]], Loaded]


class KerasSet(Source):
    """A well-known set, fetched once and kept."""

    source: Literal[
        "keras:mnist",
        "keras:fashion-mnist",
        "keras:cifar10",
        "keras:cifar100",
        "keras:boston-housing",
        "keras:california-housing",
    ] = Field(description="A set of keras.datasets; EDGEDL_DATASETS_URL may name a mirror.")
    cache: InputPath | None = Field(
        default=None, description="Where the files are kept; by default the user's cache folder."
    )
    normalize: Normalize | None = Field(
        default=None,
        description="How raw values become the model's input; by default '0..1' for images, else 'standard'.",
    )

    def load(self) -> RawData:
        """Fetch what is not in the cache, and read it. Raises DataError."""
        chosen = SETS[self.source]
        folder = self.cache or _default_cache()
        loaded = chosen.read([fetch(remote, folder) for remote in chosen.files])
        return raw_data_of(loaded.train, loaded.test, labels=loaded.labels, normalize=self.normalize)


def _default_cache() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("edgedl") / "datasets"


def _npz_with_test(paths: list[Path]) -> Loaded:
    arrays = read_npz(paths[0])
    name = paths[0].name
    return Loaded(
        ArrayPart(arrays["x_train"], arrays["y_train"], f"{name} [x_train]", f"{name} [y_train]"),
        ArrayPart(arrays["x_test"], arrays["y_test"], f"{name} [x_test]", f"{name} [y_test]"),
    )


def _npz_table(paths: list[Path]) -> Loaded:
    arrays = read_npz(paths[0])
    return Loaded(ArrayPart(arrays["x"], arrays["y"], f"{paths[0].name} [x]", f"{paths[0].name} [y]"))


def _fashion(paths: list[Path]) -> Loaded:
    parts = [
        ArrayPart(read_idx(images), read_idx(labels), images.name, labels.name)
        for images, labels in (paths[:2], paths[2:])
    ]
    return Loaded(parts[0], parts[1], _FASHION)


def _cifar10(paths: list[Path]) -> Loaded:
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    return _cifar(paths[0], "cifar-10-batches-bin", names, "test_batch.bin", "batches.meta.txt")


def _cifar100(paths: list[Path]) -> Loaded:
    return _cifar(paths[0], "cifar-100-binary", ["train.bin"], "test.bin", "fine_label_names.txt")


def _cifar(archive: Path, folder: str, train: list[str], test: str, names: str) -> Loaded:
    """Records of label bytes (the last is the fine one), then 32×32 red, green and blue values."""
    with tarfile.open(archive) as tar:

        def content(name: str) -> bytes:
            file = tar.extractfile(f"{folder}/{name}")
            if file is None:
                raise DataError(f"{archive} has no file {folder}/{name}", advice="Remove it, to have it fetched again")
            return file.read()

        def part(files: list[str], label_bytes: int) -> ArrayPart:
            records = np.frombuffer(b"".join(map(content, files)), np.uint8).reshape(-1, label_bytes + 3 * 32 * 32)
            images = records[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            where = f"{archive.name} {_span(files)}"
            return ArrayPart(np.ascontiguousarray(images), records[:, label_bytes - 1], where, f"{where}, labels")

        label_bytes = 1 if folder.startswith("cifar-10-") else 2
        labels = tuple(content(names).decode().split())
        return Loaded(part(train, label_bytes), part([test], label_bytes), labels)


def _span(files: list[str]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} to {files[-1]}"


SETS: dict[str, Set] = {
    "keras:mnist": Set(
        (Remote(_GOOGLE, "mnist.npz", "sha256:731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"),),
        _npz_with_test,
    ),
    "keras:fashion-mnist": Set(
        (
            Remote(_GOOGLE, "train-images-idx3-ubyte.gz", "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            Remote(_GOOGLE, "train-labels-idx1-ubyte.gz", "md5:25c81989df183df01b3e8a0aad5dffbe"),
            Remote(_GOOGLE, "t10k-images-idx3-ubyte.gz", "md5:bef4ecab320f06d8554ea6380940ec79"),
            Remote(_GOOGLE, "t10k-labels-idx1-ubyte.gz", "md5:bb300cfdad3c16e7a12a480ee83cd310"),
        ),
        _fashion,
    ),
    "keras:cifar10": Set(
        (Remote(_TORONTO, "cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530"),),
        _cifar10,
    ),
    "keras:cifar100": Set(
        (Remote(_TORONTO, "cifar-100-binary.tar.gz", "md5:03b5dce01913d631647c71ecec9e9cb8"),),
        _cifar100,
    ),
    "keras:boston-housing": Set(
        (
            Remote(
                _GOOGLE, "boston_housing.npz", "sha256:f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5"
            ),
        ),
        _npz_table,
    ),
    "keras:california-housing": Set(
        (
            Remote(
                _GOOGLE,
                "california_housing.npz",
                "sha256:1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f",
            ),
        ),
        _npz_table,
    ),
}
