"""What a person sees while edgedl works: notes and progress on standard error. Results are the caller's business.

Stages talk to `reporter()`. The Python API is silent; the command line installs a `TerminalReporter`.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Generator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


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
    """Lines on standard error; moving bars, one below the other, only when that is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console: Console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars: RichProgress | None = None
        self._changing = threading.Lock()

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
        with self._changing:
            bars = self._bars = self._bars or _moving(self.console)
            task = bars.add_task(title, total=total, text="", visible=False)
        try:
            yield _Bar(bars, task)
        finally:
            with self._changing:
                bars.remove_task(task)
                if not bars.task_ids:
                    bars.stop()
                    self._bars = None


def _moving(console: Console) -> RichProgress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    title, text = TextColumn("{task.description}"), TextColumn("{task.fields[text]}")
    return Progress(title, BarColumn(), text, TimeRemainingColumn(), console=console, transient=True)


class _Bar:
    def __init__(self, bars: RichProgress, task: TaskID) -> None:
        self.bars, self.task, self.begun = bars, task, time.monotonic()

    def update(self, completed: float, text: str = "") -> None:
        shown = time.monotonic() - self.begun > 1.0
        if shown:
            self.bars.start()
        self.bars.update(self.task, completed=completed, text=text, visible=shown)


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
