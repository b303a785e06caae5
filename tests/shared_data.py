"""Reference models beside the repository; what needs them skips where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def shared(path: str) -> Path:
    """The file of that path below the reference data; skips the test when it is not there."""
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"needs {path} of the reference data in {SHARED}")
    return found
