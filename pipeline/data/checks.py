"""What every source has to make sure of: files are there, values are numbers, targets are targets."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgedl.core.errors import DataError

FoundTask = Literal["classification", "regression"]
TaskChoice = Literal["auto", FoundTask]

MOST_NUMBERED_CLASSES = 20
"""Whole numbers that are not stored as integers are taken for classes up to this many different ones."""

_CHUNK = 1 << 22  # values looked at in one go


def existing_file(path: Path, what: str) -> Path:
    """The file, or a DataError that says what is there instead. A leading `~` is the home folder."""
    path = path.expanduser()
    if path.is_dir():
        raise DataError(
            f"{what} {path} is a folder", required="a file", advice="Name the file, or use source: image-folder or idx"
        )
    if not path.is_file():
        raise DataError(f"{what} {path} does not exist", advice=_nearest_path(path))
    return path


def existing_folder(path: Path, what: str) -> Path:
    """The folder, or a DataError that says what is there instead. A leading `~` is the home folder."""
    path = path.expanduser()
    if path.is_file():
        raise DataError(f"{what} {path} is a file", required="a folder", advice="Name the folder that holds it")
    if not path.is_dir():
        raise DataError(f"{what} {path} does not exist", advice=_nearest_path(path))
    return path


def _nearest_path(path: Path) -> str:
    if not path.parent.is_dir():
        return f"Its folder {path.parent} does not exist either; check the path"
    if near := nearest(path.name, (entry.name for entry in path.parent.iterdir())):
        return f"Did you mean {path.parent / near}?"
    return "Check the path; relative ones start where the command runs"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The most similar of `names`, or None when none is similar."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1)), None)


def listed(names: Iterable[Any], most: int = 8) -> str:
    """`a, b, c` or `a, b, … (12 in all)`."""
    names = [str(name) for name in names]
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])}, … ({len(names)} in all)"


def check_finite(array: NDArray[Any], where: str) -> None:
    """Raise DataError with count and first position if there is a NaN or an infinity. Looks at chunks."""
    if array.dtype.kind != "f" or not array.size:
        return
    width = max(array[0].size, 1)
    rows = max(_CHUNK // width, 1)
    bad, first = 0, None
    for start in range(0, len(array), rows):
        wrong = ~np.isfinite(array[start : start + rows])
        if found := int(wrong.sum()):
            bad += found
            if first is None:
                index = np.argwhere(wrong)[0]
                first = (start + int(index[0]), *(int(i) for i in index[1:]))
    if first is not None:
        value = array[first]
        raise DataError(
            f"{where} has {bad} value{'s' * (bad > 1)} that {'are' if bad > 1 else 'is'} not finite",
            required="numbers",
            received=f"{value} at [{', '.join(map(str, first))}]",
            advice="Remove or fill in those examples",
        )


def check_lengths(inputs: int, targets: int, where: str) -> None:
    """Raise DataError unless there is one target for each input, and at least one of both."""
    if inputs != targets:
        raise DataError(
            f"{where}: inputs and targets differ in length",
            received=f"{inputs} inputs, {targets} targets",
            advice="Both must list the same examples in the same order",
        )
    if not inputs:
        raise DataError(f"{where} holds no examples")


def check_inputs(array: NDArray[Any], where: str) -> NDArray[Any]:
    """Real numbers with an axis beside the examples', finite; doubles become float32, booleans uint8.

    Raises DataError.
    """
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{where} is not numeric",
            required="integers or floating-point numbers",
            received=f"type {array.dtype}",
            advice="Convert it before saving",
        )
    if array.ndim < 2:
        raise DataError(
            f"{where} has {'no axis' if array.ndim == 0 else 'a single axis'}",
            required="examples × values, e.g. (n, 28, 28)",
            received=f"shape {array.shape}",
            advice="Save one row, image or window an example",
        )
    if not array.size:
        raise DataError(f"{where} is empty", received=f"shape {array.shape}")
    check_finite(array, where)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f" and array.dtype != np.float32:
        with np.errstate(over="ignore"):
            narrow = array.astype(np.float32)
        check_finite(narrow, f"{where}, as 32-bit floats,")
        return narrow
    return array


def read_targets(
    values: NDArray[Any], where: str, *, task: TaskChoice = "auto", labels: Sequence[str] | None = None
) -> tuple[NDArray[Any], FoundTask, tuple[str, ...]]:
    """Class indices (n,) int64 or values (n, k) float32, the task they mean, and the names of the classes.

    With task "auto", text, integers, one-hot rows and up to 20 different whole numbers are classes; everything else
    is regression. Classes given as numbers count from 0 without a gap; labels: their names. Raises DataError.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in (1, 2) or values.dtype.kind not in "biufUS":
        raise DataError(
            f"{where} cannot be used as targets",
            required="one class or number (or one row of numbers) an example",
            received=f"shape {values.shape}, type {values.dtype}",
        )
    if values.dtype.kind in "US":
        return _named_classes(values, where, task, labels)
    check_finite(values, where)
    if values.ndim == 2 and task != "regression" and _is_one_hot(values):
        labels = labels or tuple(str(number) for number in range(values.shape[1]))
        values = values.argmax(axis=1)
    if values.ndim == 1 and task != "regression" and (task == "classification" or _means_classes(values)):
        return _numbered_classes(values, where, labels)
    if task == "classification":
        raise DataError(
            f"{where} does not hold classes",
            required="one integer an example, or one-hot rows in which every class occurs",
            received=f"shape {values.shape}, type {values.dtype}",
        )
    if labels:
        raise DataError(
            f"{where} holds numbers, not classes",
            advice="Leave out `labels`, or set `task: classification` if they are classes",
        )
    return values.reshape(len(values), -1).astype(np.float32), "regression", ()


def _is_one_hot(values: NDArray[Any]) -> bool:
    return bool(((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all())


def _means_classes(values: NDArray[Any]) -> bool:
    if values.dtype.kind in "biu":
        return True
    return bool((values == np.rint(values)).all()) and len(np.unique(values)) <= MOST_NUMBERED_CLASSES


def _named_classes(
    values: NDArray[Any], where: str, task: TaskChoice, labels: Sequence[str] | None
) -> tuple[NDArray[np.int64], FoundTask, tuple[str, ...]]:
    values = values.astype(str)
    if task == "regression":
        raise DataError(f"{where} is text", required="numbers for regression", received=repr(str(values[0])))
    if values.ndim != 1:
        raise DataError(f"{where} has {values.shape[1]} columns of text", required="one class an example")
    found, indices = np.unique(values, return_inverse=True)
    if not labels and len(found) < 2:
        raise one_class_only(where, str(found[0]), len(values))
    names = tuple(labels) if labels else tuple(str(name) for name in found)
    if unknown := [str(name) for name in found if name not in names]:
        position = int(np.flatnonzero(values == unknown[0])[0])
        raise DataError(
            f"{where} has a class that `labels` does not name",
            required=listed(names),
            received=f"{unknown[0]!r} at [{position}]",
        )
    place = np.array([names.index(str(name)) for name in found], dtype=np.int64)
    return place[indices.reshape(-1)], "classification", names


def _numbered_classes(
    values: NDArray[Any], where: str, labels: Sequence[str] | None
) -> tuple[NDArray[np.int64], FoundTask, tuple[str, ...]]:
    wrong = np.flatnonzero(values != np.rint(values)) if values.dtype.kind == "f" else np.array([], dtype=np.int64)
    if wrong.size:
        raise DataError(
            f"{where} has {wrong.size} labels that are not integers",
            received=f"{values[wrong[0]]} at [{wrong[0]}]",
            advice="Number the classes from 0, or set `task: regression`",
        )
    targets = values.astype(np.int64)
    present = np.unique(targets)
    if not labels and len(present) < 2:
        raise one_class_only(where, str(present[0]), len(targets))
    n_classes = len(labels) if labels else int(present[-1]) + 1
    outside = np.flatnonzero((targets < 0) | (targets >= n_classes))
    if not outside.size and not labels and len(present) < n_classes:
        # Without names, a gap in the numbers means that the labels beyond it are wrong.
        gap = next(number for number, label in enumerate(present) if number != label)
        outside, n_classes = np.flatnonzero(targets > gap), gap
        received = f"no example of class {gap}, but label {targets[outside[0]]} at [{outside[0]}]"
    elif outside.size:
        received = f"{targets[outside[0]]} at [{outside[0]}]"
    else:
        names = tuple(labels) if labels else tuple(str(number) for number in range(n_classes))
        return targets, "classification", names
    raise DataError(
        f"{where} has {outside.size} label{'s' * (outside.size > 1)} out of range",
        required=f"0 to {n_classes - 1}" if labels else "classes numbered from 0 without a gap",
        received=received,
        advice="Correct them, or name every class with `labels`" if not labels else "Correct them, or add their names",
    )


def one_class_only(where: str, name: str, count: int) -> DataError:
    """There is nothing to tell apart."""
    return DataError(
        f"{where} has one class only",
        required="at least two classes",
        received=f"{name!r}, {count} times",
        advice="Add examples of another class",
    )
