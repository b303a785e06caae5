"""`series`: time series cut into windows of one length.

    rows in time order ─► windows of `length` rows, one every `stride`
                       ─► a class, the values `horizon` rows later, or no target

Windows of one series never stand on both sides of a split: whole series are drawn, or every series is cut in three
stretches (the first for training, the last for the test) and windows do not reach over a cut.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from edgedl.core.config import InputPath
from edgedl.core.contract import InputContract, Task
from edgedl.core.errors import ConfigError, DataError
from edgedl.pipeline.data.base import ArrayExamples, RawData, Source
from edgedl.pipeline.data.checks import check_finite, existing_file, listed, nearest, one_class_only
from edgedl.pipeline.data.files import FileTree, Pattern, file_tree, has_group
from edgedl.pipeline.data.npz import read_npz
from edgedl.pipeline.data.split import count_of


class Series(Source):
    """Windows of time series: from a CSV, a folder (or zip) of CSVs, one series each, or an NPZ (n, time, channels)."""

    source: Literal["series"] = Field(default="series", description="Time series in .csv or .npz, cut into windows.")
    path: InputPath = Field(description="A .csv, a folder or zip of them (a series each), or a .npz.")
    length: PositiveInt | None = Field(
        default=None, description="Rows of a window; by default (NPZ only) the longest series."
    )
    stride: PositiveInt | None = Field(default=None, description="Rows from window to window; by default `length`.")
    short: Literal["pad", "drop"] = Field(
        default="pad", description="A series shorter than a window: its last row is repeated, or it is left out."
    )
    columns: tuple[str, ...] | None = Field(
        default=None, description="CSV: the channels; by default every column that is not named elsewhere here."
    )
    delimiter: str = Field(default=",", min_length=1, max_length=1, description="CSV: what stands between cells.")
    label: str | None = Field(default=None, description="CSV: the column with each row's class.")
    label_of_window: Literal["majority", "last"] = Field(
        default="majority", description="Which of its rows' classes a window has (a tie: the first by name)."
    )
    series: str | None = Field(default=None, description="CSV: the column that tells the series in one file apart.")
    time: str | None = Field(default=None, description="CSV: the column with the time; only `anomalies` needs it.")
    pattern: Pattern | None = Field(
        default=None,
        description="Folder: a regular expression for each file's path; (?P<label>…) is its class, and files that "
        "share a (?P<group>…) are split together.",
    )
    anomalies: InputPath | None = Field(
        default=None,
        description="Folder: a JSON file {path: [[first time, last time], …]}; windows that touch one are anomalies, "
        "which only the test keeps.",
    )
    x: str = Field(default="x_train", description="NPZ: key of the series, (n, time) or (n, time, channels).")
    y: str = Field(default="y_train", description="NPZ: key of their classes (or numbers, with fractions).")
    x_test: str = Field(default="x_test", description="NPZ: key of the test series, used if it is there.")
    y_test: str = Field(default="y_test", description="NPZ: key of their classes.")
    horizon: PositiveInt | None = Field(
        default=None, description="Predict all channels so many rows after the window, instead of a class."
    )
    split_by: Literal["auto", "series", "time"] = Field(
        default="auto",
        description="series: a series is in one part of the split; time: each is cut in three. auto: by series from "
        "three series on, else (and for anomalies) by time.",
    )
    normalize: Literal["standard", "none"] = Field(default="standard", description="Per channel, or as it is.")
    fold_standardisation: bool = Field(
        default=True, description="The model standardises its input itself (a fixed first layer): the app feeds raw."
    )

    @property
    def folds(self) -> bool:
        """Where there is something to fold."""
        return self.fold_standardisation and self.normalize == "standard"

    @model_validator(mode="after")
    def _one_target(self) -> Series:
        asked = [
            name
            for name in ("label", "horizon", "anomalies")
            if getattr(self, name) is not None and not (name == "label" and self.horizon)
        ]
        if len(asked) > 1:
            raise ConfigError("data asks for several things of a window", required="one", received=listed(asked))
        return self

    def load(self) -> RawData:
        """Read all series and cut them. Raises DataError, ConfigError."""
        path = self.path.expanduser()
        if path.suffix.lower() == ".npz":
            return self._load_npz(existing_file(self.path, "data file"))
        if path.is_dir() or path.suffix.lower() == ".zip":
            tree = file_tree(self.path, "folder of series")
            found, columns = self._read_tree(tree)
        else:
            file = existing_file(self.path, "data file")
            found, columns = self._read_csv(file.read_bytes(), str(file), None)
            intervals = self._read_anomalies()
            found = [self._marked(one, _for_file(str(file), intervals, [str(file)])) for one in found]
        if self.length is None:
            raise ConfigError(
                "data.length is needed for series in CSV",
                required="rows of a window",
                received=f"series of {min(map(len, found))} to {max(map(len, found))} rows",
            )
        return self._windows(found, columns, self.length)

    # --- reading ---

    def _read_tree(self, tree: FileTree) -> tuple[list[OneSeries], tuple[str, ...]]:
        files = [name for name in tree.files if name.lower().endswith((".csv", ".tsv"))]
        if not files:
            raise DataError(f"{tree.root} has no .csv files", received=f"{len(tree.files)} other files")
        compiled = re.compile(self.pattern) if self.pattern else None
        intervals, paths = self._read_anomalies(), [tree.path(name) for name in files]
        found: list[OneSeries] = []
        columns: tuple[str, ...] | None = None
        for name in files:
            match = compiled.search(name) if compiled else None
            label = match["label"] if match and compiled and "label" in compiled.groupindex else None
            if compiled and "label" in compiled.groupindex and not label:
                raise DataError(
                    f"{tree.path(name)} is of no class", required=f"a path that {self.pattern!r} finds a label in"
                )
            some, names = self._read_csv(tree.read(name), tree.path(name), label)
            if columns is not None and names != columns:
                raise DataError(
                    f"{tree.path(name)} has other columns than the files before",
                    required=listed(columns),
                    received=listed(names),
                    advice="Name those that all have: data.columns",
                )
            columns = names
            group = match["group"] if match and has_group(self.pattern) and match["group"] else name
            inside = _for_file(tree.path(name), intervals, paths)
            found += [self._marked(replace(one, group=f"{group} {one.group}"), inside) for one in some]
        return found, columns or ()

    def _marked(self, one: OneSeries, spans: list[tuple[str, str]]) -> OneSeries:
        """With the rows inside a span marked, where anomalies are asked for."""
        return one if self.anomalies is None else replace(one, labels=_anomalous(one, spans))

    def _read_anomalies(self) -> dict[str, list[tuple[str, str]]]:
        if self.anomalies is None:
            return {}
        if self.time is None:
            raise ConfigError("data.anomalies needs data.time", required="the column with the time")
        path = existing_file(self.anomalies, "anomaly file")
        try:
            content = json.loads(path.read_text())
            return {name: [(str(low), str(high)) for low, high in spans] for name, spans in content.items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise DataError(
                f"{path} is no list of anomalies", required="{path: [[first, last], …]}", received=str(error)[:200]
            ) from None

    def _read_csv(self, content: bytes, where: str, label: str | None) -> tuple[list[OneSeries], tuple[str, ...]]:
        """The series of one file (one, or one for each value of the `series` column), and the channels' names."""
        try:
            rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=self.delimiter))
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where} is not a text file in UTF-8", received=error.reason, advice="Save it so"
            ) from None
        except csv.Error as error:
            raise DataError(f"{where} cannot be read as a table", received=str(error)) from None
        rows = [row for row in rows if any(cell.strip() for cell in row)]
        if len(rows) < 2:
            raise DataError(f"{where} has no rows", required="a header and rows")
        header, body = [name.strip() for name in rows[0]], rows[1:]
        if (odd := next((i for i, row in enumerate(body) if len(row) != len(header)), None)) is not None:
            raise DataError(
                f"{where} row {odd + 2} has {len(body[odd])} cells", required=f"{len(header)}, as the header"
            )
        named = [name for name in (self.label, self.series, self.time) if name is not None]
        for name in (*named, *(self.columns or ())):
            if name not in header:
                near = nearest(name, header)
                advice = f"Did you mean {near!r}?" if near else None
                raise DataError(f"{where} has no column {name!r}", received=f"columns {listed(header)}", advice=advice)
        columns = self.columns or tuple(name for name in header if name not in named)
        values = _numbers(body, header, columns, where)

        def cells(name: str | None) -> list[str]:
            return [row[header.index(name)].strip() for row in body] if name else []

        ids = np.array(cells(self.series) or [""] * len(body))
        labels, times = np.array(cells(self.label) or [label or ""] * len(body)), np.array(cells(self.time))
        found: list[OneSeries] = []
        for one in dict.fromkeys(ids.tolist()):
            at = np.flatnonzero(ids == one)
            found.append(OneSeries(values[at], labels[at], one, times[at] if len(times) else times))
        return found, columns

    def _load_npz(self, path: Path) -> RawData:
        arrays = read_npz(path)
        found = _npz_series(arrays, self.x, self.y, path, self.horizon is None)
        test = None
        if self.x_test in arrays:
            test = _npz_series(arrays, self.x_test, self.y_test, path, self.horizon is None)
        length = self.length or max(len(one) for one in found)
        raw = self._windows(found, tuple(f"channel {i}" for i in range(found[0].values.shape[1])), length)
        if test is None:
            return raw
        inputs, rows_after, labels, _ = self._cut(test, length)
        targets, _ = self._targets(rows_after, labels, raw.labels)
        return replace(raw, test=ArrayExamples(inputs, targets))

    # --- cutting ---

    def _windows(self, found: list[OneSeries], columns: tuple[str, ...], length: int) -> RawData:
        few = self.anomalies is not None or len({one.group for one in found}) < 3
        by_time = self.split_by == "time" or (self.split_by == "auto" and few)
        stretches = {"train": found}
        if by_time:
            stretches = _in_time(found, self.split.validation, self.split.test)
        cut = {part: self._cut(series, length) for part, series in stretches.items()}
        if not len(cut["train"][0]):
            raise DataError(
                "no series is as long as a window",
                required=f"{length + (self.horizon or 0)} rows in a row",
                received=f"at most {max(map(len, stretches['train']))} in training",
                advice="Make data.length smaller, or set data.short: pad",
            )
        names = self._class_names(label for _, _, labels, _ in cut.values() for label in labels)
        parts: dict[str, ArrayExamples] = {}
        task: Task = "reconstruction"
        skipped: list[str] = []
        groups = cut["train"][3]
        for part, (inputs, rows_after, labels, _) in cut.items():
            targets, task = self._targets(rows_after, labels, names)
            parts[part] = ArrayExamples(inputs, targets)
        if task == "anomaly-detection" and not by_time:
            raise ConfigError("data.anomalies needs data.split_by: time", received="series")
        if task == "anomaly-detection":
            for part in ("train", "validation"):
                normal = np.flatnonzero(parts[part].targets == 0)
                if out := len(parts[part]) - len(normal):
                    skipped.append(f"{out} anomalous windows in the {part} stretch: only normal ones are learnt")
                groups = groups[normal] if part == "train" else groups
                parts[part] = parts[part].select(normal)
        return RawData(
            examples=parts["train"],
            task=task,
            input=InputContract("series", (length, len(columns)), feature_names=columns),
            normalize=self.normalize,
            labels=names if task == "classification" else (),
            validation=parts.get("validation"),
            test=parts.get("test"),
            groups=None if by_time or len(set(groups.tolist())) == len(groups) else groups,
            skipped=tuple(skipped),
        )

    def _cut(self, series: list[OneSeries], length: int) -> _Cut:
        """All windows (n, length, channels), the rows `horizon` after them, their classes, and their groups."""
        stride, beyond = self.stride or length, self.horizon or 0
        numbers = {group: i for i, group in enumerate(dict.fromkeys(one.group for one in series))}
        channels = series[0].values.shape[1] if series else 0
        inputs: list[NDArray[np.float32]] = []
        after: list[NDArray[np.float32]] = []
        labels: list[str] = []
        groups: list[int] = []
        for one in series:
            if self.short == "pad" and 0 < len(one) < length + beyond:
                one = one.padded(length + beyond)  # noqa: PLW2901
            for start in range(0, len(one) - length - beyond + 1, stride):
                inputs.append(one.values[start : start + length])
                after.append(one.values[start + length + beyond - 1])
                labels.append(_label_of(one.labels[start : start + length], self))
                groups.append(numbers[one.group])
        held = np.stack(inputs) if inputs else np.zeros((0, length, channels), np.float32)
        return held, np.array(after, np.float32), labels, np.array(groups, np.int64)

    def _class_names(self, labels: Iterable[str]) -> tuple[str, ...]:
        if self.horizon is not None or self.anomalies is not None:
            return ()
        return _ordered(set(labels) - {""})

    def _targets(
        self, after: NDArray[np.float32], labels: list[str], names: tuple[str, ...]
    ) -> tuple[NDArray[Any], Task]:
        if self.horizon is not None:
            return after, "regression"
        if self.anomalies is not None:
            return np.array([label == _ANOMALY for label in labels], np.int64), "anomaly-detection"
        if not names:
            return np.zeros(len(labels), np.int64), "reconstruction"
        if len(names) == 1:
            raise one_class_only(f"{self.path}", names[0], len(labels))
        if unknown := sorted({label for label in labels if label not in names}):
            raise DataError(f"{self.path} has a class in the test that training has not", received=listed(unknown))
        return np.array([names.index(label) for label in labels], np.int64), "classification"


_ANOMALY = "anomaly"
_Cut = tuple[NDArray[np.float32], NDArray[np.float32], list[str], NDArray[np.int64]]


@dataclass(frozen=True)
class OneSeries:
    """values: (t, channels) float32; labels: (t,) text, "" for none; times: (t,) text, or empty."""

    values: NDArray[np.float32]
    labels: NDArray[np.str_]
    group: str
    times: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, stop: int) -> OneSeries:
        """The rows from `start` to before `stop`."""
        return replace(
            self, values=self.values[start:stop], labels=self.labels[start:stop], times=self.times[start:stop]
        )

    def padded(self, length: int) -> OneSeries:
        """Its last row again and again."""
        missing = length - len(self)
        values = np.concatenate([self.values, np.repeat(self.values[-1:], missing, axis=0)])
        return replace(self, values=values, labels=np.concatenate([self.labels, np.repeat(self.labels[-1:], missing)]))


def _in_time(found: list[OneSeries], validation: int | float, test: int | float) -> dict[str, list[OneSeries]]:
    """Every series cut in three: training, validation, test. Shares are of its rows; numbers are of all rows."""
    total = sum(map(len, found))
    parts: dict[str, list[OneSeries]] = {"train": [], "validation": [], "test": []}
    for one in found:
        n = len(one)
        n_test, n_validation = (
            round(share * n / total) if isinstance(share, int) else count_of(share, n, 0)
            for share in (test, validation)
        )
        parts["train"].append(one.part(0, n - n_test - n_validation))
        parts["validation"].append(one.part(n - n_test - n_validation, n - n_test))
        parts["test"].append(one.part(n - n_test, n))
    return parts


def _label_of(labels: NDArray[np.str_], how: Series) -> str:
    if how.anomalies is not None:
        return _ANOMALY if (labels == _ANOMALY).any() else ""
    if how.label_of_window == "last":
        return str(labels[-1])
    counts = Counter(labels.tolist())
    return min(counts, key=lambda label: (-counts[label], label))


def _ordered(labels: set[str]) -> tuple[str, ...]:
    """By value if all are numbers, else by name."""
    try:
        return tuple(sorted(labels, key=float))
    except ValueError:
        return tuple(sorted(labels))


def _numbers(body: list[list[str]], header: list[str], columns: tuple[str, ...], where: str) -> NDArray[np.float32]:
    """The columns' values (rows, columns). Raises DataError naming row and column."""
    values = np.empty((len(body), len(columns)), np.float32)
    for i, name in enumerate(columns):
        at = header.index(name)
        for row, cells in enumerate(body):
            try:
                values[row, i] = float(cells[at])
            except ValueError:
                raise DataError(
                    f"{where} row {row + 2}, column {name!r}",
                    required="a number",
                    received=repr(cells[at]) if cells[at].strip() else "an empty cell",
                    advice="Correct or fill it in, or name the channels: data.columns",
                ) from None
    check_finite(values, f"{where} (columns {listed(columns)})")
    return values


def _for_file(path: str, intervals: dict[str, list[tuple[str, str]]], all_paths: list[str]) -> list[tuple[str, str]]:
    """The anomalies of a file: those whose key is the end of its path. Raises DataError when no file has any."""
    if intervals and not any(_ends_with(one, key) for one in all_paths for key in intervals):
        raise DataError(
            "the anomalies are of other files",
            required=f"paths such as {listed(all_paths, most=2)}, or ends of them",
            received=listed(intervals, most=3),
        )
    return next((spans for key, spans in intervals.items() if _ends_with(path, key)), [])


def _ends_with(path: str, key: str) -> bool:
    return f"/{path}".endswith(f"/{key}")


def _anomalous(one: OneSeries, intervals: list[tuple[str, str]]) -> NDArray[np.str_]:
    """Which rows lie in an interval. Raises DataError when a time is none."""
    try:
        times = one.times.astype("datetime64[us]")
        spans = [(np.datetime64(low, "us"), np.datetime64(high, "us")) for low, high in intervals]
    except ValueError as error:
        raise DataError("a time of the series or of its anomalies cannot be read", received=str(error)) from None
    inside = np.zeros(len(one), bool)
    for low, high in spans:
        inside |= (times >= low) & (times <= high)
    return np.where(inside, _ANOMALY, "")


def _npz_series(arrays: dict[str, NDArray[Any]], x: str, y: str, path: Path, labelled: bool) -> list[OneSeries]:
    """Each with what is behind its last number (rows of NaN, as sets of series of varying length have) cut off."""
    for key in (x, *([y] if labelled else [])):
        if key not in arrays:
            raise DataError(
                f"{path} has no array {key!r}", received=f"keys {listed(arrays)}", advice="Set data.x, data.y"
            )
    held = arrays[x]
    held = held[..., None] if held.ndim == 2 else held
    if held.ndim != 3 or held.dtype.kind not in "iuf" or not held.size:
        raise DataError(
            f"{path} [{x}] is no time series",
            required="numbers of shape (n, time) or (n, time, channels)",
            received=f"shape {held.shape}, type {held.dtype}",
        )
    labels = arrays[y] if labelled else np.full(len(held), "")
    if len(labels) != len(held) or labels.ndim != 1:
        raise DataError(f"{path} [{y}]", required=f"{len(held)} classes", received=f"shape {labels.shape}")
    found: list[OneSeries] = []
    for i, (values, label) in enumerate(zip(held.astype(np.float32), labels, strict=True)):
        there = np.flatnonzero(~np.isnan(values).all(axis=1))
        values = values[: there[-1] + 1] if there.size else values[:0]  # noqa: PLW2901
        check_finite(values, f"{path} [{x}], series {i},")
        found.append(OneSeries(values, np.full(len(values), str(label)), str(i), np.array([], str)))
    return found
