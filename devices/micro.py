"""`micro`: TensorFlow Lite for Microcontrollers (TFLM), its interpreter and reference kernels run here (extra `micro`).

Tells the tensor arena that a model needs, what the op resolver must hold, ops that have no kernel, and whether the
kernels give what LiteRT's give. The host's milliseconds say nothing of a microcontroller's, so there are none.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedl.core.artifacts import LatencyReport, Memory, ModelLatency
from edgedl.core.errors import EdgedlError, ModelError
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile
from edgedl.core.provenance import version_of
from edgedl.devices import litert, parity
from edgedl.devices.checks import check_available, check_formats
from edgedl.devices.child import in_child
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.results import latency_report

PACKAGE, MODULE = "tflite-micro", "tflite_micro"
SMALLEST, LARGEST = 2**12, 2**30
"""Arenas that are tried, in bytes."""
ALIGNMENT = 16
"""Bytes; MicroArenaBufferAlignment of TFLM."""
ENOUGH = 2**24
"""An arena in which an op is looked for, in bytes."""
NO_KERNEL = "Failed to get registration from op code"


@dataclass(frozen=True)
class Micro:
    """The `micro` device."""

    name: str = "micro"
    summary: str = "TensorFlow Lite for Microcontrollers: arena, ops without kernel, outputs (emulated); no times"
    undisturbed: bool = True
    exact: bool = True

    def targets(self) -> Sequence[str]:
        """There is only one: TFLM's reference kernels are the same everywhere."""
        return ()

    def status(self) -> DeviceStatus:
        """Whether TFLM is installed."""
        if importlib.util.find_spec(MODULE) is None:
            command = "pip install 'edgedl[micro]'"
            return DeviceStatus(False, f"{PACKAGE} is not installed", (PACKAGE,), command)
        return DeviceStatus(True, f"TFLM of {PACKAGE} {version_of(PACKAGE)}")

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Run every file in the smallest arena that it fits in. Raises ModelError, with all that is missing."""
        check_available(self)
        check_formats(files, self.name, "tflite")
        started = time.monotonic()
        return latency_report(
            files,
            [_latency(file, plan) for file in files],
            plan,
            device=self.name,
            hardware="TFLM's reference kernels, on a 64-bit host",
            obtained="emulated",
            started=started,
            stopped="counted",
            runtimes={"TFLM": version_of(PACKAGE) or ""},
        )


device = Micro()


def _latency(file: ModelFile, plan: SamplingPlan) -> ModelLatency:
    ran = in_child(run_in_smallest_arena, file.path, plan.seed, subject=file.path.name, runs_in="TFLM")
    try:
        names = [tensor.name for tensor in file.facts.outputs]
        against = f"{litert.version()} on this computer's CPU"
        expected = in_child(host_outputs, file.path, plan.seed, subject=file.path.name)
        compared = [parity.parity("the file's types", against, names, [ran.outputs], [expected])]
        told = parity.words(compared, "TFLM")
    except EdgedlError as error:
        compared, told = [], [f"outputs not compared: {error}"]
    kinds = sorted({op.op for op in file.facts.ops})
    return ModelLatency(
        file=file.path.name,
        sha256=sha256_of(file.path),
        size_bytes=file.facts.size_bytes,
        runtime=f"TFLM {version_of(PACKAGE)}",
        ops=(),
        parity=tuple(compared),
        memory=Memory(ran.arena_bytes, "smallest tensor arena, on a 64-bit host"),
        notes=(
            f"arena: {ran.head_bytes:,} bytes of activations and scratch, {ran.tail_bytes:,} of bookkeeping, which "
            "32-bit pointers make smaller; the rest is needed while memory is planned",
            f"kinds of op that the resolver must hold: {len(kinds)} ({', '.join(kinds)})",
            *told,
        ),
    )


# --- in a process of its own -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """A file that ran. head_bytes, tail_bytes: the two ends of the arena (TFLM's memory management, docs)."""

    arena_bytes: int
    head_bytes: int
    tail_bytes: int
    outputs: list[Any]


def host_outputs(path: Path, seed: int) -> list[Any]:
    """What LiteRT's interpreter gives for the session's random inputs."""
    from edgedl.devices.litert import InterpreterModel

    session = InterpreterModel(path, threads=1, xnnpack=True, seed=seed)
    session.invoke()
    return [value.copy() for value in session.outputs()]


def run_in_smallest_arena(path: Path, seed: int) -> Ran:
    """Find the arena by bisection and run the file in it. Raises ModelError when no arena is large enough."""
    content = path.read_bytes()
    arena, tried = SMALLEST, _tried(content, SMALLEST)
    while not tried.done and arena < LARGEST and tried.wants_memory:
        arena *= 4
        tried = _tried(content, arena)
    if not tried.done:
        raise _refused(path, content, tried, arena)
    sizes = {name: int(value) for name, value in re.findall(r"allocation (total|head|tail) (\d+) bytes", tried.said)}
    too_small, enough = sizes["total"] // 2 // ALIGNMENT, arena // ALIGNMENT
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        if _tried(content, middle * ALIGNMENT).done:
            enough = middle
        else:
            too_small = middle
    ran = _tried(content, enough * ALIGNMENT, seed)
    if not ran.done:
        raise ModelError(f"{path.name} does not run in TFLM", received=ran.reason)
    return Ran(enough * ALIGNMENT, sizes["head"], sizes["tail"], ran.outputs)


@dataclass(frozen=True)
class _Tried:
    """One attempt. said: TFLM's words."""

    done: bool
    said: str
    outputs: list[Any]

    @property
    def wants_memory(self) -> bool:
        """Whether a larger arena may help: TFLM says so, or died without a word."""
        return not self.said.strip() or re.search("Failed to (allocate|resize)", self.said) is not None

    @property
    def reason(self) -> str:
        """TFLM's first sentence."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        said = [re.sub(r"^\S+\.cc(:\d+)? ", "", line) for line in lines]
        return "; ".join(said[:2]) if said else "the process died"


def _tried(content: bytes, arena_bytes: int, seed: int | None = None) -> _Tried:
    """Allocate a model in an arena, in a fork: TFLM dies of some arenas. seed: also run it, on random inputs."""
    from tflite_micro.python.tflite_micro import runtime

    with tempfile.TemporaryDirectory(prefix="edgedl-micro-") as folder:
        said, answer = Path(folder) / "said", Path(folder) / "answer"
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                words = os.open(said, os.O_WRONLY | os.O_CREAT)
                os.dup2(words, 1)
                os.dup2(words, 2)
                interpreter = runtime.Interpreter.from_bytes(content, arena_size=arena_bytes)
                outputs = [] if seed is None else _invoked(interpreter, content, seed)
                if seed is None:
                    interpreter.print_allocations()
                answer.write_bytes(pickle.dumps(outputs))
                status = 0
            os._exit(status)
        _, ended = os.waitpid(child, 0)
        text = said.read_text(errors="replace") if said.exists() else ""
        return _Tried(ended == 0, text, pickle.loads(answer.read_bytes()) if ended == 0 else [])


def _invoked(interpreter: Any, content: bytes, seed: int) -> list[Any]:
    from edgedl.core.tflite_schema import listed, read_tflite
    from edgedl.devices.session import random_input

    graph = read_tflite(content, "").subgraphs[0]
    for index in range(len(listed(graph.inputs))):
        tensor = interpreter.get_input_details(index)
        interpreter.set_input(random_input(tuple(tensor["shape"]), tensor["dtype"].__name__, seed + index), index)
    interpreter.invoke()
    return [interpreter.get_output(index).copy() for index in range(len(listed(graph.outputs)))]


# --- refusals ----------------------------------------------------------------------------------------------------


def _refused(path: Path, content: bytes, tried: _Tried, arena_bytes: int) -> ModelError:
    missing = _without_kernel(content, path.name) if NO_KERNEL in tried.said else []
    if missing:
        return ModelError(
            f"{path.name} does not run in TFLM",
            required="ops that TFLM's resolver holds",
            received=", ".join(missing),
            advice="Replace them in the model, or register kernels of your own on the microcontroller",
        )
    if tried.wants_memory:
        return ModelError(
            f"{path.name} does not run in TFLM", received=f"even an arena of {arena_bytes:,} bytes is too small"
        )
    return ModelError(f"{path.name} does not run in TFLM", received=tried.reason)


def _without_kernel(content: bytes, name: str) -> list[str]:
    """Kinds of op that the resolver does not hold, as TFLM itself says: each is tried with all others made ADD."""
    import flatbuffers

    from edgedl.core.tflite_schema import IDENTIFIER, op_names, read_tflite

    names = op_names(read_tflite(content, name))
    missing: list[str] = []
    for kind in sorted(set(names)):
        model = read_tflite(content, name)
        for code, own in zip(model.operatorCodes, names, strict=True):
            if own != kind:
                code.builtinCode = code.deprecatedBuiltinCode = 0
                code.customCode = None
        builder = flatbuffers.Builder(len(content) + 4096)
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
        if NO_KERNEL in _tried(bytes(builder.Output()), ENOUGH).said:
            missing.append(kind)
    return missing
