"""TFLite files in LiteRT's GPU path: the WebGPU library in its wheel, over Vulkan. In a child process only."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import json
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedl.core.artifacts import DeviceParity
from edgedl.core.errors import ModelError, UnavailableError
from edgedl.devices import litert
from edgedl.devices.gpu import vulkan
from edgedl.devices.gpu.placement import Told, kernels_before, read_log
from edgedl.devices.gpu.single_op import cut_out
from edgedl.devices.litert import CPU, GPU, CompiledModel, LiteRtError
from edgedl.devices.litert_ops import Event
from edgedl.devices.parity import EXAMPLES, Outputs, parity
from edgedl.devices.session import Session

LIBRARY = "libLiteRtWebGpuAccelerator.so"
PRECISIONS = {"float32": "precision = 2\n", "float16": "precision = 1\n"}  # litert_gpu_options.h
DEFAULT = ""


@dataclass(frozen=True)
class Seen:
    """What LiteRT did with one file.

    adapter: the one it chose, as its log names it. fully: no op is left to the CPU. told: what its log says of the
    ops otherwise. before: the kernels that ran before the GPU's part, where it has one and the CPU the rest.
    default: the precision whose outputs those of LiteRT's default equal, "" if none.
    """

    adapter: vulkan.Adapter | None
    fully: bool
    told: Told | None
    before: tuple[Event, ...] | None
    parity: tuple[DeviceParity, ...]
    default: str


def library_place() -> Path | None:
    """LiteRT's GPU library, if the installed wheel has one."""
    found = importlib.util.find_spec(litert.MODULE)
    places = list(found.submodule_search_locations or ()) if found else []
    return next((path for place in places if (path := Path(place) / LIBRARY).exists()), None)


@functools.cache
def load_runtime() -> None:
    """Load LiteRT with its GPU library. `vulkan.ready` comes before."""
    place = library_place()
    if place is None:
        raise UnavailableError(
            f"the installed {litert.PACKAGE} has no GPU library", required=LIBRARY, advice="Its x86-64 wheel brings it"
        )
    ctypes.CDLL(str(place))  # LiteRT looks for it by its bare name
    litert.load_runtime()


class _GpuModel(CompiledModel):
    """A model of which the GPU gets what it takes. An inference ends when the outputs are back: runs are
    asynchronous."""

    def __init__(self, path: Path, *, threads: int, xnnpack: bool, seed: int, profiling: bool = False, gpu: str = ""):
        super().__init__(
            path, threads=threads, xnnpack=xnnpack, seed=seed, profiling=profiling, accelerators=GPU | CPU, gpu=gpu
        )
        self.runtime = f"{litert.version()} CompiledModel, WebGPU"

    def invoke(self) -> None:
        """Run one inference and fetch its outputs."""
        super().invoke()
        self.fetch()


def open_session(path: Path, *, threads: int, xnnpack: bool, seed: int) -> Session:
    """Load a TFLite file for the GPU in LiteRT's default precision, ready to be invoked on random inputs."""
    with _gpu_errors(path):
        return _GpuModel(path, threads=threads, xnnpack=xnnpack, seed=seed)


def examine(path: Path, names: Sequence[str], threads: int, xnnpack: bool, seed: int, drivers: vulkan.Drivers) -> Seen:
    """Run the file on GPU and CPU: what goes where, and how far the outputs are apart. names: of the outputs.

    Raises ModelError for a file that does not run, UnavailableError without an adapter.
    """
    vulkan.ready(drivers)
    load_runtime()
    model = functools.partial(_GpuModel, path, threads=threads, xnnpack=xnnpack, seed=seed)
    reference = _reference(path, threads, xnnpack, seed)
    with _gpu_errors(path):
        before = len(litert.said())
        first = model(gpu=DEFAULT)
        said = litert.said()[before:]
        fully = first.is_fully_on_gpu()
        default = _outputs(first, seed)
        outputs: dict[str, Outputs] = {}
        for name, text in PRECISIONS.items():
            with contextlib.suppress(LiteRtError, ModelError):  # an adapter without float16, say
                outputs[name] = _outputs(model(gpu=text), seed)
        told = None if fully else read_log(said)
        ran = _before(model(profiling=True)) if told and told.on_gpu else None
    return Seen(
        adapter=selected(litert.said()),
        fully=fully,
        told=told,
        before=ran,
        parity=tuple(
            parity(name, f"{litert.version()} on this computer's CPU", names, found, reference)
            for name, found in outputs.items()
        ),
        default=next((name for name, found in outputs.items() if _are_equal(found, default)), ""),
    )


def _reference(path: Path, threads: int, xnnpack: bool, seed: int) -> Outputs:
    """What the file gives on the CPU."""
    with litert.runtime_errors(path):
        try:
            return _outputs(CompiledModel(path, threads=threads, xnnpack=xnnpack, seed=seed), seed)
        except LiteRtError as error:
            if error.status != litert.UNSUPPORTED:
                raise
    raise ModelError(
        f"{path.name} does not run on the GPU",
        required="a file that LiteRT's CompiledModel loads",
        received="one that keeps state in variable tensors (an LSTM that is not unrolled, say)",
        advice="`--device cpu` runs it in LiteRT's Interpreter",
    )


def _outputs(model: CompiledModel, seed: int) -> Outputs:
    """What the model gives for each of the examples; it is closed then."""
    found: Outputs = []
    for example in range(EXAMPLES):
        model.fill(seed + 1000 * example)
        model.invoke()
        found.append(model.outputs())
    model.close()
    return found


def _are_equal(one: Outputs, other: Outputs) -> bool:
    import numpy as np

    return all(
        np.array_equal(a, b, equal_nan=True) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


def _before(model: CompiledModel) -> tuple[Event, ...]:
    """Kernels of the main graph until the GPU's turn, at which a profiled run fails in LiteRT 2.3."""
    profiler = model.start_profiling()
    with contextlib.suppress(ModelError):
        model.invoke()
    return kernels_before(model.stop_profiling(profiler))


def selected(said: str) -> vulkan.Adapter | None:
    """The adapter that LiteRT's log says it chose (Dawn's words)."""
    found = re.search(r"Selected adapter: (.+?), arch=.*adapterType=(.+)", said)
    if found is None:
        return None
    words = found[2].lower()
    return vulkan.Adapter(
        found[1], next((kind for kind in ("discrete", "integrated", "cpu") if kind in words), "other")
    )


def ask(path: Path, ops: Sequence[int], threads: int, xnnpack: bool, drivers: vulkan.Drivers, answers: Path) -> None:
    """For each of these ops of the file, alone, whether LiteRT's GPU path takes it; see `read_answers`.

    answers: gets a line before each question, and one after it, for one that takes the process down leaves no other
    trace; files with single ops stand beside it.
    """
    vulkan.ready(drivers)
    load_runtime()
    with answers.open("a") as lines:
        for one in cut_out(path, ops, answers.parent):
            print(json.dumps([one.same, None]), file=lines, flush=True)
            before = len(litert.said())
            try:
                model = _GpuModel(one.path, threads=threads, xnnpack=xnnpack, seed=0, gpu=DEFAULT)
            except LiteRtError:
                continue
            fully = model.is_fully_on_gpu()
            model.close()
            told = read_log(litert.said()[before:])
            reason = next((reason for kind, reason in told.refused if kind == one.kind), None) if told else None
            if fully or reason is not None:
                answer = "" if fully else re.sub(r" [iot]\d+$", "", reason or "")
                print(json.dumps([one.same, answer]), file=lines, flush=True)


def read_answers(answers: Path) -> dict[int, str | None]:
    """By op: "" where the GPU takes it, else why not; None where the question had no answer."""
    lines = answers.read_text().splitlines() if answers.exists() else []
    return {index: answer for same, answer in map(json.loads, lines) for index in same}


@contextlib.contextmanager
def _gpu_errors(path: Path) -> Generator[None]:
    """Turn a failure into one that speaks of the GPU; the file ran on the CPU before."""
    before = len(litert.said())
    try:
        with litert.runtime_errors(path):
            yield
    except ModelError as error:
        if "No adapters found" not in litert.said()[before:]:
            raise ModelError(
                f"LiteRT cannot run {path.name} on the GPU",
                received=error.received,
                advice="On this computer's CPU alone it runs",
            ) from None
        raise UnavailableError(
            "LiteRT's GPU path finds no adapter that it can use",
            required="a GPU whose driver offers Vulkan (or a browser's SwiftShader)",
            received=error.received,
        ) from None
