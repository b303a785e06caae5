"""`csv`: a table with a header; one column is the target, the others are numbers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgedl.core.config import InputPath
from edgedl.core.contract import InputContract, Task
from edgedl.core.errors import ConfigError, DataError
from edgedl.pipeline.data.base import ArrayExamples, Normalize, RawData, Source
from edgedl.pipeline.data.checks import (
    MOST_NUMBERED_CLASSES,
    TaskChoice,
    existing_file,
    listed,
    nearest,
    one_class_only,
    read_targets,
)


class CsvTable(Source):
    """Feature columns and one target column, by the names in the header."""

    source: Literal["csv"] = Field(default="csv", description="A table in a .csv file with a header.")
    file: InputPath = Field(description="The .csv file (UTF-8).")
    target: str = Field(description="Name of the column to predict.")
    ignore: tuple[str, ...] = Field(default=(), description="Columns that are no features: row numbers, names, dates.")
    group_by: str | None = Field(
        default=None, description="A column, no feature: rows with the same value (a person's) are in one part only."
    )
    delimiter: str = Field(default=",", min_length=1, max_length=1, description="What stands between cells.")
    task: TaskChoice = Field(
        default="auto", description="'auto': text and up to 20 different whole numbers are classes, else regression."
    )
    normalize: Normalize = Field(default="standard", description="How the features become the model's input.")

    def load(self) -> RawData:
        """Read the table. Raises DataError, naming row and column."""
        path = existing_file(self.file, "data file")
        columns, features, cells, groups = self._read(path)
        where = f"{path} column {self.target!r}"
        targets, task, labels = _targets(cells, where, self.task)
        return RawData(
            examples=ArrayExamples(features, targets),
            task=task,
            input=InputContract(name="features", shape=(len(columns),), content="features", feature_names=columns),
            normalize=self.normalize,
            labels=labels,
            groups=np.unique(groups, return_inverse=True)[1].astype(np.int64) if self.group_by else None,
        )

    def _read(self, path: Path) -> tuple[tuple[str, ...], NDArray[np.float32], list[str], list[str]]:
        """Names of the feature columns, their values (n, columns), the target's cells, and the groups'."""
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file, delimiter=self.delimiter, strict=True)
                header = [name.strip() for name in next(reader, [])]
                target, chosen = self._columns(header, path)
                rows: list[NDArray[np.float64]] = []
                cells: list[str] = []
                groups: list[str] = []
                group = header.index(self.group_by) if self.group_by else target
                for row in reader:
                    if not any(cell.strip() for cell in row):
                        continue
                    if len(row) != len(header):
                        raise DataError(
                            f"{path} line {reader.line_num} has {len(row)} cells",
                            required=f"{len(header)}, as the header",
                            advice="Put text that holds the delimiter in double quotes",
                        )
                    if not row[target].strip():
                        _bad_cell(path, reader.line_num, header[target], row[target])
                    cells.append(row[target].strip())
                    groups.append(row[group].strip())
                    rows.append(_numbers(row, chosen, header, path, reader.line_num))
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not a text file in UTF-8", received=error.reason, advice="Save it so") from None
        except csv.Error as error:
            raise DataError(f"{path} cannot be read as a table", received=str(error)) from None
        if not rows:
            raise DataError(f"{path} has a header but no rows")
        return tuple(header[i] for i in chosen), np.stack(rows).astype(np.float32), cells, groups

    def _columns(self, header: list[str], path: Path) -> tuple[int, list[int]]:
        """Positions of the target and of the feature columns."""
        if not header:
            raise DataError(f"{path} is empty", required="a header and rows")
        if all(_is_number(name) for name in header):
            raise DataError(
                f"{path} has no header",
                required="names of the columns in the first line",
                received=listed(header),
                advice="Add a line with a name for each column",
            )
        if twice := sorted({name for name in header if header.count(name) > 1}):
            raise DataError(f"{path} has two columns called {twice[0]!r}", advice="Rename one of them")
        apart = (*self.ignore, *([self.group_by] if self.group_by else []))
        for name in (self.target, *apart):
            if name not in header:
                raise self._no_column(name, header, path)
        if self.target in apart:
            raise ConfigError(
                f"data.{'ignore' if self.target in self.ignore else 'group_by'} holds the target {self.target!r}",
                advice="Take it out of the list",
            )
        chosen = [i for i, name in enumerate(header) if name != self.target and name not in apart]
        if not chosen:
            raise DataError(f"{path} has no column beside the target", received=listed(header))
        return header.index(self.target), chosen

    def _no_column(self, name: str, header: list[str], path: Path) -> DataError:
        other = next((sign for sign in ";\t|" if len(header) == 1 and sign in header[0]), None)
        near = nearest(name, header)
        if other:
            advice = f'The cells seem to be divided by {other!r}: set data.delimiter: "{other}"'.replace("\t", "\\t")
        else:
            advice = f"Did you mean {near!r}?" if near else "Name one of them"
        return DataError(f"{path} has no column {name!r}", received=f"columns {listed(header)}", advice=advice)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(row: Sequence[str], chosen: list[int], header: list[str], path: Path, line: int) -> NDArray[np.float64]:
    try:
        values = np.array([float(row[i]) for i in chosen])
    except ValueError:
        wrong = next(i for i in chosen if not _is_number(row[i]))
        _bad_cell(path, line, header[wrong], row[wrong])
    if not (np.abs(values) <= np.finfo(np.float32).max).all():
        wrong = chosen[int(np.flatnonzero(~(np.abs(values) <= np.finfo(np.float32).max))[0])]
        _bad_cell(path, line, header[wrong], row[wrong])
    return values


def _bad_cell(path: Path, line: int, column: str, cell: str) -> NoReturn:
    raise DataError(
        f"{path} line {line}, column {column!r}",
        required="a finite number",
        received=repr(cell) if cell.strip() else "an empty cell",
        advice=f"Correct or remove the row, or leave the column out with data.ignore: [{column}]",
    )


def _targets(cells: list[str], where: str, task: TaskChoice) -> tuple[NDArray[Any], Task, tuple[str, ...]]:
    """As `read_targets`; classes that are numbers are named by them, in their order, and need not start at 0."""
    if not all(_is_number(cell) for cell in cells):
        return read_targets(np.array(cells), where, task=task)
    values = np.array([float(cell) for cell in cells])
    whole = bool((values == np.rint(values)).all())
    found = np.unique(values)
    if whole and (task == "classification" or (task == "auto" and len(found) <= MOST_NUMBERED_CLASSES)):
        names = tuple(f"{value:.0f}" for value in found)
        if len(names) == 1:
            raise one_class_only(where, names[0], len(values))
        return np.searchsorted(found, values), "classification", names
    return read_targets(values, where, task=task)
