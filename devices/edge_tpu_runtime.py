"""The Edge TPU itself: Google's runtime as a delegate of LiteRT's interpreter, in a child process.

Runs files that `edgetpu_compiler` made. The variable EDGEDL_EDGETPU names the runtime's library where the system's
linker does not find `libedgetpu`.
"""

from __future__ import annotations

import ctypes.util
import functools
import os
from pathlib import Path
from typing import Any

from edgedl.core.errors import UnavailableError
from edgedl.devices.litert import InterpreterModel
from edgedl.devices.session import Session

VARIABLE = "EDGEDL_EDGETPU"


def library() -> str | None:
    """Google's runtime, or None where it is not installed."""
    return os.environ.get(VARIABLE) or ctypes.util.find_library("edgetpu")


@functools.cache
def load_runtime() -> Any:
    """The delegate. Raises UnavailableError when the library cannot be loaded or sees no Edge TPU."""
    from ai_edge_litert.interpreter import load_delegate

    try:
        return load_delegate(str(library()))
    except (ValueError, OSError) as error:
        raise UnavailableError(
            f"{library()} finds no Edge TPU",
            received=" ".join(str(error).split()),
            advice="Is it plugged in, and may this user use it (group plugdev)?",
        ) from None


def open_session(path: Path, *, threads: int, xnnpack: bool, seed: int) -> Session:
    """Load a compiled file, ready to be invoked on random inputs."""
    return EdgeTpuModel(path, threads=threads, xnnpack=xnnpack, seed=seed, delegates=[load_runtime()])


class EdgeTpuModel(InterpreterModel):
    """An inference ends when the outputs are back: the delegate waits for them."""

    on = "Interpreter, Edge TPU"
    notes = ()
