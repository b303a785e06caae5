"""TFLite files through their schema alone: no interpreter, so no model can take the process down.

Schema: tensorflow/compiler/mlir/lite/schema/schema.fbs, file identifier "TFL3".
"""

from __future__ import annotations

import importlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgedl.core.artifacts import TensorSpec
from edgedl.core.errors import ModelError

IDENTIFIER = b"TFL3"

DAMAGE = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
"""What reading a damaged flatbuffer raises."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph.

    shape: as the file fixes it, 1 for a free axis; free_shape: the same with −1 for a free axis.
    buffer: index of the constant's buffer, stored_bytes its size; (0, 0) for what is computed.
    """

    name: str
    shape: tuple[int, ...]
    free_shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None
    quantized: bool
    buffer: int
    stored_bytes: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def _schema() -> Any:
    return importlib.import_module("ai_edge_litert.schema_py_generated")


def read_tflite(content: bytes, name: str) -> Any:
    """The file's `ModelT` (ai_edge_litert.schema_py_generated), all offsets and indices checked.

    name: what errors call the file. Raises ModelError for anything but a whole TFLite model.
    """
    schema = _schema()
    if content[4:8] != IDENTIFIER:
        raise ModelError(f"{name} is no TFLite model", required="TFL3 in bytes 4 to 8", received=repr(content[4:8]))
    try:
        model = schema.ModelT.InitFromPackedBuf(content)
        _check_references(model, len(content))
    except DAMAGE:
        raise ModelError(
            f"{name} is a damaged TFLite model",
            required="a whole file",
            received=f"{len(content)} bytes that refer to what is not there",
            advice="Export or download it again",
        ) from None
    return model


def _check_references(model: Any, size: int) -> None:
    """Raise IndexError for a reference to an op code, tensor, buffer or byte that is not there."""
    if not model.subgraphs:
        raise IndexError("no subgraph")
    for buffer in model.buffers:
        if buffer.offset > 1 and buffer.offset + buffer.size > size:
            raise IndexError(f"a buffer ends at byte {buffer.offset + buffer.size}")
    for metadata in model.metadata or ():
        _within(metadata.buffer, model.buffers, "buffer")
    for signature in model.signatureDefs or ():
        tensors = _within(signature.subgraphIndex, model.subgraphs, "subgraph").tensors
        for entry in [*(signature.inputs or ()), *(signature.outputs or ())]:
            _within(entry.tensorIndex, tensors, "tensor")
    for graph in model.subgraphs:
        for tensor in listed(graph.tensors):
            _within(tensor.buffer, model.buffers, "buffer")
        for index in [*listed(graph.inputs), *listed(graph.outputs)]:
            _within(index, listed(graph.tensors), "tensor")
        for op in listed(graph.operators):
            _within(op.opcodeIndex, model.operatorCodes, "op code")
            for index in [*listed(op.inputs), *listed(op.outputs)]:
                if index != -1:  # an optional input that is left out
                    _within(index, listed(graph.tensors), "tensor")


def _within(index: int, values: Sequence[Any], what: str) -> Any:
    if not 0 <= index < len(values):
        raise IndexError(f"{what} {index} of {len(values)}")
    return values[index]


def listed(values: Any) -> list[Any]:
    """A vector of the object API as a list; an absent one is empty."""
    return [] if values is None or isinstance(values, int) else list(values)


def op_names(model: Any) -> list[str]:
    """The name of each op code: CONV_2D …, or for a custom op its own ("FlexErf", "edgetpu-custom-op")."""
    schema = _schema()
    builtin = {value: key for key, value in _constants(schema.BuiltinOperator).items()}
    names: list[str] = []
    for code in model.operatorCodes:
        number = max(code.builtinCode, code.deprecatedBuiltinCode)  # the old field holds codes up to 127
        custom = text(code.customCode) if number == schema.BuiltinOperator.CUSTOM else ""
        names.append(custom or builtin.get(number, f"BUILTIN_{number}"))
    return names


def builtin_operators() -> set[str]:
    """Names of all operators that the schema knows; custom ones are not among them."""
    schema = _schema()
    return _constants(schema.BuiltinOperator).keys() - {"CUSTOM"}


def _constants(enumeration: type) -> dict[str, int]:
    return {key: value for key, value in vars(enumeration).items() if not key.startswith("_")}


def tensors_of(model: Any, graph: Any) -> list[Tensor]:
    """All tensors of one subgraph of a checked model."""
    schema = _schema()
    types = {value: key.lower() for key, value in _constants(schema.TensorType).items()}
    return [_tensor(model, one, types.get(one.type, f"type{one.type}")) for one in listed(graph.tensors)]


def _tensor(model: Any, tensor: Any, dtype: str) -> Tensor:
    shape = tuple(int(side) for side in listed(tensor.shape))
    free_shape = tuple(int(side) for side in listed(tensor.shapeSignature)) or shape
    scales = listed(tensor.quantization.scale) if tensor.quantization else []
    zero_points = listed(tensor.quantization.zeroPoint) if tensor.quantization else []
    buffer = model.buffers[tensor.buffer]
    stored = buffer.size if buffer.offset > 1 else (0 if buffer.data is None else len(buffer.data))
    return Tensor(
        name=text(tensor.name),
        shape=tuple(1 if side < 0 else side for side in shape),
        free_shape=free_shape,
        dtype=dtype,
        scale=float(scales[0]) if len(scales) == 1 else None,
        zero_point=int(zero_points[0]) if len(scales) == 1 and zero_points else None,
        quantized=bool(scales),
        buffer=tensor.buffer if stored else 0,
        stored_bytes=int(stored),
    )


def buffer_bytes(model: Any, content: bytes, buffer: int) -> bytes:
    """The bytes of a buffer, which a large file keeps behind its flatbuffer."""
    found = model.buffers[buffer]
    if found.offset > 1:
        return content[found.offset : found.offset + found.size]
    return b"" if found.data is None else bytes(found.data)


def text(value: bytes | None) -> str:
    """A string of the object API; an absent one is empty."""
    return (value or b"").decode("utf-8", errors="replace")


def signature_names(model: Any) -> tuple[dict[int, str], dict[int, str]]:
    """Tensor index → name in the first signature of the primary subgraph, for inputs and for outputs."""
    for signature in model.signatureDefs or ():
        if signature.subgraphIndex == 0:
            return (
                {entry.tensorIndex: text(entry.name) for entry in reversed(signature.inputs or ())},
                {entry.tensorIndex: text(entry.name) for entry in reversed(signature.outputs or ())},
            )
    return {}, {}


def io_specs(model: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of the primary subgraph in its order, named by the signature where there is one."""
    graph = model.subgraphs[0]
    tensors = tensors_of(model, graph)
    input_names, output_names = signature_names(model)
    inputs = tuple(_spec(tensors[int(index)], input_names.get(index)) for index in listed(graph.inputs))
    return inputs, tuple(_spec(tensors[int(index)], output_names.get(index)) for index in listed(graph.outputs))


def _spec(tensor: Tensor, name: str | None) -> TensorSpec:
    return TensorSpec(name or tensor.name, tensor.free_shape, tensor.dtype, tensor.scale, tensor.zero_point)
