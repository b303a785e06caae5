"""Run a function in a child process, so that what takes the child down leaves the caller standing.

Importing TensorFlow takes about 9 s, so a child is not started from nothing: a *nursery* process imports the heavy
packages once and forks a fresh child for every call. A child that crashes, hangs or eats memory is gone with all it
did; the nursery and the caller are untouched.

    caller ── request ──► nursery (imports once, computes nothing) ── fork ──► minder ── fork ──► worker
           ◄─────────── worker's pid, then its exit status ────────────────────┘
"""

from __future__ import annotations

import atexit
import importlib
import os
import pickle
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import psutil

from edgedl.core.errors import EdgedlError, StageError

T = TypeVar("T")

Nursery = Literal["tensorflow", "runtime", "gpu"]

PRELOAD: dict[Nursery, tuple[str, ...]] = {
    "tensorflow": ("tensorflow", "tf_keras"),
    "runtime": ("numpy", "ai_edge_litert.interpreter", "onnxruntime"),
    "gpu": ("numpy",),  # which ONNX Runtime it is to be, the worker says
}


@dataclass(frozen=True)
class Limits:
    """What a child may use: wall-clock seconds, and resident memory in megabytes (None: no limit)."""

    time_s: float = 900.0
    memory_mb: float | None = None


DEFAULT_LIMITS = Limits()


def run_isolated(
    function: Callable[..., T],
    *args: object,
    stage: str,
    subject: str,
    nursery: Nursery = "tensorflow",
    limits: Limits = DEFAULT_LIMITS,
    advice: str = "",
) -> T:
    """Call `function(*args)` in a child process and return what it returns.

    function: importable by name (module level); arguments and result must pickle.
    stage, subject: named in the error ("int8 conversion", "digits.keras").
    advice: the next step that would help when the child is lost.

    Raises StageError when the child crashes, exceeds its limits or cannot be started; an EdgedlError that the
    function raises arrives unchanged, any other exception as it was, with the child's traceback as its note.
    """
    with tempfile.TemporaryDirectory(prefix="edgedl-") as folder:
        task = Path(folder) / "task.pickle"
        task.write_bytes(pickle.dumps((_here(function), function.__module__, function.__qualname__, args)))
        lost = _supervise(nursery, task, limits)
        answer = task.with_name("answer.pickle")
        if lost is None and answer.exists():
            return cast(T, _open_answer(answer))
        log = task.with_name("log")
        last_words = _last_line(log.read_text(errors="replace") if log.exists() else "")
        raise StageError(
            f"{stage} of {subject}: the child process {lost or 'ended without an answer'}",
            received=f"its last line was {last_words!r}" if last_words else None,
            advice=advice or None,
        )


@dataclass(frozen=True)
class _Here:
    """Where the caller stands, which the nursery cannot know: the current folder, and where the function's module
    is imported from."""

    folder: str
    root: str


def _here(function: Callable[..., object]) -> _Here:
    file = getattr(sys.modules[function.__module__], "__file__", None)
    root = str(Path(file).parents[function.__module__.count(".")]) if file else ""  # built into Python: found anyway
    return _Here(str(Path.cwd()), root)


def _open_answer(answer: Path) -> object:
    outcome, value, trace = pickle.loads(answer.read_bytes())
    if outcome == "returned":
        return value
    if not isinstance(value, EdgedlError):
        value.add_note(f"In the child process:\n{trace}")
    raise value


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _supervise(nursery: Nursery, task: Path, limits: Limits) -> str | None:
    """Have the task done; None when the worker ended by itself and well, else what became of it."""
    connection, worker = _begin(nursery, task)
    try:
        deadline = time.monotonic() + limits.time_s
        while not connection.poll(0.05):
            if time.monotonic() > deadline:
                return f"did not finish within its time limit of {limits.time_s:g} s"
            if limits.memory_mb is not None and _resident_mb(worker) > limits.memory_mb:
                return f"used more than its memory limit of {limits.memory_mb:g} MB"
        status = cast(int, connection.recv())
    except (EOFError, ConnectionError):
        return "was lost together with the process that watched it"
    finally:
        connection.close()  # a worker that still runs (time, memory, Ctrl-C) ends with it
    if status < 0:
        return f"was killed by {signal.Signals(-status).name} (a crash inside native code)"
    return None if status == 0 else f"ended with exit status {status}"


def _begin(nursery: Nursery, task: Path) -> tuple[Connection[Any, Any], int]:
    """Hand the task over; the connection and the worker's pid. A nursery that was killed is replaced once."""
    for attempt in (1, 2):
        try:
            connection = _connect(nursery)
            connection.send(str(task))
            return connection, cast(int, connection.recv())
        except (EOFError, ConnectionError):
            if attempt == 2:
                raise
            with _starting:
                process = _nurseries.pop(nursery)[0]
                process.kill()
                process.wait()
    raise AssertionError("unreachable")


def _resident_mb(pid: int) -> float:
    try:
        return psutil.Process(pid).memory_info().rss / 1e6
    except psutil.NoSuchProcess:
        return 0.0


# --- the nursery, seen from the caller ---------------------------------------------------------------------------

_nurseries: dict[str, tuple[subprocess.Popen[bytes], str, bytes, int]] = {}
_starting = threading.RLock()


def warm_up(nursery: Nursery) -> None:
    """Start the nursery now, in the background, so that the first `run_isolated` finds it ready."""
    with _starting:
        running = _nurseries.get(nursery)
        if running is None or running[3] != os.getpid() or running[0].poll() is not None:
            _nurseries[nursery] = _started(nursery)


def _started(nursery: Nursery) -> tuple[subprocess.Popen[bytes], str, bytes, int]:
    folder = tempfile.mkdtemp(prefix="edgedl-nursery-")
    address, key = str(Path(folder) / "socket"), secrets.token_bytes(16)
    process = subprocess.Popen(
        # -P: a numpy.py in the user's folder is not ours to import
        [sys.executable, "-P", "-m", "edgedl.core.nursery", address, key.hex(), *PRELOAD[nursery]],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches the caller, which then ends its children in order
        env=os.environ | _QUIET | ({} if nursery == "gpu" else _NO_GPU),
    )
    return process, address, key, os.getpid()


_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_USE_LEGACY_KERAS": "1",
    "PYTHONWARNINGS": "ignore",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime 1.31 writes an id of this machine to the user's home otherwise
}
_NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1"}  # converters and interpreters compute on the CPU


def _connect(nursery: Nursery) -> Connection[Any, Any]:
    with _starting:
        warm_up(nursery)
        process, address, key, _ = _nurseries[nursery]
    while True:
        try:
            return Client(address, authkey=key)
        except (FileNotFoundError, ConnectionRefusedError):
            if process.poll() is not None:
                _nurseries.pop(nursery, None)
                raise StageError(
                    f"the child process with {', '.join(PRELOAD[nursery])} cannot be started",
                    received=f"exit status {process.returncode}",
                    advice="Run `edgedl doctor` to see what is missing",
                ) from None
            time.sleep(0.02)


@atexit.register
def _close_nurseries() -> None:
    for process, _, _, owner in _nurseries.values():
        if owner == os.getpid() and process.stdin is not None:
            process.stdin.close()  # its end of file is the nursery's sign to go
    _nurseries.clear()


# --- the worker's side -------------------------------------------------------------------------------------------


def carry_out(task: Path) -> None:
    """In the worker: call the function that the task file names and leave the answer beside it."""
    here, module, qualname, args = pickle.loads(task.read_bytes())
    try:
        os.chdir(here.folder)
        sys.path.append(here.root)
        function: Any = importlib.import_module(module)
        for name in qualname.split("."):
            function = getattr(function, name)
        answer = ("returned", function(*args), "")
    except Exception as error:
        import traceback

        answer = ("raised", error, traceback.format_exc())
    try:
        content = pickle.dumps(answer)
    except Exception as error:  # an exception of a library that does not pickle
        content = pickle.dumps(("raised", RuntimeError(f"{answer[1]!r} ({error})"), answer[2]))
    partial = task.with_name("answer.partial")
    partial.write_bytes(content)
    partial.rename(task.with_name("answer.pickle"))
