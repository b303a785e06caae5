"""The constant weights of a TFLite file as numbers: what is stored, whatever it is stored as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.tflite_schema import buffer_bytes, listed, op_names, read_tflite, tensors_of
from edgedl.export.layers import layer_of

_OUTPUT_AXIS = {  # of the weights, by op; -1: the last
    "CONV_2D": 0,
    "FULLY_CONNECTED": 0,
    "TRANSPOSE_CONV": 0,
    "DEPTHWISE_CONV_2D": -1,
    "CONV_3D": -1,
    "CONV_3D_TRANSPOSE": -2,
}


@dataclass(frozen=True, eq=False)
class Stored:
    """One constant.

    op: that computes with it; layer: of Keras, where the names tell. values: stored ones less their zero point, in the
    file's shape. channels: axis of the output channels, None where the op has none. per_channel: whether each channel
    is scaled by its own, by quantization or by a BatchNorm that was folded in.
    """

    tensor: str
    op: str
    layer: str | None
    values: NDArray[Any]
    channels: int | None
    per_channel: bool


def stored_weights(path: Path, layers: Sequence[str]) -> list[Stored]:
    """All constants of two axes and more that ops compute with, each once. layers: names of the Keras layers.

    Raises ModelError for anything but a TFLite file.
    """
    content = path.read_bytes()
    model = read_tflite(content, path.name)
    names = op_names(model)
    found: dict[int, Stored] = {}
    for graph in model.subgraphs:
        tensors = tensors_of(model, graph)
        constants = {index: index for index, tensor in enumerate(tensors) if tensor.buffer}
        for op in listed(graph.operators):
            kind = names[op.opcodeIndex]
            inputs, outputs = listed(op.inputs), listed(op.outputs)
            if kind in ("DEQUANTIZE", "DENSIFY") and inputs[0] in constants:
                constants[outputs[0]] = constants[inputs[0]]
                continue
            output = tensors[outputs[0]].name if outputs else ""
            parts: dict[int, Stored] = {}
            for position, place in enumerate(inputs):
                if place not in constants or tensors[constants[place]].buffer in found:
                    continue
                index = constants[place]
                values = _numbers(model, content, graph.tensors[index], tensors[index])
                if values is None or values.ndim < 2:
                    continue
                axis = _OUTPUT_AXIS.get(kind)
                own = tensors[index].name
                parts[position] = Stored(
                    tensor=own,
                    op=kind,
                    layer=next((one for name in (output, own) if (one := layer_of(name, layers))), None),
                    values=values,
                    channels=None if axis is None else axis % values.ndim,
                    per_channel=_scales(graph.tensors[index]) > 1 or "batchnorm" in f"{output};{own}".lower(),
                )
            for position, one in _joined(kind, parts).items():
                found[tensors[constants[inputs[position]]].buffer] = one
    return list(found.values())


_GATES = (range(1, 5), range(5, 9))
"""Inputs of a fused LSTM: one matrix for each gate, of the kernel and of the recurrent kernel."""


def _joined(kind: str, parts: dict[int, Stored]) -> dict[int, Stored]:
    """The matrices of a fused LSTM's gates joined into the two kernels that Keras has."""
    if kind != "UNIDIRECTIONAL_SEQUENCE_LSTM":
        return parts
    found: dict[int, Stored] = {}
    for gates in _GATES:
        four = [parts[gate] for gate in gates if gate in parts]
        if len(four) == len(gates):
            values = np.concatenate([one.values for one in four])
            name = " ".join(one.tensor for one in four)
            found[gates[0]] = replace(
                four[0], tensor=name, values=values, channels=0, per_channel=values.dtype.kind != "f"
            )
    return found


def _scales(tensor: Any) -> int:
    return len(listed(tensor.quantization.scale)) if tensor.quantization else 0


def _numbers(model: Any, content: bytes, tensor: Any, facts: Any) -> NDArray[Any] | None:
    data = np.frombuffer(buffer_bytes(model, content, facts.buffer), np.uint8)
    if facts.dtype == "int4":
        nibbles = np.stack([data & 15, data >> 4], axis=1).ravel().astype(np.int8)
        flat = np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.int8)[: facts.elements]
    elif facts.dtype in ("float32", "float16", "int8", "uint8", "int16"):
        flat = data.view(facts.dtype)
    else:
        return None
    if tensor.sparsity is not None:
        dense = densified(flat, tensor.sparsity, facts.shape)
    elif flat.size == facts.elements:
        dense = flat.reshape(facts.shape)
    else:
        return None
    if facts.dtype.startswith("float") or not facts.zero_point:
        return dense
    return dense.astype(np.int32) - facts.zero_point


def densified(flat: NDArray[Any], sparsity: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """A sparsely encoded tensor, dense (schema.fbs, SparsityParameters: dimensions in traversal order, each dense or
    compressed as in CSR; blocks are further dimensions behind the tensor's own)."""
    rank = len(shape)
    order = [int(one) for one in listed(sparsity.traversalOrder)]
    blocks = [int(one) for one in listed(sparsity.blockMap)]
    levels = listed(sparsity.dimMetadata)
    width = [1] * rank  # of a block, along each axis of the tensor
    for place, axis in enumerate(order):
        if axis >= rank:
            width[blocks[axis - rank]] = int(levels[place].denseSize)
    rows = [(0, ())]  # position within a level, and the coordinates so far
    for level in levels:
        following: list[tuple[int, tuple[int, ...]]] = []
        if level.format == 0:
            size = int(level.denseSize)
            following = [(p * size + i, (*at, i)) for p, at in rows for i in range(size)]
        else:
            segments = [int(one) for one in listed(level.arraySegments.values)]
            indices = [int(one) for one in listed(level.arrayIndices.values)]
            following = [(j, (*at, indices[j])) for p, at in rows for j in range(segments[p], segments[p + 1])]
        rows = following
    dense = np.zeros(shape, flat.dtype)
    for (_, at), value in zip(rows, flat, strict=False):
        place = [0] * rank
        for axis, coordinate in zip(order, at, strict=True):
            if axis < rank:
                place[axis] += coordinate * width[axis]
            else:
                place[blocks[axis - rank]] += coordinate
        if all(p < side for p, side in zip(place, shape, strict=True)):
            dense[tuple(place)] = value
    return dense


def by_channel(stored: Stored) -> NDArray[Any]:
    """The values as (output channels, the rest)."""
    axis = stored.channels or 0
    return np.moveaxis(stored.values, axis, 0).reshape(stored.values.shape[axis], -1)


def along_inputs(stored: Stored) -> NDArray[Any]:
    """The values as (outputs × positions, inputs)."""
    values = stored.values
    if stored.op == "CONV_3D":  # depth × height × width × in × out
        values = np.moveaxis(values, -1, 0)
    return values.reshape(-1, values.shape[-1])
