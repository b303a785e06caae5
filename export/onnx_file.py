"""What an ONNX file is: its nodes in order with their figures, told with the `onnx` library alone (no runtime)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedl.core.artifacts import TensorSpec
from edgedl.core.errors import ModelError
from edgedl.core.files import gzip_size
from edgedl.core.model_facts import ModelFacts, OpFacts
from edgedl.export.layers import layer_of
from edgedl.export.onnx_metadata import ONNX_CONTRACT, ONNX_LAYERS, read_onnx_contract

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

STANDARD_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "ai.onnx.training")
RUNTIME_DOMAINS = ("com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc")  # onnxruntime's own operators

_QUANTIZE = ("QuantizeLinear", "DynamicQuantizeLinear")
_PASS_ON = ("DequantizeLinear", "Identity", "Cast", "Transpose", "Reshape", "Unsqueeze", "Squeeze")
_SMALL = 64  # elements of a constant that may be a shape or axes, which shape inference needs to see
_RECURRENT = ("LSTM", "GRU", "RNN")
_KERNEL_INPUT = {  # where an op that multiplies has its data and its kernel
    "Conv": (0, 1),
    "ConvTranspose": (0, 1),
    "ConvInteger": (0, 1),
    "QLinearConv": (0, 3),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
    **dict.fromkeys(_RECURRENT, (0, 1)),
}
_WEIGHT_INPUTS = {"QLinearConv": (3, 8), "QLinearMatMul": (3,), "ConvInteger": (1,), "MatMulInteger": (1,)}
_INTEGERS = ("int8", "uint8", "int16", "uint16", "int4", "uint4", "int2", "uint2")


def read_onnx(path: Path) -> ModelProto:
    """The model, tensors in external files not loaded. Raises ModelError for anything but a whole ONNX model."""
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        raise _no_onnx(path, "bytes that are no such message") from None
    if model.ir_version < 1 or not model.HasField("graph") or not model.opset_import:
        raise _no_onnx(path, "a message without version, graph or operator set")
    if not _is_text(model):
        raise _no_onnx(path, "names that are no text")
    for tensor in _all_tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(path, tensor)
    return model


def _is_text(model: ModelProto) -> bool:
    """Whether all names are text: the library hands out undecodable ones as bytes."""
    names: list[Any] = [model.producer_name, model.producer_version, model.doc_string]
    for entry in model.metadata_props:
        names += [entry.key, entry.value]
    for node in _all_nodes(model.graph):
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
    names += [one.name for one in (*model.graph.input, *model.graph.output, *model.graph.value_info)]
    names += [tensor.name for tensor in _all_tensors(model.graph)] + [entry.domain for entry in model.opset_import]
    return all(isinstance(name, str) for name in names)


def _no_onnx(path: Path, received: str) -> ModelError:
    return ModelError(
        f"{path} is no ONNX model, or a damaged one", required="one whole protobuf ModelProto", received=received
    )


def _all_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            for inner in _graphs_of(attribute):
                yield from _all_tensors(inner)


def _graphs_of(attribute: Any) -> list[GraphProto]:
    return [attribute.g, *attribute.graphs] if attribute.HasField("g") else list(attribute.graphs)


def _check_external(path: Path, tensor: TensorProto) -> None:
    place = {entry.key: entry.value for entry in tensor.external_data}
    file = path.parent / place.get("location", "")
    end = int(place.get("offset") or 0) + int(place.get("length") or 0)
    size = file.stat().st_size if file.is_file() else -1
    if size < end:
        raise ModelError(
            f"{path} keeps its weights in another file",
            required=f"{file} with at least {end} bytes, beside the model",
            received=f"{size} bytes" if size >= 0 else "no such file",
            advice="Copy both files together, or save the model as one file",
        )


# --- operators that exist ----------------------------------------------------------------------------------------


def unknown_onnx_ops(model: ModelProto) -> list[NodeProto]:
    """Nodes of an operator that neither a standard operator set, nor onnxruntime, nor the model itself defines."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    own = {(function.domain, function.name) for function in model.functions}
    return [
        node
        for node in _all_nodes(model.graph)
        if (node.domain, node.op_type) not in own
        and node.domain not in RUNTIME_DOMAINS
        and not _is_standard(node, versions)
    ]


def _all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in _graphs_of(attribute):
                yield from _all_nodes(inner)


def _is_standard(node: NodeProto, versions: Mapping[str, int]) -> bool:
    import onnx

    if node.domain not in STANDARD_DOMAINS:
        return False
    domain = "" if node.domain == "ai.onnx" else node.domain
    version = versions.get(domain, versions.get(node.domain, onnx.defs.onnx_opset_version()))
    return onnx.defs.has(node.op_type, max_inclusive_version=version, domain=domain)


def check_onnx_ops(path: Path) -> None:
    """Raise ModelError, naming operators, nodes and Keras layers, when no runtime can know an operator of the file."""
    model = read_onnx(path)
    unknown = unknown_onnx_ops(model)
    if not unknown:
        return
    layers = _properties(model)[1]
    names = sorted({f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in unknown})
    first = unknown[0]
    layer = layer_of(first.name, layers)
    versions = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import)
    raise ModelError(
        f"{path} uses {'operators' if len(names) > 1 else 'an operator'} that no runtime knows: {', '.join(names)}",
        required=f"operators of the standard sets ({versions}) or of onnxruntime",
        received=f"node {first.name!r}" + (f" of layer {layer!r}" if layer else ""),
        advice="Export it again with a rewrite of that operator, or register it with the runtime",
    )


# --- facts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Value:
    """A tensor of the graph: shape with −1 for a free axis (None: unknown), type in NumPy's words."""

    shape: tuple[int, ...] | None
    dtype: str


@dataclass(frozen=True)
class _Graph:
    """The graph, indexed: values by name, constants by name, who makes and who reads a value."""

    values: Mapping[str, _Value]
    constants: Mapping[str, TensorProto]
    makers: Mapping[str, NodeProto]
    readers: Mapping[str, Sequence[NodeProto]]


def inspect_onnx(path: Path) -> ModelFacts:
    """What an ONNX file is, node by node; `Constant` nodes are constants, not ops. Raises ModelError."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_tensor

    model = read_onnx(path)
    metadata, layers = _properties(model)
    notes: list[str] = []
    unknown = Counter(node.op_type for node in unknown_onnx_ops(model))
    notes += [f"{count} × {name}: no standard operator; no runtime knows it" for name, count in unknown.items()]
    for tensor in _all_tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL and math.prod(tensor.dims) <= _SMALL:
            load_external_data_for_tensor(tensor, str(path.parent))
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # the library raises several kinds; shapes stay unknown
        inferred = model
        notes.append(f"shapes could not be inferred ({str(error).splitlines()[0]})")
    graph = _index(inferred.graph)
    inputs = tuple(_spec(one.name, graph) for one in model.graph.input if one.name not in graph.constants)
    outputs = tuple(_spec(one.name, graph) for one in model.graph.output)
    nodes = [node for node in inferred.graph.node if node.op_type != "Constant"]
    batch = _batch(inputs, outputs)
    ops = tuple(_op_facts(index, node, graph, layers, batch) for index, node in enumerate(nodes))
    weights = {tensor.name: tensor for node in nodes for tensor in _weights(node, graph)}
    if any(node.op_type in ("If", "Loop", "Scan") for node in nodes):
        notes.append("control flow: what its inner graphs compute is not counted")
    if batch > 1 and any(op.macs for op in ops):
        notes.append(f"fixed batch of {batch}; MACs are for one example")
    external = {_location(path, tensor) for tensor in _all_tensors(model.graph) if tensor.external_data}
    notes += [f"weights in {file.name}" for file in sorted(external)]
    return ModelFacts(
        file=path.name,
        kind="onnx",
        size_bytes=sum(file.stat().st_size for file in (path, *external)),
        gzip_bytes=sum(gzip_size(file) for file in (path, *external)),
        inputs=inputs,
        outputs=outputs,
        ops=ops,
        parameters=sum(math.prod(tensor.dims) for tensor in weights.values()),
        macs=sum(op.macs for op in ops),
        precision=_precision(nodes, graph, weights.values()),
        metadata=metadata,
        notes=tuple(notes),
    )


def _location(path: Path, tensor: TensorProto) -> Path:
    return path.parent / next(entry.value for entry in tensor.external_data if entry.key == "location")


def _properties(model: ModelProto) -> tuple[dict[str, str], tuple[str, ...]]:
    """What the file says about itself, and the Keras layers it names."""
    found = {entry.key: entry.value for entry in model.metadata_props}
    contract, layers = read_onnx_contract(found)
    producer = f"{model.producer_name} {model.producer_version}".removesuffix(" None").strip()
    opsets = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import)
    own = {"description": model.doc_string, "converter": producer, "operator sets": opsets}
    for one in contract.inputs if contract else ():
        found[f"{one.name}: normalisation"] = f"(x − {json.dumps(one.mean)}) / {json.dumps(one.std)}"
    for one in contract.outputs if contract else ():
        if one.labels:
            found[f"{one.name}: labels"] = ", ".join(one.labels)
    hidden = (ONNX_CONTRACT, ONNX_LAYERS, "labels") if contract else ()
    return {key: value for key, value in (own | found).items() if value and key not in hidden}, layers


def _index(graph: GraphProto) -> _Graph:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    constants[node.output[0]] = attribute.t
    values = {one.name: _value(one.type.tensor_type) for one in (*graph.input, *graph.value_info, *graph.output)}
    values |= {name: _Value(tuple(tensor.dims), _dtype(tensor.data_type)) for name, tensor in constants.items()}
    makers = {name: node for node in graph.node for name in node.output if name}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return _Graph(values, constants, makers, readers)


def _value(tensor_type: Any) -> _Value:
    shape = None
    if tensor_type.HasField("shape"):
        shape = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in tensor_type.shape.dim)
    return _Value(shape, _dtype(tensor_type.elem_type))


def _dtype(number: int) -> str:
    import onnx

    if number not in onnx.TensorProto.DataType.values():
        return f"type{number}"
    name = onnx.TensorProto.DataType.Name(number).lower() if number else ""
    return {"float": "float32", "double": "float64"}.get(name, name)


def _spec(name: str, graph: _Graph) -> TensorSpec:
    value = graph.values.get(name, _Value(None, ""))
    return TensorSpec(name, value.shape or (), value.dtype)


def _batch(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> int:
    """The fixed batch size, where all inputs and outputs agree on their first axis; else 1."""
    first = {spec.shape[0] if len(spec.shape) > 1 else 1 for spec in (*inputs, *outputs)}
    return max(first.pop(), 1) if len(first) == 1 else 1


def _constant(name: str, graph: _Graph) -> TensorProto | None:
    """The constant behind a value, also through dequantization and changes of layout."""
    while name not in graph.constants:
        maker = graph.makers.get(name)
        if maker is None or maker.op_type not in _PASS_ON:
            return None
        name = maker.input[0]
    return graph.constants[name]


def _weights(node: NodeProto, graph: _Graph) -> list[TensorProto]:
    """The constants a node computes with: not its shapes and axes, nor the scales of quantization."""
    if node.op_type in (*_QUANTIZE, *_PASS_ON):
        return []  # weights that only pass through count where they are used
    names = [name for name in node.input if name]
    if node.op_type in _WEIGHT_INPUTS:
        names = [node.input[place] for place in _WEIGHT_INPUTS[node.op_type] if place < len(node.input)]
    found = [tensor for name in names if (tensor := _constant(name, graph)) is not None]
    kernel = node.op_type in _KERNEL_INPUT
    return [one for one in found if kernel or _dtype(one.data_type) not in ("int64", "int32", "bool", "string")]


def _op_facts(index: int, node: NodeProto, graph: _Graph, layers: Sequence[str], batch: int) -> OpFacts:
    output = graph.values.get(node.output[0] if node.output else "", _Value(None, ""))
    weights = _weights(node, graph)
    names = [node.name, *node.output, *(tensor.name for tensor in weights)]
    return OpFacts(
        index=index,
        op=f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type,
        name=node.name or (node.output[0] if node.output else ""),
        layer=next((layer for name in names if (layer := layer_of(name, layers))), None),
        precision=_computed_in(node, graph),
        output_shape=output.shape or (),
        macs=_macs(node, graph) // batch,
        parameters=sum(math.prod(tensor.dims) for tensor in weights),
        weight_bytes=sum(_stored_bytes(tensor) for tensor in weights),
    )


def _stored_bytes(tensor: TensorProto) -> int:
    bits = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2, "float16": 16, "bfloat16": 16, "int64": 64, "float64": 64}
    name = _dtype(tensor.data_type)
    width = bits.get(name) or (8 if name in ("int8", "uint8", "bool") else 16 if name in ("int16", "uint16") else 32)
    return math.ceil(math.prod(tensor.dims) * width / 8)


def _computed_in(node: NodeProto, graph: _Graph) -> str:
    """The type of the node's output; for a float output that is quantized at once (QDQ), the integer type.

    QDQ: runtimes compute `Dequantize → op → Quantize` in integers. An activation between op and Quantize is fused.
    """
    name = node.output[0] if node.output else ""
    seen = set[str]()
    while name and name not in seen:
        seen.add(name)
        readers = graph.readers.get(name, [])
        if readers and all(reader.op_type == "QuantizeLinear" for reader in readers):
            return graph.values.get(readers[0].output[0], _Value(None, "")).dtype or "int8"
        if len(readers) != 1 or readers[0].op_type not in ("Relu", "Clip", "LeakyRelu", "HardSwish"):
            break
        name = readers[0].output[0]
    return graph.values.get(node.output[0] if node.output else "", _Value(None, "")).dtype


def _macs(node: NodeProto, graph: _Graph) -> int:
    """MACs of one run of a node; a free axis counts as 1, an unknown shape as 0."""
    places = _KERNEL_INPUT.get(node.op_type)
    if places is None or len(node.input) <= max(places) or not node.output:
        return 0
    data, kernel = (_shape(node.input[place], graph) for place in places)
    output = _shape(node.output[0], graph)
    if not data or not kernel or not output:
        return 0
    if node.op_type in _RECURRENT:  # data: time × batch × in; kernels: directions × gates·units × in or units
        recurrent = _shape(node.input[2], graph) if len(node.input) > 2 else None
        return math.prod(data[:2]) * (math.prod(kernel) + math.prod(recurrent or (0,)))
    if node.op_type == "ConvTranspose":  # in × out/groups × spatial; every element of the data meets the kernel
        return math.prod(data) * math.prod(kernel[1:])
    if "Conv" in node.op_type:  # out × in/groups × spatial
        return math.prod(output) * math.prod(kernel[1:])
    turned = node.op_type == "Gemm" and any(one.name == "transA" and one.i for one in node.attribute)
    return math.prod(output) * (data[0] if turned else data[-1])


def _shape(name: str, graph: _Graph) -> tuple[int, ...] | None:
    shape = graph.values.get(name, _Value(None, "")).shape
    return None if shape is None else tuple(max(side, 1) for side in shape)


def _precision(nodes: Sequence[NodeProto], graph: _Graph, weights: Any) -> str:
    """The scheme in a word: "float32", "float16", "dynamic-range", "int8" (QDQ or QLinear), "int16x8", "mixed"."""
    stored = {_dtype(tensor.data_type) for tensor in weights}
    multiplying = [node for node in nodes if node.op_type in _KERNEL_INPUT]
    kinds = {node.op_type for node in nodes}
    if kinds & {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"}:
        return "dynamic-range"
    quantized = [node for node in multiplying if _takes_integers(node, graph)]
    if quantized and len(quantized) == len(multiplying):
        return "int16x8" if _activations_in_16_bit(nodes, graph) else "int8"
    if quantized:
        return "mixed"
    if not multiplying and "QuantizeLinear" in kinds:
        return "int8"
    if stored & set(_INTEGERS):
        return "dynamic-range"
    return "float16" if "float16" in stored else "float32"


def _takes_integers(node: NodeProto, graph: _Graph) -> bool:
    """Whether the data of a node that multiplies was integers before (QDQ), or is (QLinear)."""
    maker = graph.makers.get(node.input[0])
    return node.op_type.startswith("QLinear") or (
        maker is not None and maker.op_type == "DequantizeLinear" and _constant(node.input[0], graph) is None
    )


def _activations_in_16_bit(nodes: Sequence[NodeProto], graph: _Graph) -> bool:
    types = {
        graph.values.get(node.output[0], _Value(None, "")).dtype for node in nodes if node.op_type == "QuantizeLinear"
    }
    return bool(types & {"int16", "uint16"})
