"""Keeping native libraries' start-up chatter off the terminal; what they say when something fails is kept."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Generator


@contextlib.contextmanager
def native_stderr_kept() -> Generator[None]:
    """Hold back what is written to file descriptor 2 inside; shown only when the block raises."""
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            if failed:
                held.seek(0)
                sys.stderr.write(held.read().decode(errors="replace"))
