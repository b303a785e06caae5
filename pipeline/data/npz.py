"""`npz`: NumPy's zipped arrays, as `numpy.savez(file, x=…, y=…)` and Keras's own data sets write them."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgedl.core.config import InputPath
from edgedl.core.errors import DataError
from edgedl.pipeline.data.arrays import ArrayPart, Content, raw_data
from edgedl.pipeline.data.base import Normalize, RawData, Source
from edgedl.pipeline.data.checks import TaskChoice, existing_file, listed, nearest

_NAMES = {
    "x": ("x_train", "x", "X_train", "X", "train_x", "train_images", "images", "inputs", "data", "features"),
    "y": ("y_train", "y", "Y_train", "Y", "train_y", "train_labels", "labels", "targets", "target", "label"),
    "x_test": ("x_test", "X_test", "test_x", "test_images", "images_test"),
    "y_test": ("y_test", "Y_test", "test_y", "test_labels", "labels_test"),
}


class Npz(Source):
    """Arrays in one `.npz` file: the first axis counts the examples."""

    source: Literal["npz"] = Field(default="npz", description="Arrays in a NumPy .npz file.")
    file: InputPath = Field(description="The .npz file.")
    x: str | None = Field(
        default=None, description="Key of the inputs; common names (x_train, x, images, …) are found."
    )
    y: str | None = Field(
        default=None, description="Key of the targets; common names (y_train, y, labels, …) are found."
    )
    x_test: str | None = Field(default=None, description="Key of the test inputs; x_test, test_images, … are found.")
    y_test: str | None = Field(default=None, description="Key of the test targets; y_test, test_labels, … are found.")
    content: Content = Field(
        default="auto",
        description="What an input is: 'image' (height × width, with 1 or 3 channels last) or 'features'. 'auto' takes "
        "8-bit arrays of two axes and any of three axes with 1 or 3 channels for images.",
    )
    task: TaskChoice = Field(
        default="auto", description="'auto': integers and text are classes, fractions are regression."
    )
    labels: tuple[str, ...] | None = Field(
        default=None, description="Names of the classes, in the order of their numbers."
    )
    raw_range: tuple[float, float] | None = Field(
        default=None,
        description="Smallest and largest raw value; 0 to 255 for 8-bit images, else what the training data has.",
    )
    normalize: Normalize | None = Field(
        default=None,
        description="How raw values become the model's input; by default '0..1' for images, else 'standard'.",
    )

    def load(self) -> RawData:
        """Read the arrays. Raises DataError."""
        path = existing_file(self.file, "data file")
        arrays = read_npz(path)
        keys = {role: self._key(role, path, arrays) for role in _NAMES}
        if (keys["x_test"] is None) != (keys["y_test"] is None):
            raise DataError(
                f"{path} has test {'targets' if keys['x_test'] is None else 'inputs'} only",
                received=f"keys {listed(arrays)}",
                advice="Name both with `x_test` and `y_test`",
            )

        def part(x: str, y: str) -> ArrayPart:
            return ArrayPart(arrays[x], arrays[y], f"{path} [{x}]", f"{path} [{y}]")

        return raw_data(
            part(keys["x"] or "", keys["y"] or ""),
            part(keys["x_test"], keys["y_test"]) if keys["x_test"] and keys["y_test"] else None,
            content=self.content,
            task=self.task,
            labels=self.labels,
            raw_range=self.raw_range,
            normalize=self.normalize,
        )

    def _key(self, role: str, path: Path, arrays: dict[str, NDArray[Any]]) -> str | None:
        """The key that plays `role`: the one that was named, or a common one. None: no such test array."""
        if asked := getattr(self, role):
            if asked in arrays:
                return asked
            near = nearest(asked, arrays)
            raise DataError(
                f"{path} has no array {asked!r}",
                required=f"a key for `{role}`",
                received=f"keys {listed(arrays)}",
                advice=f"Did you mean {near}?" if near else "Name one of them",
            )
        if found := next((name for name in _NAMES[role] if name in arrays), None):
            return found
        if role in ("x_test", "y_test"):
            return None
        raise DataError(
            f"{path} has no array with a usual name for `{role}`",
            required=listed(_NAMES[role]),
            received=f"keys {listed(arrays)}",
            advice=f"Say which one it is: data.{role}",
        )


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of the file. Pickled objects are refused: they could run code. Raises DataError."""
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{path} is not a whole .npz file",
            required="a zip of .npy arrays",
            received=f"{path.stat().st_size} bytes without a zip's directory",
            advice="It may be truncated (copy it again) or another format; numpy.savez writes one",
        )
    arrays: dict[str, NDArray[Any]] = {}
    key = "?"
    try:
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                arrays[key] = archive[key]
    except (ValueError, EOFError, OSError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path} [{key}] holds pickled Python objects, which can run code and are not read",
                required="numbers or text of one shape",
                advice="Save it again as a plain array (dtype=object is what must go)",
            ) from None
        raise DataError(
            f"{path} [{key}] cannot be read: {error}", advice="The file is damaged; copy or write it again"
        ) from error
    if wrong := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise DataError(f"{path} [{wrong[0]}] is not a NumPy array", advice="Write the file with numpy.savez")
    return arrays
