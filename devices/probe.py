"""What runs on a device: a probe (`native/probe.c`, `native/probe_onnx.c`), its command line, the facts that it prints.

A probe is the same program everywhere; only the way to start it differs (here, in an emulator, through adb or ssh).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edgedl.core.errors import ModelError, StageError
from edgedl.devices import litert

if TYPE_CHECKING:
    from pathlib import Path

    from edgedl.core.model_facts import ModelFile

Task = Literal["time", "count", "ops"]


@dataclass(frozen=True)
class ProbeFile:
    """One model on the device: paths there of the file, of its input bytes, and of where outputs go ("-": nowhere)."""

    model: str
    inputs: str
    outputs: str = "-"


@dataclass(frozen=True)
class ProbeTask:
    """What one process of a probe does; see the heads of its sources. profiling: the word for it, where `ops` is."""

    task: Task
    files: Sequence[ProbeFile]
    count: int
    seconds: float = 0.0
    threads: int = 1
    xnnpack: bool = True
    profiling: str = "1"

    def command(self, probe: str, library: str) -> list[str]:
        """The words that start it."""
        words = [probe, library, self.task, str(self.threads), "delegate" if self.xnnpack else "builtin"]
        words += [str(self.count), f"{self.seconds:g}", self.profiling if self.task == "ops" else "0"]
        for file in self.files:
            words += [file.model, file.inputs, file.outputs]
        return words


@dataclass
class SeenFile:
    """What the probe saw of one file. In microseconds; ops: events of each profiled run, as `litert_ops` takes.

    profile: ONNX Runtime's events, as `onnx_runtime` takes.
    """

    load_us: float = 0.0
    first_us: float | None = None
    blocks_us: list[tuple[float, ...]] = field(default_factory=list)
    ops: list[list[tuple[int, int, int, str, int]]] = field(default_factory=list)
    profile: list[Mapping[str, Any]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    peak_bytes: int = 0
    heap_bytes: int = 0


@dataclass
class Seen:
    """What one process of the probe saw. runtime_bytes: its peak memory with the library loaded and no model."""

    files: list[SeenFile]
    runtime_bytes: int = 0


def read_facts(
    lines: Iterable[str], names: Sequence[str], *, said: str = "", ended: str = "", runtime: str = litert.NAME
) -> Seen:
    """The facts of one process, by file.

    names: of the files, for errors. said: standard error, where the runtime gives its reasons. ended: how the process
    ended. runtime: the one at work, for errors.

    Raises ModelError where the runtime refuses a file, StageError where the probe was lost half-way.
    """
    seen = Seen([SeenFile() for _ in names])
    for line in lines:
        if not line.startswith("{"):
            continue  # the runtime's own words
        try:
            fact = json.loads(line)
        except ValueError:
            break  # cut off
        if fact["fact"] == "end":
            return seen
        if fact["fact"] == "error":
            raise _refusal(fact, names, said, runtime)
        _note(seen, fact)
    raise StageError(
        f"the probe was lost while it ran {', '.join(names)}",
        required="facts up to `end`",
        received=ended or "output that stops half-way",
        advice="The runtime may have crashed on the file: `edgedl profile --device cpu` shows whether it runs here",
    )


def _note(seen: Seen, fact: dict[str, Any]) -> None:
    kind = fact["fact"]
    if kind == "runtime":
        seen.runtime_bytes = fact["peak_bytes"]
        return
    file = seen.files[fact["file"]]
    if kind == "loaded":
        file.load_us = fact["us"]
    elif kind == "first":
        file.first_us = fact["us"]
    elif kind == "block":
        file.blocks_us.append(tuple(fact["us"]))
    elif kind == "op":
        while len(file.ops) <= fact["run"]:
            file.ops.append([])
        file.ops[fact["run"]].append((fact["type"], fact["index"], fact["subgraph"], fact["tag"], fact["us"]))
    elif kind == "profile":
        file.profile = fact["events"]
    elif kind == "output":
        file.outputs.append(fact["fnv1a"])
    elif kind == "memory":
        file.peak_bytes, file.heap_bytes = fact["peak_bytes"], fact["heap_bytes"]


def _refusal(fact: dict[str, Any], names: Sequence[str], said: str, runtime: str) -> ModelError | StageError:
    reason = " ".join(fact.get("why", "").split())
    if not reason:  # LiteRT tells its caller a number, and standard error why
        status = litert.STATUS.get(fact["status"], f"status {fact['status']}") if fact["status"] > 0 else "not possible"
        call, why = f"{fact['what']}: {status}", litert.reason_in(said)
        reason = f"{why} ({call})" if why else call
    if fact["file"] < 0:
        return StageError("the probe cannot start", received=reason)
    return ModelError(f"{runtime} cannot run {names[fact['file']]} on this device", received=reason)


def input_bytes(file: ModelFile, seed: int) -> bytes:
    """Random inputs as the `cpu` device feeds them, all after one another."""
    from edgedl.devices.session import random_input

    return b"".join(
        random_input(tensor.shape, tensor.dtype, seed + index).tobytes()
        for index, tensor in enumerate(file.facts.inputs)
    )


def write_inputs(files: Sequence[ModelFile], folder: Path, seed: int) -> list[Path]:
    """The inputs of every file, in a folder here, as `inputs-0`, `inputs-1` …"""
    paths = [folder / f"inputs-{index}" for index in range(len(files))]
    for path, file in zip(paths, files, strict=True):
        path.write_bytes(input_bytes(file, seed))
    return paths
