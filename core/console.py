"""What a person sees while edgedl works: notes and progress on standard error. Results are the caller's business.

Stages talk to `reporter()`. The Python API is silent; the command line installs a `TerminalReporter`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress


class Progress(Protocol):
    """A bar that moves."""

    def update(self, completed: float, text: str = "") -> None:
        """Set how much of the total is done, and the changing words beside the bar."""
        ...


class Reporter(Protocol):
    """Where a stage says what it does."""

    def note(self, text: str) -> None:
        """Say one line that a person wants to read."""
        ...

    def warn(self, text: str) -> None:
        """Say one line that a person should not miss."""
        ...

    def progress(self, title: str, total: float) -> contextlib.AbstractContextManager[Progress]:
        """A bar for work of `total` units; shown once it has taken longer than a second."""
        ...


class _NoProgress:
    def update(self, completed: float, text: str = "") -> None:
        pass


class SilentReporter:
    """Says nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""

    @contextlib.contextmanager
    def progress(self, title: str, total: float) -> Generator[Progress]:
        """No bar."""
        yield _NoProgress()


class TerminalReporter:
    """Lines on standard error; moving bars only when that is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console: Console = Console(stderr=True, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print the line."""
        self.console.print(text, markup=False)

    def warn(self, text: str) -> None:
        """Print the line so that it stands out."""
        self.console.print(f"warning: {text}", style="yellow", markup=False)

    @contextlib.contextmanager
    def progress(self, title: str, total: float) -> Generator[Progress]:
        """A bar with the remaining time on a terminal; otherwise a line now and then."""
        if not self.console.is_terminal:
            yield _Lines(title, total)
            return
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        title_column, text_column = TextColumn("{task.description}"), TextColumn("{task.fields[text]}")
        columns = title_column, BarColumn(), text_column, TimeRemainingColumn()
        bars = RichProgress(*columns, console=self.console, transient=True)
        bar = _Bar(bars, title, total)
        try:
            yield bar
        finally:
            if bar.shown:
                bars.stop()


class _Bar:
    def __init__(self, bars: RichProgress, title: str, total: float) -> None:
        self.bars, self.started, self.shown = bars, time.monotonic(), False
        self.task = bars.add_task(title, total=total, text="")

    def update(self, completed: float, text: str = "") -> None:
        if not self.shown and time.monotonic() - self.started > 1.0:
            self.bars.start()
            self.shown = True
        self.bars.update(self.task, completed=completed, text=text)


class _Lines:
    """Progress for logs: at most one line every ten seconds."""

    def __init__(self, title: str, total: float) -> None:
        self.title, self.total, self.said = title, total, time.monotonic()

    def update(self, completed: float, text: str = "") -> None:
        now = time.monotonic()
        if now - self.said > 10.0:
            self.said = now
            print(f"{self.title}: {completed:g}/{self.total:g} {text}".rstrip(), file=sys.stderr, flush=True)


_reporter: ContextVar[Reporter] = ContextVar("edgedl_reporter")
_silent: Reporter = SilentReporter()


def reporter() -> Reporter:
    """The reporter in force."""
    return _reporter.get(_silent)


def set_reporter(new: Reporter) -> None:
    """Install a reporter for this context."""
    _reporter.set(new)
