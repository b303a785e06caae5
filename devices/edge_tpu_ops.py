"""Which ops of a TFLite file the Edge TPU would take, by its documented constraints.

Coral, "TensorFlow models on the Edge TPU", table 1 and "Model requirements".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedl.core.tflite_schema import buffer_bytes, listed, op_names, read_tflite, tensors_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


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

    content = path.read_bytes()
    model = read_tflite(content, path.name)
    names, graph = op_names(model), model.subgraphs[0]
    tensors: list[TpuTensor] = []
    for tensor, facts in zip(listed(graph.tensors), tensors_of(model, graph), strict=True):
        value = None
        if facts.buffer:
            data = buffer_bytes(model, content, tensor.buffer)
            dense = facts.dtype in _STORED and len(data) == facts.elements * np.dtype(facts.dtype).itemsize
            value = np.frombuffer(data, facts.dtype).reshape(facts.shape) if dense else np.zeros(facts.shape)
        tensors.append(TpuTensor(facts.shape, facts.dtype, value))
    return [
        TpuOp(
            names[op.opcodeIndex],
            op.builtinOptions,
            tuple(tensors[number] for number in listed(op.inputs) if number >= 0),
            tuple(tensors[number] for number in listed(op.outputs)),
            tuple(int(number) for number in listed(op.inputs) if number >= 0),
            tuple(int(number) for number in listed(op.outputs)),
        )
        for op in listed(graph.operators)
    ]


_STORED = ("int8", "uint8", "int32", "int64", "float32", "int16")
