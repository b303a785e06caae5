"""What a TFLite file is: its ops in order with their figures, told from the schema alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgedl.core.artifacts import TensorSpec
from edgedl.core.files import gzip_size
from edgedl.core.model_facts import ModelFacts, OpFacts
from edgedl.core.tflite_schema import (
    Tensor,
    buffer_bytes,
    builtin_operators,
    io_specs,
    listed,
    op_names,
    read_tflite,
    tensors_of,
    text,
)
from edgedl.export.layers import layer_of
from edgedl.export.metadata import TfliteMetadata, metadata_of

_INTEGERS = {"int8", "uint8", "int16", "int4", "uint4", "int2"}
_COUNTED = {"float32", "float16", "int8", "uint8", "int16", "int32"}
_FLOATS = {"float32", "float16", "bfloat16", "float64"}


def inspect_tflite(path: Path) -> ModelFacts:
    """What a TFLite file is; its primary subgraph op by op. Raises ModelError when it is not one."""
    content = path.read_bytes()
    model = read_tflite(content, str(path))
    metadata, metadata_notes = metadata_of(content, model)
    graph = model.subgraphs[0]
    tensors = tensors_of(model, graph)
    constants = _constants(model, graph, tensors)
    inputs, outputs = io_specs(model)
    batch = _batch(inputs, outputs)
    names = op_names(model)
    ops = tuple(
        _op_facts(index, names[op.opcodeIndex], op, tensors, constants, layers=metadata.layers, batch=batch)
        for index, op in enumerate(listed(graph.operators))
    )
    weights = {tensor.buffer: tensor for op in listed(graph.operators) for tensor in _weights(op, tensors, constants)}
    return ModelFacts(
        file=path.name,
        kind="tflite",
        size_bytes=len(content),
        gzip_bytes=gzip_size(path),
        inputs=inputs,
        outputs=outputs,
        ops=ops,
        parameters=sum(tensor.elements for tensor in weights.values()),
        macs=sum(op.macs for op in ops),
        precision=_precision(ops, weights.values(), outputs, _made_float(graph, names, tensors)),
        metadata=_described(model, metadata),
        notes=(*metadata_notes, *_notes(model, ops, batch)),
        zeros=_zeros(model, content, weights.values()),
    )


def _constants(model: Any, graph: Any, tensors: Sequence[Tensor]) -> dict[int, Tensor]:
    """Tensor index → the constant behind it, also through DEQUANTIZE and DENSIFY (float16 and sparse weights)."""
    names = op_names(model)
    constants = {index: tensor for index, tensor in enumerate(tensors) if tensor.buffer}
    for op in listed(graph.operators):
        if names[op.opcodeIndex] in ("DEQUANTIZE", "DENSIFY"):
            for source, target in zip(listed(op.inputs), listed(op.outputs), strict=False):
                if source in constants:
                    constants[target] = constants[source]
    return constants


def _weights(op: Any, tensors: Sequence[Tensor], constants: dict[int, Tensor]) -> list[Tensor]:
    """The constants an op computes with; shapes, axes and paddings (plain integers) do not count."""
    if listed(op.outputs) and op.outputs[0] in constants:
        return []  # a DEQUANTIZE or DENSIFY of weights: they count where they are used
    found = [constants[index] for index in listed(op.inputs) if index in constants]
    return [tensor for tensor in found if tensor.dtype in _FLOATS | _INTEGERS or tensor.quantized]


def _zeros(model: Any, content: bytes, weights: Iterable[Tensor]) -> int | None:
    """How many weights are zero; None if some are not stored one by one (4-bit, sparse, or cut off)."""
    import numpy as np

    found = 0
    for tensor in weights:
        data = buffer_bytes(model, content, tensor.buffer)
        if tensor.dtype not in _COUNTED or len(data) != tensor.elements * np.dtype(tensor.dtype).itemsize:
            return None
        found += int(np.count_nonzero(np.frombuffer(data, tensor.dtype) == (tensor.zero_point or 0)))
    return found


def _op_facts(
    index: int,
    name: str,
    op: Any,
    tensors: Sequence[Tensor],
    constants: dict[int, Tensor],
    *,
    layers: Sequence[str],
    batch: int,
) -> OpFacts:
    outputs = [tensors[i] for i in listed(op.outputs) if i >= 0]
    inputs = [tensors[i].shape if i >= 0 else () for i in listed(op.inputs)]
    weights = _weights(op, tensors, constants)
    candidates = [tensor.name for tensor in [*outputs[:1], *sorted(weights, key=lambda one: -one.elements)]]
    return OpFacts(
        index=index,
        op=name,
        name=outputs[0].name if outputs else "",
        layer=next((layer for one in candidates if (layer := layer_of(one, layers))), None),
        precision=outputs[0].dtype if outputs else "",
        output_shape=outputs[0].free_shape if outputs else (),
        macs=_macs(name, op, inputs, outputs[0].shape, weights) // batch if outputs else 0,
        parameters=sum(tensor.elements for tensor in weights),
        weight_bytes=sum(tensor.stored_bytes for tensor in weights),
    )


# --- multiply–accumulates ----------------------------------------------------------------------------------------

_Shape = tuple[int, ...]


def _macs(name: str, op: Any, inputs: Sequence[_Shape], output: _Shape, weights: Sequence[Tensor]) -> int:
    """MACs of one invoke of an op; 0 for ops that multiply no matrices or kernels, as the literature counts.

    inputs: shapes of all inputs (empty for one left out). Layouts of kernels are those of the schema's kernels.
    """
    data, kernel, third = (*inputs, (), (), ())[:3]
    positions = math.prod(output)
    match name:
        case "CONV_2D":  # out × height × width × in
            macs = positions * math.prod(kernel[1:])
        case "DEPTHWISE_CONV_2D":  # 1 × height × width × out
            macs = positions * math.prod(kernel[1:3])
        case "CONV_3D":  # depth × height × width × in × out
            macs = positions * math.prod(kernel[:4])
        case "TRANSPOSE_CONV":  # out × height × width × in; every element of the third input meets the whole kernel
            macs = math.prod(third) * math.prod(kernel[:3])
        case "CONV_3D_TRANSPOSE":  # depth × height × width × out × in
            macs = math.prod(third) * math.prod(kernel[:4])
        case "FULLY_CONNECTED":  # out × in
            macs = positions * math.prod(kernel[-1:])
        case "BATCH_MATMUL":
            inner = data[-2:-1] if getattr(op.builtinOptions, "adjX", False) else data[-1:]
            macs = positions * math.prod(inner)
        case _ if name in _RECURRENT:  # every matrix once a step
            macs = math.prod(data[:-1]) * sum(weight.elements for weight in weights if len(weight.shape) == 2)
        case _:
            macs = 0
    return macs


_RECURRENT = {
    "LSTM",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "BIDIRECTIONAL_SEQUENCE_LSTM",
    "RNN",
    "UNIDIRECTIONAL_SEQUENCE_RNN",
    "BIDIRECTIONAL_SEQUENCE_RNN",
    "SVDF",
}


def _batch(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> int:
    """The fixed batch size, where all inputs and outputs agree on their first axis; else 1."""
    first = {spec.shape[0] if len(spec.shape) > 1 else 1 for spec in (*inputs, *outputs)}
    return max(first.pop(), 1) if len(first) == 1 else 1


# --- precision, metadata, notes ----------------------------------------------------------------------------------

_CASTS = {"QUANTIZE", "DEQUANTIZE", "CAST", "DENSIFY"}


def _made_float(graph: Any, names: Sequence[str], tensors: Sequence[Tensor]) -> set[int]:
    """The buffers of constants that a DEQUANTIZE makes float before an op sees them."""
    return {tensors[op.inputs[0]].buffer for op in listed(graph.operators) if names[op.opcodeIndex] == "DEQUANTIZE"} - {
        0
    }


def _precision(
    ops: Sequence[OpFacts], weights: Iterable[Tensor], outputs: Sequence[TensorSpec], made_float: set[int]
) -> str:
    """The scheme in a word, from what the ops compute in and what the weights are stored in.

    "float32", "float16" (weights), "dynamic-range" (integer weights, float activations), "weight-only-int8", "-int4"
    (the same, but no kernel sees the integers), "int8", "uint8", "int16x8", "mixed" (some ops in float, some in
    integers); for a file without computing ops the type of its output.
    """
    weights = list(weights)
    computed = {op.precision for op in ops if op.op not in _CASTS and op.precision in _FLOATS | _INTEGERS}
    stored = {tensor.dtype for tensor in weights}
    if not computed:
        return outputs[0].dtype if outputs else "none"
    if computed & _FLOATS and computed & _INTEGERS:
        return "mixed"
    if computed <= _FLOATS:
        if stored & _INTEGERS:
            unseen = all(one.buffer in made_float for one in weights if one.dtype in _INTEGERS)
            return f"weight-only-{'int4' if 'int4' in stored else 'int8'}" if unseen else "dynamic-range"
        return "float16" if "float16" in stored | computed else "float32"
    if "int16" in computed and "int8" in stored:
        return "int16x8"
    return computed.pop() if len(computed) == 1 else "mixed"


def _described(model: Any, metadata: TfliteMetadata) -> dict[str, str]:
    """What the file says about itself, as text."""
    note = text(model.description)
    found = {"description": metadata.description or ("" if note.endswith(" Converted.") else note)}
    found |= {"name": metadata.name, "version": metadata.version, "author": metadata.author}
    found |= {"license": metadata.license, "converter": metadata.converter, "runtime": metadata.min_runtime_version}
    for tensor in (*metadata.inputs, *metadata.outputs):
        if tensor.mean:
            found[f"{tensor.name}: normalisation"] = f"(x − {_numbers(tensor.mean)}) / {_numbers(tensor.std)}"
        if tensor.labels:
            found[f"{tensor.name}: labels"] = ", ".join(tensor.labels)
    return {key: value for key, value in found.items() if value}


def _numbers(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "[" + ", ".join(f"{value:g}" for value in values) + "]"


def _notes(model: Any, ops: Sequence[OpFacts], batch: int) -> list[str]:
    notes: list[str] = []
    builtin = builtin_operators()
    unknown = Counter(op.op for op in ops if op.op not in builtin)
    for name, count in unknown.items():
        if name.startswith("Flex"):
            notes.append(f"{count} × {name}: needs TensorFlow's Select TF ops in the runtime")
        else:
            notes.append(
                f"{count} × {name}: a custom op, which the runtime must bring; its MACs and weights are unknown"
            )
    if len(model.subgraphs) > 1:
        others = [len(listed(graph.operators)) for graph in model.subgraphs[1:]]
        notes.append(f"{len(others)} more subgraph(s) with {sum(others)} op(s), not counted here")
    signatures = [text(one.signatureKey) for one in model.signatureDefs or ()]
    if len(signatures) > 1:
        notes.append(f"{len(signatures)} signatures: {', '.join(signatures)}")
    if batch > 1 and any(op.macs for op in ops):
        notes.append(f"fixed batch of {batch}; MACs are for one example")
    return notes
