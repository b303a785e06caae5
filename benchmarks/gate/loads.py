"""A busy machine, and a quiet one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Generator

import psutil

QUIET = 0.15
"""Of the cores' time that others may use, seen for half a second, for the machine to count as quiet."""


@contextlib.contextmanager
def busy(loops: int) -> Generator[None]:
    """Keep that many cores busy with a loop each."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait_until_quiet(at_most_s: float = 600.0) -> None:
    """Return once others use little of this machine. Raises TimeoutError."""
    started = time.monotonic()
    while psutil.cpu_percent(0.5) > 100 * QUIET:
        if time.monotonic() - started > at_most_s:
            raise TimeoutError(f"the machine was not quiet for {at_most_s:g} s")
        time.sleep(1.0)


CORES = os.cpu_count() or 1
