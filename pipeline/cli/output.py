"""What a command says: a table for people or one JSON object for programs, on standard output."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgedl.core.console import TerminalReporter, set_reporter


@dataclass(frozen=True)
class Output:
    """Where results go."""

    as_json: bool
    quiet: bool

    def data(self, content: Any) -> None:
        """The result for programs: only with --json."""
        if self.as_json:
            from edgedl.core.artifacts import json_text

            print(json_text(content))

    def line(self, text: str = "") -> None:
        """A sentence for people."""
        if not self.as_json:
            print(text)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
        """A table for people; columns of figures are right-aligned."""
        if self.as_json:
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
        found = list(rows)
        for index, column in enumerate(columns):
            figures = index > 0 and all(_is_figure(row[index]) for row in found)
            table.add_column(column, justify="right" if figures else "left", overflow="fold")
        for row in found:
            table.add_row(*row)
        Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140).print(table)


def _is_figure(cell: str) -> bool:
    return cell in ("", "–") or cell[0] in "+-−" or cell[0].isdigit()


@contextlib.contextmanager
def output(as_json: bool, quiet: bool) -> Generator[Output]:
    """The output of one command; its progress goes to standard error unless quiet."""
    if not quiet:
        set_reporter(TerminalReporter())
    yield Output(as_json, quiet)
    sys.stdout.flush()


def split_list(option: str, text: str) -> list[str]:
    """`a,b` as ["a", "b"], each once; commas in brackets are not between entries. Raises ConfigError for none."""
    from edgedl.core.errors import ConfigError

    depth, marked = 0, ""
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        marked += "\n" if letter == "," and depth == 0 else letter
    parts = list(dict.fromkeys(part.strip() for part in marked.split("\n") if part.strip()))
    if not parts:
        raise ConfigError(f"{option} is empty", required="one name, or several with commas between them")
    return parts


def size(n_bytes: int) -> str:
    """A size with its unit, e.g. "75.5 KiB"."""
    if n_bytes < 1024:
        return f"{n_bytes} B"
    return f"{n_bytes / 1024:.1f} KiB" if n_bytes < 1024**2 else f"{n_bytes / 1024**2:.2f} MiB"
