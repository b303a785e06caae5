"""`tpu`: Google's Edge TPU (Coral). Which ops of a file it would take, and an estimate of the time.

Neither Google's compiler nor its runtime is in a package registry. Where `edgetpu_compiler` is installed it decides
what maps; else the documented constraints do (Coral, "TensorFlow models on the Edge TPU", table 1 and "Model
requirements").
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import yaml

from edgedl.core.artifacts import Estimate, LatencyReport, Memory, ModelLatency, OpCost
from edgedl.core.errors import ModelError
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile, OpFacts
from edgedl.core.statistics import Interval
from edgedl.devices.checks import check_formats
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.results import latency_report

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMPILER = "edgetpu_compiler"
ON_CHIP_BYTES = 8 * 2**20
PUBLISHED = Path(__file__).with_name("edge_tpu_published.yaml")


# --- the constraints ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TpuTensor:
    """A tensor of the file. value: of a constant, else None."""

    shape: tuple[int, ...]
    dtype: str
    value: NDArray[Any] | None


@dataclass(frozen=True)
class TpuOp:
    """An op of the file with what the constraints ask about. options: the schema's option object (None for some)."""

    kind: str
    options: Any
    inputs: tuple[TpuTensor, ...]
    outputs: tuple[TpuTensor, ...]
    input_numbers: tuple[int, ...]
    output_numbers: tuple[int, ...]

    def option(self, name: str, default: object = 0) -> Any:
        """One of its options."""
        return getattr(self.options, name, default)


Rule = Callable[[TpuOp], str]
"""Why an op does not map, and what would change it; "" where it maps."""


def _always(op: TpuOp) -> str:
    return ""


def _no_fused_activation(op: TpuOp) -> str:
    return (
        "has a fused activation: make the activation a layer of its own" if op.option("fusedActivationFunction") else ""
    )


def _concatenation(op: TpuOp) -> str:
    constants = [tensor for tensor in op.inputs if tensor.value is not None]
    if constants and (
        len(op.inputs) != 2 or any(tensor.value.any() for tensor in constants if tensor.value is not None)
    ):
        return "joins a constant that is not zero padding: pad instead"
    return _no_fused_activation(op)


def _conv_2d(op: TpuOp) -> str:
    alike = op.option("dilationWFactor", 1) == op.option("dilationHFactor", 1)
    return "" if alike else "has different dilations in x and y: use one for both"


def _depthwise(op: TpuOp) -> str:
    dilated = max(op.option("dilationWFactor", 1), op.option("dilationHFactor", 1)) > 1
    return "is dilated: use a larger or a strided kernel" if dilated else ""


def _fully_connected(op: TpuOp) -> str:
    if op.option("weightsFormat"):
        return "has shuffled weights: convert without them"
    rows = [size for size in op.outputs[0].shape[:-1] if size != 1]
    return "gives more than one dimension: flatten its input, or use a 1×1 convolution" if rows else ""


def _axes(op: TpuOp) -> tuple[int, ...] | None:
    """The axes of a reduction or padding, counted from the front; None where they are no constants."""
    reduced, *others = op.inputs
    if not others or others[0].value is None:
        return None
    return tuple(int(axis) % len(reduced.shape) for axis in others[0].value.reshape(-1))


def _mean(op: TpuOp) -> str:
    axes = _axes(op)
    if axes is None or len(op.inputs[0].shape) != 4 or not set(axes) <= {1, 2}:
        return "averages over other axes than x and y: use a global pooling layer"
    return ""


def _not_over_batch(op: TpuOp) -> str:
    axes = _axes(op)
    return "reduces the batch dimension" if axes is None or 0 in axes else ""


def _not_along_batch(op: TpuOp) -> str:
    return "works along the batch dimension" if op.option("axis") == 0 else ""


def _split(op: TpuOp) -> str:
    value = op.inputs[0].value
    return "splits the batch dimension" if value is None or int(value.reshape(-1)[0]) == 0 else ""


def _pad(op: TpuOp) -> str:
    value = op.inputs[1].value
    if value is None or len(value) != 4 or value[0].any() or value[3].any():
        return "pads other axes than x and y"
    return ""


def _prelu(op: TpuOp) -> str:
    alpha = op.inputs[1].shape
    shared = all(size == 1 for size in alpha[:-1])
    return "" if shared else "has slopes per pixel: give Keras's PReLU shared_axes=[1, 2]"


def _resize(op: TpuOp) -> str:
    shape = op.inputs[0].shape
    return "" if shape[:1] == (1,) and len(shape) <= 4 else "resizes more than one image"


def _softmax(op: TpuOp) -> str:
    shape = op.inputs[0].shape
    if any(size != 1 for size in shape[:-1]):
        return "is over a tensor of more than one dimension"
    return "has more than 16,000 elements" if shape[-1] > 16_000 else ""


def _strided_slice(op: TpuOp) -> str:
    strides = op.inputs[3].value
    if strides is None or (strides != 1).any():
        return "has strides other than 1"
    return "adds or skips axes" if op.option("ellipsisMask") or op.option("newAxisMask") else ""


def _lstm(op: TpuOp) -> str:
    return "is time-major" if op.option("timeMajor") else ""


_ALWAYS = (
    "ADD", "EXPAND_DIMS", "L2_NORMALIZATION", "LOGISTIC", "MAXIMUM", "MINIMUM", "MUL", "QUANTIZE", "RELU", "RELU6",
    "RELU_N1_TO_1", "RESHAPE", "RSQRT", "SLICE", "SPACE_TO_DEPTH", "SQUARED_DIFFERENCE", "SQUEEZE", "SUB", "TANH",
    "TRANSPOSE", "TRANSPOSE_CONV",
)  # fmt: skip
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_ALWAYS, _always),
    "AVERAGE_POOL_2D": _no_fused_activation,
    "CONCATENATION": _concatenation,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
    "MAX_POOL_2D": _no_fused_activation,
    "MEAN": _mean,
    "PACK": _not_along_batch,
    "PAD": _pad,
    "PADV2": _pad,
    "PRELU": _prelu,
    "REDUCE_MAX": _not_over_batch,
    "REDUCE_MIN": _not_over_batch,
    "SUM": _not_over_batch,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "SOFTMAX": _softmax,
    "SPLIT": _split,
    "STRIDED_SLICE": _strided_slice,
}
_INSTEAD = {
    "HARD_SWISH": "ReLU6 maps",
    "LEAKY_RELU": "ReLU maps",
    "ELU": "ReLU maps",
    "GELU": "ReLU maps",
    "BATCH_MATMUL": "a dense layer with constant weights maps",
    "DEQUANTIZE": "export with integer outputs",
}


def refusal(op: TpuOp) -> str:
    """Why the Edge TPU does not take an op, and what would change it; "" where it does."""
    changing = [tensor for tensor in (*op.inputs, *op.outputs) if tensor.value is None and tensor.shape]
    for tensor in changing:
        if tensor.dtype not in ("int8", "uint8") and not (tensor.dtype == "int16" and "LSTM" in op.kind):
            return f"computes in {tensor.dtype}: quantize the whole model to int8"
        if any(size < 1 for size in tensor.shape):
            return "has a dynamic size: export with a static batch size"
        if any(size > 1 for size in tensor.shape[:-3]):
            return "has more than three dimensions above 1"
    if op.kind not in RULES:
        return f"is not in the Edge TPU's list of ops{f'; {_INSTEAD[op.kind]}' if op.kind in _INSTEAD else ''}"
    return RULES[op.kind](op)


def placed(ops: Sequence[TpuOp]) -> list[str]:
    """Per op "" where it runs on the Edge TPU, else why not.

    One compiled part takes everything up to where unsupported ops cut the graph: an op that needs the output of an op
    on the CPU stays there too. A conversion at the input (QUANTIZE of a float image) is left to the CPU and cuts
    nothing.
    """
    on_cpu: set[int] = set()
    reasons: list[str] = []
    for op in ops:
        reason = refusal(op)
        at_input = op.kind == "QUANTIZE" and bool(reason)
        if not reason and (cut := on_cpu.intersection(op.input_numbers)):
            reason = f"needs the output of an op on the CPU (tensor {min(cut)}), which cuts the graph"
        if reason and not at_input:
            on_cpu.update(op.output_numbers)
        reasons.append(reason)
    return reasons


def read_ops(path: Path) -> list[TpuOp]:
    """The ops of the file's first subgraph."""
    import numpy as np
    from ai_edge_litert import schema_py_generated

    schema: Any = schema_py_generated
    kinds = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    types = {number: name.lower() for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    graph = model.subgraphs[0]
    tensors: list[TpuTensor] = []
    for tensor in graph.tensors:
        data, kind = model.buffers[tensor.buffer].data, types[tensor.type]
        shape = tuple(int(size) for size in (tensor.shape if tensor.shape is not None else ()))
        value = None
        if data is not None and kind in ("int8", "uint8", "int32", "int64", "float32", "int16"):
            value = np.frombuffer(bytes(data), dtype=kind).reshape(shape)
        elif data is not None:
            value = np.zeros(shape)
        tensors.append(TpuTensor(shape, kind, value))
    found: list[TpuOp] = []
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        inputs = tuple(int(number) for number in op.inputs if number >= 0)
        outputs = tuple(int(number) for number in op.outputs)
        kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
        found.append(
            TpuOp(
                kind,
                op.builtinOptions,
                tuple(tensors[number] for number in inputs),
                tuple(tensors[number] for number in outputs),
                inputs,
                outputs,
            )
        )
    return found


# --- the compiler ------------------------------------------------------------------------------------------------


def compiled_placement(path: Path, count: int) -> list[str] | None:
    """What `edgetpu_compiler` says of each op, or None where it is not installed.

    Its log lists ops by kind and state, in no order; the kinds are told apart by the file's own order (`read_ops`).
    """
    program = shutil.which(COMPILER)
    if program is None:
        return None
    with tempfile.TemporaryDirectory(prefix="edgedl-edgetpu-") as folder:
        command = [program, "--show_operations", "--out_dir", folder, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise ModelError(
            f"{COMPILER} cannot compile {path.name}", received=(done.stderr.splitlines() or [""])[-1][:300]
        )
    rows = re.findall(r"^([A-Z0-9_]+)\s+(\d+)\s+(.+?)\s*$", done.stdout, re.MULTILINE)
    left: dict[str, list[str]] = {}
    for kind, number, state in rows:
        left.setdefault(kind, []).extend(["" if state.startswith("Mapped") else state] * int(number))
    reasons = [left.get(op.kind, [""]).pop(0) if left.get(op.kind) else "" for op in read_ops(path)]
    assert len(reasons) == count
    return reasons


# --- the device --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EdgeTpu:
    """The `tpu` device."""

    name: str = "tpu"
    summary: str = "Google's Edge TPU (Coral): which ops map and why others do not, milliseconds (estimated)"
    undisturbed: bool = True

    def targets(self) -> Sequence[str]:
        """There is only one."""
        return ()

    def status(self) -> DeviceStatus:
        """Always: without the compiler the documented constraints decide."""
        found = shutil.which(COMPILER)
        return DeviceStatus(
            True, f"mapping by {found}" if found else f"mapping by Coral's documentation; no {COMPILER}"
        )

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Place the ops of every file and estimate its time."""
        started = time.monotonic()
        check_formats(files, self.name, "tflite")
        models = tuple(_latency(file) for file in files)
        return latency_report(
            files,
            models,
            plan,
            device=self.name,
            hardware="Coral Edge TPU (4 TOPS, 8 MB on the chip), on a Dev Board",
            obtained="estimated",
            stopped="computed",
            started=started,
        )


device = EdgeTpu()


def _latency(file: ModelFile) -> ModelLatency:
    facts = file.facts.ops
    reasons = compiled_placement(file.path, len(facts)) or placed(read_ops(file.path))
    on_tpu = [fact for fact, reason in zip(facts, reasons, strict=True) if not reason]
    weights = sum(fact.weight_bytes for fact in on_tpu)
    notes: list[str] = []
    if len(on_tpu) < len(facts):
        first = next(index for index, reason in enumerate(reasons) if reason)
        notes.append(
            f"{len(on_tpu)} of {len(facts)} ops map; the first that does not, {facts[first].op} ({first}), "
            f"{reasons[first]}"
        )
    if weights > ON_CHIP_BYTES:
        notes.append(
            f"{weights / 2**20:.1f} MiB of weights, of which 8 MB stay on the chip: the rest is sent every time"
        )
    return ModelLatency(
        file=file.path.name,
        sha256=sha256_of(file.path),
        size_bytes=file.facts.size_bytes,
        runtime="none",
        ops=_op_costs(facts, reasons),
        estimate=estimate(on_tpu) if on_tpu else None,
        memory=Memory(min(weights, ON_CHIP_BYTES), "weights on the chip"),
        notes=tuple(notes),
    )


def _op_costs(facts: Sequence[OpFacts], reasons: Sequence[str]) -> tuple[OpCost, ...]:
    per_op, per_mac = (1e6 * fitted()[name] for name in ("seconds_per_op", "seconds_per_mac"))
    costs = [0.0 if reason else per_op + per_mac * fact.macs for fact, reason in zip(facts, reasons, strict=True)]
    total = sum(costs) or 1.0
    return tuple(
        OpCost(fact.index, fact.op, fact.layer, cost, "us", cost / total, "cpu" if reason else "tpu", reason)
        for fact, cost, reason in zip(facts, costs, reasons, strict=True)
    )


@functools.cache
def fitted() -> Mapping[str, Any]:
    """The constants of the time model, and its error on each network of Coral's table as fitted to the others."""
    return yaml.safe_load(PUBLISHED.read_text())


def estimate(on_tpu: Sequence[OpFacts]) -> Estimate:
    """Microseconds of the ops on the Edge TPU: a part for each op, arithmetic, and weights that do not fit on the chip.

    Bounds: the largest error of the same fit on published times that it had not seen.
    """
    found = fitted()
    streamed = max(0, sum(fact.weight_bytes for fact in on_tpu) - ON_CHIP_BYTES)
    seconds = (
        found["seconds_per_op"] * len(on_tpu)
        + found["seconds_per_mac"] * sum(fact.macs for fact in on_tpu)
        + found["seconds_per_byte"] * streamed
    )
    errors = sorted(found["errors"].values())
    latency_us = 1e6 * seconds
    bounds = Interval(latency_us, latency_us / (1 + errors[-1]), latency_us / (1 + errors[0]))
    return Estimate(
        bounds,
        f"ops, multiply–accumulates and weights beyond {ON_CHIP_BYTES / 2**20:g} MiB; median error "
        f"{median(map(abs, errors)):.0%}, {errors[0]:+.0%} to {errors[-1]:+.0%} on {len(errors)} published times",
    )
