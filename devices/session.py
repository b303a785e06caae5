"""What happens inside a child process that times models: the sessions of all files, warm-up, alternating blocks.

Light on purpose: a child is forked for every few hundred milliseconds of measurement.
"""

from __future__ import annotations

import gc
import importlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

from edgedl.core.errors import ModelError
from edgedl.devices.energy import energy_per_call_uj

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUNTIMES = {  # a file's format, and where it runs if not on the CPU → the module that runs it
    "tflite": "edgedl.devices.litert",
    "onnx": "edgedl.devices.onnx_runtime",
    "tflite/gpu": "edgedl.devices.gpu.litert_gpu",
    "onnx/gpu": "edgedl.devices.gpu.onnx_gpu",
    "tflite/edge-tpu": "edgedl.devices.edge_tpu_runtime",
}

BLOCK_S = 0.004  # a block is about this long: short against the drift of a busy machine, long against a timer
BLOCK_SAMPLES = 20
MAX_ROUNDS = 25
ROUNDS = 5  # after which the files are opened anew: where their memory lies makes them faster or slower
SETTLED = 0.02  # warm-up ends when no file's median moved by more than this share from one block to the next


class Session(Protocol):
    """A loaded model with its inputs filled. It holds native memory: close it."""

    runtime: str
    notes: tuple[str, ...]

    def invoke(self) -> None:
        """Run one inference."""
        ...

    def outputs(self) -> list[NDArray[Any]]:
        """What the last inference gave, in the order of the signature."""
        ...

    def close(self) -> None:
        """Release the model."""
        ...


class Runtime(Protocol):
    """A module of `RUNTIMES`. Its functions raise ModelError when the runtime cannot run the file."""

    def version(self) -> str:
        """Name and version, e.g. "LiteRT 2.3.0"."""
        ...

    def load_runtime(self) -> None:
        """Load what it needs before any model."""
        ...

    def open_session(self, path: Path, *, threads: int, xnnpack: bool, seed: int) -> Session:
        """Load the file, ready to be invoked on random inputs."""
        ...

    def profile_ops(self, path: Path, *, threads: int, xnnpack: bool, seed: int, seconds: float) -> OpTimes:
        """Time every op of the file, for about `seconds`."""
        ...


def runtime_of(file_format: str) -> Runtime:
    """The runtime for a format. Raises ModelError for a format that no runtime here takes."""
    if file_format not in RUNTIMES:
        raise ModelError(
            "this device runs no such file", required="one of tflite, onnx", received=f"a {file_format} file"
        )
    runtime: Any = importlib.import_module(RUNTIMES[file_format])
    return runtime


def random_input(shape: Sequence[int], dtype: str, seed: int) -> NDArray[Any]:
    """Deterministic values for one input: floats uniform in [-1, 1], 8- and 16-bit integers over their whole range.

    Wider integers and bools are zero: they are indices, lengths or flags, and zero is the value they all allow.
    Dynamic axes (below 1) get size 1.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    size = [max(int(axis), 1) for axis in shape]
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.uniform(-1.0, 1.0, size).astype(kind)
    if kind.kind in "iu" and kind.itemsize <= 2:
        limits = np.iinfo(kind)
        return rng.integers(limits.min, limits.max, size, dtype=kind, endpoint=True)
    return np.zeros(size, kind)


# --- timing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TimingTask:
    """What one child times. files: (path, format). seconds: how long it should take, loading included."""

    files: tuple[tuple[Path, str], ...]
    threads: int
    xnnpack: bool
    seed: int
    order_seed: int
    seconds: float


@dataclass(frozen=True)
class Timed:
    """One file in one process. load_us and first_us: reading it, and its first, cold inference."""

    runtime: str
    notes: tuple[str, ...]
    load_us: float
    first_us: float
    warm_up: int
    blocks_us: tuple[tuple[float, ...], ...]


def time_files(task: TimingTask) -> tuple[Timed, ...]:
    """Time all files in this process: blocks of all files alternate, in a random order each round.

    After `ROUNDS` rounds, or as many more as it takes to measure for as long as opening the files took, all are opened
    anew, while there is time.
    """
    started = time.monotonic()
    gc.disable()
    shuffle = random.Random(task.order_seed)
    timers = [_Timer(path, kind) for path, kind in task.files]
    rounds = 0
    while rounds == 0 or (rounds < MAX_ROUNDS and time.monotonic() < started + task.seconds):
        opening = time.monotonic()
        for timer in shuffle.sample(timers, len(timers)):
            timer.open(task)
        _warm_up(timers, until=opening + 0.3 * task.seconds)
        ready = time.monotonic()
        for number in range(MAX_ROUNDS - rounds):
            took = time.monotonic() - ready
            if number and took > ready - opening and (number >= ROUNDS or ready + took > started + task.seconds):
                break
            for timer in shuffle.sample(timers, len(timers)):
                timer.blocks_us.append(timer.block())
            rounds += 1
        for timer in timers:
            timer.session.close()
    return tuple(timer.result() for timer in timers)


def _warm_up(timers: Sequence[_Timer], until: float) -> None:
    """Run unrecorded blocks until every file's median settles, or the time is up."""
    before = [timer.first_us for timer in timers]
    while time.monotonic() < until:
        now = [median(timer.block()) for timer in timers]
        for timer in timers:
            timer.warm_up += timer.samples
        if all(abs(a - b) <= SETTLED * b for a, b in zip(now, before, strict=True)):
            return
        before = now


@dataclass
class _Timer:
    path: Path
    format: str
    samples: int = 1
    warm_up: int = 0
    load_us: float = 0.0
    first_us: float = 0.0
    blocks_us: list[tuple[float, ...]] = field(default_factory=list)

    def open(self, task: TimingTask) -> None:
        """Load the file; the first time, see how long that and its first inference take, and how long a block is."""
        runtime = runtime_of(self.format)
        runtime.load_runtime()
        start = time.perf_counter_ns()
        self.session = runtime.open_session(self.path, threads=task.threads, xnnpack=task.xnnpack, seed=task.seed)
        if self.load_us:
            return
        self.load_us = (time.perf_counter_ns() - start) / 1e3
        (self.first_us,) = self.block()
        if self.first_us < 1e6 * task.seconds / 8:
            typical_us = min(self.block() + self.block())
            self.samples = round(min(max(BLOCK_S * 1e6 / typical_us, 1), BLOCK_SAMPLES))
            self.warm_up = 2

    def block(self) -> tuple[float, ...]:
        """Microseconds of each of `samples` inferences in a row."""
        invoke, clock, times = self.session.invoke, time.perf_counter_ns, []
        for _ in range(self.samples):
            start = clock()
            invoke()
            times.append((clock() - start) / 1e3)
        return tuple(times)

    def result(self) -> Timed:
        return Timed(
            self.session.runtime, self.session.notes, self.load_us, self.first_us, self.warm_up, tuple(self.blocks_us)
        )


# --- times per op, and memory ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpTime:
    """What one kernel took. op: the kernel's name. index: the op of the file that it belongs to, None where it cannot
    be told. time_us: median of means over the profiled runs (the clock of both runtimes ticks in whole microseconds).
    """

    index: int | None
    op: str
    time_us: float


@dataclass(frozen=True)
class OpTimes:
    """The kernels in order of execution; notes: what is not in there, and why."""

    ops: tuple[OpTime, ...]
    notes: tuple[str, ...] = ()


def median_of_means(samples_us: Sequence[float]) -> float:
    """A robust mean: the median over up to ten groups of the group's mean; resolves less than the clock's tick."""
    groups = min(10, len(samples_us))
    return median(sum(group) / len(group) for i in range(groups) if (group := samples_us[i::groups]))


@dataclass(frozen=True)
class Examined:
    """What one file is like, seen in a process of its own. energy_uj: of an inference, where the system tells it."""

    peak_bytes: int
    ops: OpTimes
    energy_uj: float | None


def examine_file(path: Path, file_format: str, threads: int, xnnpack: bool, seed: int, seconds: float) -> Examined:
    """Load and run the file, read the peak memory, then time its ops for about `seconds`."""
    runtime = runtime_of(file_format)
    _reset_peak()
    runtime.load_runtime()
    session = runtime.open_session(path, threads=threads, xnnpack=xnnpack, seed=seed)
    session.invoke()
    session.invoke()
    peak = _peak_bytes()
    energy = energy_per_call_uj(session.invoke, seconds / 2)
    session.close()
    ops = runtime.profile_ops(path, threads=threads, xnnpack=xnnpack, seed=seed, seconds=seconds)
    return Examined(peak, ops, energy)


def runtime_memory(file_format: str) -> int:
    """Peak resident bytes of a process that only loads the runtime."""
    _reset_peak()
    runtime_of(file_format).load_runtime()
    return _peak_bytes()


def _reset_peak() -> None:
    """Forget the peak that this process inherited from the one it was forked from (proc(5), clear_refs)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
