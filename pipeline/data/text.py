"""`text`: texts with a class, or one long text to go on with, as tokens of a fixed context."""

from __future__ import annotations

import csv
import io
import re
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from edgedl.core import text
from edgedl.core.config import InputPath
from edgedl.core.contract import InputContract, TextTokens
from edgedl.core.errors import ConfigError, DataError
from edgedl.pipeline.data.base import ArrayExamples, RawData, Source
from edgedl.pipeline.data.checks import existing_file, listed, nearest, read_targets
from edgedl.pipeline.data.files import Pattern, file_tree, has_group
from edgedl.pipeline.data.split import count_of

Column = str | int


class Text(Source):
    """Texts: a .csv or .tsv with a column of classes, a folder (or zip) of .txt by class, or one .txt to go on with."""

    source: Literal["text"] = Field(default="text", description="Texts by class, or a plain text for language models.")
    path: InputPath = Field(description="A .csv, .tsv or .txt file, or a folder or zip with a folder for each class.")
    task: Literal["auto", "classification", "next-token"] = Field(
        default="auto", description="auto: a .txt file is for next-token, everything else for classification."
    )
    text_column: Column = Field(default="text", description="Table: the column with the text, by name or from 0.")
    label_column: Column = Field(default="label", description="Table: the column with the class.")
    header: bool = Field(default=True, description="Table: whether its first line names the columns.")
    pattern: Pattern | None = Field(
        default=None, description="Folder: a regular expression for each path; (?P<label>…) is the class, "
        "what shares a (?P<group>…) is never divided.",
    )  # fmt: skip
    tokens: Literal["bytes", "wordpiece"] = Field(
        default="bytes", description="bytes: any text, 259 tokens; wordpiece: as BERT (core/text.py)."
    )
    length: PositiveInt = Field(default=128, description="Tokens of an input: longer texts are cut, others padded.")
    stride: PositiveInt | None = Field(
        default=None, description="next-token: tokens from window to window; by default `length`."
    )
    vocabulary: InputPath | None = Field(
        default=None, description="wordpiece: a vocab.txt, a token a line, with [PAD] and [UNK]; else one is learnt."
    )
    vocabulary_size: PositiveInt = Field(
        default=2000, ge=10, description="wordpiece: tokens of a vocabulary that is learnt, at most."
    )
    lowercase: bool = Field(default=True, description="wordpiece: lower case and no accents.")

    @model_validator(mode="after")
    def _names_columns(self) -> Text:
        if not self.header and any(isinstance(one, str) for one in (self.text_column, self.label_column)):
            raise ConfigError(
                "data.header: false leaves columns without names",
                required="text_column and label_column as numbers from 0",
                received=f"{self.text_column!r}, {self.label_column!r}",
            )
        return self

    def load(self) -> RawData:
        """Read the texts and turn them into tokens. Raises DataError."""
        suffix = self.path.suffix.lower()
        plain = self.path.expanduser().is_file() and suffix not in (".csv", ".tsv", ".zip")
        if self.task == "next-token" or (self.task == "auto" and plain):
            return self._load_plain(existing_file(self.path, "text file"))
        if self.path.expanduser().is_dir() or suffix == ".zip":
            texts, labels, groups = self._read_folder()
        elif suffix in (".csv", ".tsv") or not self.path.expanduser().exists():
            texts, labels = self._read_table(existing_file(self.path, "data file"))
            groups = None
        else:
            raise DataError(f"{self.path} has no classes", required="a .csv, a .tsv or a folder for each class")
        targets, _, names = read_targets(np.array(labels), f"the classes of {self.path}", task="classification")
        tokens = self._tokens(texts)
        return RawData(
            examples=ArrayExamples(np.array(text.encode_all(tokens, texts), np.int32), targets),
            task="classification",
            input=_contract(tokens),
            normalize="none",
            labels=names,
            groups=groups,
        )

    def _load_plain(self, path: Path) -> RawData:
        """Windows of `length` tokens; targets are the tokens one later. The text's end validates and tests."""
        whole = _decoded(path.read_bytes(), str(path))
        n = len(whole)
        n_test = count_of(self.split.test, n, 0)
        n_validation = count_of(self.split.validation, n, 0)
        if n_test + n_validation >= n:
            raise DataError(
                f"{path} leaves no text for training",
                required="validation and test smaller than the text",
                received=f"{n_validation} + {n_test} of {n} characters",
            )
        cuts = (0, n - n_test - n_validation, n - n_test, n)
        pieces = [whole[start:stop] for start, stop in pairwise(cuts)]
        tokens = self._tokens(pieces[:1])
        parts = [self._windows_of(np.array(text.encode(tokens, piece), np.int32)) for piece in pieces]
        if not len(parts[0]):
            raise DataError(
                f"{path} is shorter than a window", required=f"{self.length + 1} tokens", received=f"{n} characters"
            )
        return RawData(
            examples=parts[0],
            task="next-token",
            input=_contract(tokens),
            normalize="none",
            labels=tokens.vocabulary,
            validation=parts[1],
            test=parts[2],
        )

    def _windows_of(self, tokens: NDArray[np.int32]) -> ArrayExamples:
        starts = np.arange(0, len(tokens) - self.length, self.stride or self.length)
        windows = tokens[starts[:, None] + np.arange(self.length + 1)]
        return ArrayExamples(windows[:, :-1], windows[:, 1:].astype(np.int64))

    def _tokens(self, texts: list[str]) -> TextTokens:
        if self.tokens == "bytes":
            return TextTokens("bytes", self.length, text.BYTES)
        vocabulary = _read_vocabulary(self.vocabulary) if self.vocabulary else None
        found = vocabulary or text.learn_vocabulary(texts, self.vocabulary_size, lowercase=self.lowercase)
        places = (found.index(text.PADDING), found.index(text.UNKNOWN))
        return TextTokens("wordpiece", self.length, found, *places, lowercase=self.lowercase)

    def _read_table(self, path: Path) -> tuple[list[str], list[str]]:
        """Texts and classes. Quotes mean something in .csv, nothing in .tsv."""
        content = _decoded(path.read_bytes(), str(path))
        tabs = path.suffix.lower() == ".tsv"
        quoting = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
        reader = csv.reader(io.StringIO(content, newline=""), delimiter="\t" if tabs else ",", quoting=quoting)
        csv.field_size_limit(1 << 24)
        try:
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
        except csv.Error as error:
            raise DataError(f"{path} cannot be read as a table", received=str(error)) from None
        if len(rows) < 1 + self.header:
            raise DataError(f"{path} has no rows")
        header = [name.strip() for name in rows[0][1]] if self.header else []
        at = [self._column(name, header, path) for name in (self.text_column, self.label_column)]
        texts: list[str] = []
        labels: list[str] = []
        for line, row in rows[self.header :]:
            cells = [row[i].strip() if i < len(row) else "" for i in at]
            if not all(cells):
                raise DataError(
                    f"{path} line {line} has no {'text' if not cells[0] else 'class'}",
                    required=f"cells in columns {at[0]} and {at[1]} (from 0)",
                    received=listed(row, most=3)[:80],
                    advice="Correct or remove the line",
                )
            texts.append(cells[0])
            labels.append(cells[1])
        return texts, labels

    def _column(self, name: Column, header: list[str], path: Path) -> int:
        if isinstance(name, int):
            return name
        if name in header:
            return header.index(name)
        near = nearest(name, header)
        raise DataError(
            f"{path} has no column {name!r}",
            received=f"columns {listed(header)}"[:200],
            advice=f"Did you mean {near!r}?" if near else "Set data.text_column and label_column, or header: false",
        )

    def _read_folder(self) -> tuple[list[str], list[str], NDArray[np.int64] | None]:
        tree = file_tree(self.path, "text folder")
        compiled = re.compile(self.pattern) if self.pattern else None
        texts: list[str] = []
        labels: list[str] = []
        groups: list[str] = []
        for name in tree.files:
            if not name.lower().endswith(".txt"):
                continue
            found = compiled.search(name) if compiled else None
            label = name.partition("/")[0] if "/" in name else None
            if compiled is not None and "label" in compiled.groupindex:
                label = found["label"] if found else None
            if not label:
                raise DataError(f"{tree.path(name)} is of no class", required="a folder, or data.pattern, that tells")
            content = _decoded(tree.read(name), tree.path(name))
            if not content.strip():
                raise DataError(f"{tree.path(name)} is empty", advice="Remove it")
            texts.append(content)
            labels.append(label)
            groups.append(found["group"] if found and has_group(self.pattern) and found["group"] else name)
        if not texts:
            raise DataError(f"text folder {tree.root} has no .txt files", received=f"{len(tree.files)} other files")
        numbers = np.unique(groups, return_inverse=True)[1].astype(np.int64)
        return texts, labels, numbers if has_group(self.pattern) else None


def _contract(tokens: TextTokens) -> InputContract:
    return InputContract("tokens", (tokens.length,), "int32", content="text", text=tokens)


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not a text file in UTF-8", received=error.reason, advice="Save it so") from None


def _read_vocabulary(path: Path) -> tuple[str, ...]:
    """A token a line. Raises DataError."""
    path = existing_file(path, "vocabulary")
    found = tuple(_decoded(path.read_bytes(), str(path)).rstrip("\n").split("\n"))
    missing = [token for token in (text.PADDING, text.UNKNOWN) if token not in found]
    if missing or len(set(found)) != len(found):
        raise DataError(
            f"{path} is no WordPiece vocabulary",
            required=f"different tokens, a line each, with {text.PADDING} and {text.UNKNOWN}",
            received=f"no {listed(missing)}" if missing else f"{len(found) - len(set(found))} twice",
        )
    return found
