"""The same files on several devices: each takes its own session, side by side where none disturbs another."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgedl.core.artifacts import ExportedModel, LatencyReport
from edgedl.core.console import Progress, Reporter, reporter, set_reporter
from edgedl.core.errors import EdgedlError
from edgedl.devices import Undisturbed, find_device
from edgedl.pipeline.profile import profile


def profile_on_all(
    files: Sequence[str | Path | ExportedModel], devices: Sequence[str], **settings: Any
) -> list[LatencyReport | EdgedlError]:
    """A report of each device, in their order, or why it has none. settings: as `profile` takes them.

    Devices that time this computer work alone, after all others. Raises UnavailableError, before any begins, when a
    name is unknown.
    """
    found = {name: find_device(name)[0] for name in devices}
    undisturbed = {name: isinstance(one, Undisturbed) and one.undisturbed for name, one in found.items()}
    interrupted = threading.Event()

    def take(name: str) -> LatencyReport | EdgedlError:
        try:
            return profile(files, device=name, **settings)
        except EdgedlError as error:
            return error

    def beside_others(name: str) -> LatencyReport | EdgedlError:
        set_reporter(_Interruptible(reporter(), interrupted))
        return take(name)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running: dict[str, Future[LatencyReport | EdgedlError]] = {
            name: pool.submit(contextvars.copy_context().run, beside_others, name)
            for name, apart in undisturbed.items()
            if apart
        }
        try:
            done = {name: session.result() for name, session in running.items()}
        except KeyboardInterrupt:
            interrupted.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [done[name] if name in done else take(name) for name in devices]


class _Interruptible:
    """A reporter whose bars carry Ctrl-C, which only the main thread sees, into a session in another thread."""

    def __init__(self, within: Reporter, interrupted: threading.Event) -> None:
        self.within, self.interrupted = within, interrupted
        self.note, self.warn = within.note, within.warn

    @contextmanager
    def progress(self, title: str, total: float) -> Generator[Progress]:
        with self.within.progress(title, total) as bar:
            yield _InterruptibleBar(bar, self.interrupted)


class _InterruptibleBar:
    def __init__(self, bar: Progress, interrupted: threading.Event) -> None:
        self.bar, self.interrupted = bar, interrupted

    def update(self, completed: float, text: str = "") -> None:
        if self.interrupted.is_set():
            raise KeyboardInterrupt
        self.bar.update(completed, text)
