"""ONNX files in ONNX Runtime, on its CPU execution provider.

Its profiler doubles the time of a small model, so times per op come from a session of their own.
Everything here runs native code on somebody's file: call it in a child process only (see `edgedl.core.isolation`).
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedl.core.errors import ModelError
from edgedl.core.provenance import version_of
from edgedl.devices.session import OpTime, OpTimes, Session, median_of_means, random_input

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

NAME = "ONNX Runtime"
PACKAGE = "onnxruntime"
MODULE = "onnxruntime"
CPU = "CPUExecutionProvider"

_ERRORS_ONLY = 3
_DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(bool)": "bool",
    **{f"tensor({kind})": kind for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
}  # fmt: skip


def version() -> str:
    """The installed runtime, e.g. "ONNX Runtime 1.31.1"."""
    return f"{NAME} {version_of(PACKAGE)}"


def runtime_words() -> str:
    """What a file ran in, as a `ModelLatency` says it."""
    return f"{version()} CPU"


def load_runtime() -> None:
    """Load the library; the price of having ONNX Runtime in a process."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)


def open_session(path: Path, *, threads: int, xnnpack: bool, seed: int) -> Session:
    """Load an ONNX file, ready to be invoked on random inputs; `xnnpack` is LiteRT's affair and has no effect.

    Raises ModelError when ONNX Runtime cannot run it.
    """
    del xnnpack
    return OnnxModel(path, session_options(threads), seed)


def profile_ops(path: Path, *, threads: int, xnnpack: bool, seed: int, seconds: float) -> OpTimes:
    """Time every op of the file, for about `seconds`. Raises ModelError when ONNX Runtime cannot run it."""
    del xnnpack
    with tempfile.TemporaryDirectory(prefix="edgedl-") as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        model = OnnxModel(path, options, seed)
        model.invoke()
        deadline, runs = time.monotonic() + seconds, 0
        while runs < 3 or (time.monotonic() < deadline and runs < 400):
            model.invoke()
            runs += 1
        events = json.loads(Path(model.end_profiling()).read_text())
        return tie(events, runs, read_graph(path), read_graph(Path(folder) / "optimized.onnx"))


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """How every session is opened."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle workers that spin would take a core from the files that alternate with this one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class OnnxModel:
    """A model in an inference session, its inputs and outputs bound to the host's memory. providers: by preference."""

    notes: tuple[str, ...] = ()

    def __init__(
        self, path: Path, options: onnxruntime.SessionOptions, seed: int, providers: Sequence[str] = (CPU,)
    ) -> None:
        import onnxruntime

        self._file = path.name
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=list(providers))
            self.providers = self._session.get_providers()
            first = self.providers[0].removesuffix("ExecutionProvider")
            self.runtime = f"{NAME} {onnxruntime.__version__} {first}"
            self._binding = self._session.io_binding()
            self.fill(seed)
            for tensor in self._session.get_outputs():
                self._binding.bind_output(tensor.name)
        except Exception as error:  # its exceptions have no common base
            raise self._refusal(error) from None

    def fill(self, seed: int) -> None:
        """Give it the random inputs of another seed."""
        import onnxruntime

        tensors = self._session.get_inputs()
        self._inputs = [  # kept: what is bound is their memory, and ONNX Runtime 1.27 does not keep it
            random_input(static_shape(tensor.shape), input_type(tensor, self._file), seed + index)
            for index, tensor in enumerate(tensors)
        ]
        for tensor, value in zip(tensors, self._inputs, strict=True):
            self._binding.bind_ortvalue_input(tensor.name, onnxruntime.OrtValue.ortvalue_from_numpy(value))

    def invoke(self) -> None:
        """Run one inference."""
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # its exceptions have no common base
            raise self._refusal(error) from None

    def outputs(self) -> list[NDArray[Any]]:
        """What the last inference gave, in the order of the graph."""
        return self._binding.copy_outputs_to_cpu()

    def end_profiling(self) -> str:
        """Stop the profiler; the file it wrote."""
        return self._session.end_profiling()

    def close(self) -> None:
        """Release the model."""
        del self._binding, self._session

    def _refusal(self, error: Exception) -> ModelError:
        reason = " ".join(str(error).split())
        return ModelError(
            f"ONNX Runtime cannot run {self._file}", received=reason.removeprefix("[ONNXRuntimeError] : ")
        )


def reason_in(said: str) -> str:
    """The first error of ONNX Runtime's log; "" without one."""
    lines = [line.partition("] ")[2].strip() for line in said.splitlines() if "[E:onnxruntime" in line]
    return lines[0][:300] if lines else ""


def static_shape(shape: Iterable[int | str | None]) -> list[int]:
    """Dynamic axes get size 1."""
    return [size if isinstance(size, int) else 1 for size in shape]


def input_type(tensor: Any, file: str) -> str:
    """NumPy's name of an input's type. Raises ModelError when it cannot be fed."""
    if tensor.type not in _DTYPES:
        raise ModelError(
            f"input {tensor.name!r} of {file} has a type that cannot be fed",
            required=f"one of {', '.join(sorted(set(_DTYPES.values())))}",
            received=tensor.type,
        )
    return _DTYPES[tensor.type]


# --- from executed nodes back to the file's ------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """One node of a graph. inputs: names of its tensors, without constants."""

    index: int
    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_graph(path: Path) -> tuple[Node, ...]:
    """The nodes of an ONNX file in order."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer} | {""}
    return tuple(
        Node(
            index, node.name, node.op_type, tuple(name for name in node.input if name not in constants),
            tuple(node.output),
        )
        for index, node in enumerate(graph.node)
    )  # fmt: skip


def external_files(path: Path) -> set[str]:
    """The files beside an ONNX file that hold its weights, as it names them."""
    import onnx

    weights = onnx.load(path, load_external_data=False).graph.initializer
    return {entry.value for tensor in weights for entry in tensor.external_data if entry.key == "location"}


def tie(events: Sequence[Mapping[str, Any]], runs: int, original: Sequence[Node], optimized: Sequence[Node]) -> OpTimes:
    """The executed nodes in order with the file's node that each belongs to, from the last `runs` of a profile.

    events: ONNX Runtime's profile (Chrome trace events; `dur` in microseconds).
    """
    times_us: dict[tuple[str, str, str], list[float]] = {}
    for event in events:
        if is_node(event):
            key = *name_and_op(event), str(event["args"].get("node_index"))
            times_us.setdefault(key, []).append(float(event["dur"]))
    costs = [(name, op, median_of_means(durations[-runs:])) for (name, op, _), durations in times_us.items()]
    return owned(costs, original, optimized)


def owned(costs: Sequence[tuple[str, str, float]], original: Sequence[Node], optimized: Sequence[Node]) -> OpTimes:
    """Executed nodes (name, op, cost) in order with the file's node that each belongs to."""
    executed = {node.name: node for node in optimized}
    ops = tuple(OpTime(owner(name, op, executed.get(name), original), op, cost) for name, op, cost in costs)
    unknown = sum(op.index is None for op in ops)
    notes = (f"{unknown} of {len(ops)} executed nodes are not in the file or stand for several",) if unknown else ()
    return OpTimes(ops, notes)


def is_node(event: Mapping[str, Any]) -> bool:
    """Whether an event of the profile is the execution of a node."""
    return event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time")


def name_and_op(event: Mapping[str, Any]) -> tuple[str, str]:
    """The executed node's name and op, of its event."""
    return str(event["name"]).removesuffix("_kernel_time"), str(event["args"]["op_name"])


_INSERTED = {"ReorderInput", "ReorderOutput"}  # layout changes for the processor's convolution kernels
_COMPUTES = {
    "Gemm": {"Gemm", "MatMul"},
    "FusedMatMul": {"MatMul"},
    "FusedConv": {"Conv"},
    "FusedGemm": {"Gemm", "MatMul"},
}


def owner(name: str, op: str, node: Node | None, original: Sequence[Node]) -> int | None:
    """Index of the file's node that an executed node belongs to; None where it cannot be told.

    A node that kept its name is itself, and so is one that was renamed for another layout (`conv_token_3`). A fused one
    is found from the tensor it leaves: among the nodes that lead to that tensor, the nearest of the executed kind (the
    Conv of a Conv + Relu); two equally near ones are no answer.
    """
    by_name = {entry.name: entry for entry in original if entry.name}
    if name in by_name and by_name[name].op == op:
        return by_name[name].index
    if op in _INSERTED:
        return None
    kinds = _COMPUTES.get(op, {op.removeprefix("QLinear")})
    namesake = by_name.get(re.sub(r"_token_\d+$", "", name))
    if namesake and namesake.op in kinds:
        return namesake.index
    makers = {output: entry for entry in original for output in entry.outputs}
    left = (name.removesuffix("_nchwc"), *(node.outputs if node else ()))
    start = next((makers[tensor] for tensor in left if tensor in makers), None)
    known = set(node.inputs) if node else set()
    nearest = [start] if start else []
    for _ in range(4):
        matching = {entry.index for entry in nearest if entry.op in kinds}
        if matching:
            return matching.pop() if len(matching) == 1 else None
        nearest = [makers[t] for entry in nearest for t in entry.inputs if t in makers and t not in known]
    return None
