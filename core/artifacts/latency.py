"""What profiling leads to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgedl.core.artifacts.base import Artifact, Obtained
from edgedl.core.artifacts.exported import OutputParity
from edgedl.core.statistics import Interval, exact


@dataclass(frozen=True)
class OpCost:
    """One op, in the order of execution.

    index: in the file; -1 for a kernel that could not be traced back to one op. layer: the Keras layer, if known.
    cost: in `unit`, for one inference; "MACs" (multiply–accumulates) where only the op's size is known. share: of all
    ops together. runs_on: the part of the device that computes it, where there is a choice ("cpu", "npu", "gpu"); ""
    where that is not known. note: why there, or what would change it.
    """

    index: int
    op: str
    layer: str | None
    cost: float
    unit: Literal["us", "instructions", "cycles", "MACs"]
    share: float
    runs_on: str = ""
    note: str = ""


@dataclass(frozen=True)
class Memory:
    """What the model adds to the memory of a process or chip. what: what was counted, e.g. "peak resident memory"."""

    model_bytes: int
    what: str
    runtime_bytes: int | None = None


@dataclass(frozen=True)
class Timing:
    """Measured times per inference.

    blocks_us: the raw samples in microseconds, by process, then block (blocks of all files alternate).
    p10_us, median_us, p90_us: estimate and 95 % interval (hierarchical bootstrap over processes and blocks).
    load_ms: reading the file to ready; first_ms: the first, cold inference.
    ratio: p10 over the first file's p10, of blocks timed side by side, with its interval over processes (None for the
        first file); `core.statistics.quantile_ratio` says how.
    """

    blocks_us: tuple[tuple[tuple[float, ...], ...], ...]
    p10_us: Interval
    median_us: Interval
    p90_us: Interval
    load_ms: float
    first_ms: float
    ratio: Interval | None = None

    @property
    def n(self) -> int:
        """Number of timed inferences."""
        return sum(len(block) for process in self.blocks_us for block in process)


@dataclass(frozen=True)
class Estimate:
    """A time per inference that nothing ran for. latency_us: with the bounds that `basis` explains."""

    latency_us: Interval
    basis: str


@dataclass(frozen=True)
class CacheMisses:
    """Misses of one level of a modelled data cache, per inference."""

    level: int
    kib: int
    ways: int
    misses: int


@dataclass(frozen=True)
class Instructions:
    """Instructions that one warm inference executes; at one thread the same every time.

    load, store: those that read or write memory, on x86 whatever else they do. simd: of which dot (dot products, matrix
    multiplication) and multiply_add. A class that the counter does not tell is None. inferences: how many were counted;
    spread: largest less smallest total among them.
    """

    total: int
    load: int | None = None
    store: int | None = None
    branch: int | None = None
    simd: int | None = None
    dot: int | None = None
    multiply_add: int | None = None
    other: int | None = None
    caches: tuple[CacheMisses, ...] = ()
    inferences: int = 1
    spread: int = 0


@dataclass(frozen=True)
class DeviceParity:
    """The same answers there? A file's outputs on the device, and those of the same runtime on the host's CPU, for the
    same `n` random inputs.

    arithmetic: what the device was told to compute in, e.g. "float32", "float16". against: the runtime on the host.
    """

    arithmetic: str
    against: str
    n: int
    outputs: tuple[OutputParity, ...]


@dataclass(frozen=True)
class ModelLatency:
    """One file in a session. What a device cannot tell is None: a time where nothing was timed, memory, instructions.

    outputs: hash (FNV-1a, 64 bits) of each output's bytes for the session's random inputs. parity: where a device's
    arithmetic is its own, how far that takes the outputs. sparsity: share of zeros among the weights. energy_uj: of an
    inference, with all that the processor's packages drew meanwhile.
    """

    file: str
    sha256: str
    size_bytes: int
    runtime: str
    ops: tuple[OpCost, ...]
    timing: Timing | None = None
    estimate: Estimate | None = None
    instructions: Instructions | None = None
    memory: Memory | None = None
    energy_uj: float | None = None
    outputs: tuple[str, ...] = ()
    parity: tuple[DeviceParity, ...] = ()
    notes: tuple[str, ...] = ()
    sparsity: float | None = None


@dataclass(frozen=True)
class Speed:
    """The figure by which a session compares its files.

    what: "p10" of the measured times, "instructions" of an inference, or an "estimate" of its time. n: inferences seen.
    ratio: to the session's first file (None for that one); exact for instructions and estimates.
    """

    value: Interval
    unit: Literal["us", "instructions"]
    what: Literal["p10", "instructions", "estimate"]
    n: int
    obtained: Obtained
    ratio: Interval | None


@dataclass(frozen=True)
class Conditions:
    """The state of the machine around the session; None where the system does not tell."""

    load_average: float | None
    governor: str | None
    temperature_c: float | None
    threads: int
    xnnpack: bool
    battery_percent: float | None = None
    throttled: bool | None = None


@dataclass(frozen=True, kw_only=True)
class LatencyReport(Artifact):
    """One profiling session on one device, of all files together.

    device: e.g. "cpu", "arm64:raspberry-pi-5"; hardware: what it is. obtained: how times, instructions, costs per op
    and memory came to be; an `Estimate` is estimated whatever this says. processes, warm_up: how many were started,
    and inferences before the first sample. stopped: why sampling ended.
    """

    device: str
    hardware: str
    obtained: Obtained
    runtimes: Mapping[str, str]
    models: tuple[ModelLatency, ...]
    conditions: Conditions
    processes: int
    warm_up: int
    stopped: str
    seconds: float

    def speed(self, model: ModelLatency) -> Speed | None:
        """The best figure there is of one of the session's files; None where it has none."""
        if model.timing is not None:
            timing = model.timing
            return Speed(timing.p10_us, "us", "p10", timing.n, self.obtained, timing.ratio)
        first = self.models[0]
        if model.instructions is not None:
            total, n, spread = model.instructions.total, model.instructions.inferences, model.instructions.spread
            base = first.instructions.total if first.instructions and model is not first else None
            ratio = exact(total / base) if base else None
            seen = Interval(total, total - spread, total + spread) if spread else exact(total)
            return Speed(seen, "instructions", "instructions", n, self.obtained, ratio)
        if model.estimate is not None:
            value = model.estimate.latency_us
            base = first.estimate.latency_us.value if first.estimate and model is not first else None
            return Speed(value, "us", "estimate", 0, "estimated", exact(value.value / base) if base else None)
        return None
