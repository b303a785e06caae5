"""A fault of TFLite's converter, mended in the file: biases that are equal are stored once, with one op's scale.

Two layers whose biases have the same values (both zero at the start and added up later, they get the same gradients and
stay equal: a GRU's input and recurrent biases, the two dense layers of a time embedding) share one constant. Quantized,
it has the scale of the first op, input scale × weight scale; the kernel of the second reads the same integers with its
own. The integers are then wrong by the ratio of the two scales, which was seen to reach 12.
"""

from __future__ import annotations

import copy
from typing import Any

import flatbuffers
import numpy as np

from edgedl.core.tflite_schema import IDENTIFIER, listed, op_names, read_tflite

_PLACES = {  # op → positions of input, weights and bias among its inputs
    "FULLY_CONNECTED": (0, 1, 2),
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
}
_TOLERANCE = 1e-3


def separate_biases(content: bytes, name: str) -> bytes:
    """The same file, in which every op's bias has the scale that its kernel assumes; unchanged where all have it."""
    model = read_tflite(content, name)
    names = op_names(model)
    changed = [
        _separate(model, graph, op, places)
        for graph in model.subgraphs
        for op in listed(graph.operators)
        if (places := _PLACES.get(names[op.opcodeIndex]))
    ]
    if not any(changed):
        return content
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _separate(model: Any, graph: Any, op: Any, places: tuple[int, int, int]) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    inputs = listed(op.inputs)
    if len(inputs) <= max(places) or inputs[places[2]] < 0:
        return False
    given, weights, bias = (graph.tensors[inputs[place]] for place in places)
    dtype = {schema.TensorType.INT32: np.int32, schema.TensorType.INT64: np.int64}.get(bias.type)
    scales = [_scales(tensor) for tensor in (given, weights, bias)]
    if dtype is None or not all(scale.size for scale in scales):
        return False
    required = (scales[0] * scales[1]).astype(np.float32)
    if np.allclose(scales[2], required, rtol=_TOLERANCE, atol=0.0):
        return False
    stored = np.frombuffer(bytes(model.buffers[bias.buffer].data), dtype)
    values = np.round(stored * scales[2] / required)
    limits = np.iinfo(dtype)
    own, buffer = copy.deepcopy(bias), schema.BufferT()
    buffer.data = np.clip(values, limits.min, limits.max).astype(dtype).view(np.uint8)
    own.quantization.scale = np.broadcast_to(required, stored.shape if required.size > 1 else (1,)).copy()
    own.quantization.zeroPoint = np.zeros(own.quantization.scale.shape, np.int64)
    own.buffer = len(model.buffers)
    model.buffers.append(buffer)
    inputs[places[2]] = len(graph.tensors)
    graph.tensors.append(own)
    op.inputs = np.array(inputs, np.int32)
    return True


def _scales(tensor: Any) -> Any:
    """The scales of a quantized tensor, float64; empty without."""
    quantization = tensor.quantization
    return np.array(listed(quantization.scale) if quantization else [], np.float64)
