"""Small TFLite and ONNX files of a known amount of work, written without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgedl.core.model_facts import ModelFile
from edgedl.export.inspect import inspect_file

CUSTOM = 32


def dense_tflite(path: Path, layers: int, width: int = 256, *, custom_op: str | None = None) -> Path:
    """`layers` times relu(x·W + b), [1, width] → [1, width]; with `custom_op`, an op of that name at the end."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    rng = np.random.default_rng(7)
    weights = rng.normal(0, width**-0.5, (width, width)).astype("<f4").tobytes()
    buffers = [schema.BufferT(), schema.BufferT(data=weights), schema.BufferT(data=bytes(4 * width))]

    def tensor(name: str, shape: list[int], buffer: int = 0):
        return schema.TensorT(name=name, shape=np.array(shape, np.int32), buffer=buffer)

    tensors = [tensor("w", [width, width], 1), tensor("b", [width], 2), tensor("x", [1, width])]
    operators = []
    for layer in range(layers):
        tensors.append(tensor(f"tiny/dense_{layer}/Relu", [1, width]))
        options = schema.FullyConnectedOptionsT(fusedActivationFunction=schema.ActivationFunctionType.RELU)
        kind = schema.BuiltinOptions.FullyConnectedOptions
        operators.append(
            schema.OperatorT(0, [2 + layer, 0, 1], [3 + layer], builtinOptionsType=kind, builtinOptions=options)
        )
    codes = [schema.OperatorCodeT(builtinCode=9, deprecatedBuiltinCode=9)]
    if custom_op:
        codes.append(schema.OperatorCodeT(builtinCode=CUSTOM, deprecatedBuiltinCode=CUSTOM, customCode=custom_op))
        operators.append(schema.OperatorT(1, [len(tensors) - 1], [len(tensors)]))
        tensors.append(tensor("custom", [1, width]))
    graph = schema.SubGraphT(tensors=tensors, inputs=[2], outputs=[len(tensors) - 1], operators=operators)
    signature = schema.SignatureDefT(
        inputs=[schema.TensorMapT("x", 2)],
        outputs=[schema.TensorMapT("y", len(tensors) - 1)],
        signatureKey="serving_default",
    )
    model = schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=buffers, signatureDefs=[signature])
    builder = Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def dense_onnx(path: Path, layers: int, width: int = 256, *, op: str = "Relu") -> Path:
    """`layers` times op(x·W + b), [1, width] → [1, width]."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)
    weights = rng.normal(0, width**-0.5, (width, width)).astype(np.float32)
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.zeros(width, np.float32), "b")]
    nodes = []
    value = "x"
    for layer in range(layers):
        name, result = f"tiny/dense_{layer}", "y" if layer == layers - 1 else f"r{layer}"
        nodes += [
            helper.make_node("MatMul", [value, "w"], [f"m{layer}"], name=f"{name}/MatMul"),
            helper.make_node("Add", [f"m{layer}", "b"], [f"a{layer}"], name=f"{name}/BiasAdd"),
            helper.make_node(op, [f"a{layer}"], [result], name=f"{name}/Relu"),
        ]
        value = result
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name in "xy")
    graph = helper.make_graph(nodes, "tiny", [x], [y], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def model_file(path: Path) -> ModelFile:
    """The file with its facts, as a device is handed it."""
    return ModelFile(path, inspect_file(path))


def chain_tflite(path: Path, kinds: Sequence[str], width: int = 16) -> Path:
    """Ops one after the other, [1, width] → [1, width].

    kinds: "FULLY_CONNECTED" with ReLU, "STRIDED_SLICE" of everything ("STRIDED_SLICE-": of row 0, without its axis), or
    any op that takes one tensor and no options.
    """
    from ai_edge_litert import schema_py_generated as schema

    rng = np.random.default_rng(7)
    weights = rng.normal(0, width**-0.5, (width, width)).astype("<f4").tobytes()
    words = [np.array(pair, "<i4").tobytes() for pair in ([0, 0], [1, width], [1, 1])]
    buffers = [schema.BufferT(), *(schema.BufferT(data=data) for data in (weights, bytes(4 * width), *words))]

    def tensor(name: str, shape: list[int], buffer: int = 0, kind: int = schema.TensorType.FLOAT32):
        return schema.TensorT(name=name, shape=np.array(shape, np.int32), buffer=buffer, type=kind)

    tensors = [tensor("w", [width, width], 1), tensor("b", [width], 2)]
    tensors += [tensor(name, [2], 3 + k, schema.TensorType.INT32) for k, name in enumerate(("begin", "end", "step"))]
    tensors.append(tensor("x", [1, width]))
    names = sorted({kind.removesuffix("-") for kind in kinds})
    operators = []
    for k, kind in enumerate(kinds):
        constants, options, options_type = [], None, 0
        if kind == "FULLY_CONNECTED":
            constants, options_type = [0, 1], schema.BuiltinOptions.FullyConnectedOptions
            options = schema.FullyConnectedOptionsT(fusedActivationFunction=schema.ActivationFunctionType.RELU)
        elif kind.startswith("STRIDED_SLICE"):
            constants, options_type = [2, 3, 4], schema.BuiltinOptions.StridedSliceOptions
            options = schema.StridedSliceOptionsT(shrinkAxisMask=int(kind.endswith("-")))
        tensors.append(tensor(f"tiny/op_{k}", [width] if kind.endswith("-") else [1, width]))
        code = names.index(kind.removesuffix("-"))
        inputs = [len(tensors) - 2, *constants]
        operators.append(
            schema.OperatorT(code, inputs, [len(tensors) - 1], builtinOptionsType=options_type, builtinOptions=options)
        )
    numbers = [getattr(schema.BuiltinOperator, name) for name in names]
    codes = [schema.OperatorCodeT(builtinCode=n, deprecatedBuiltinCode=min(n, 127)) for n in numbers]
    return _write_tflite(path, codes, tensors, buffers, operators, 5)


def conv_tflite(path: Path) -> Path:
    """CONV_2D 3×3 with ReLU, MEAN over the image, [1, 8, 8, 4] → [1, 8]."""
    from ai_edge_litert import schema_py_generated as schema

    rng = np.random.default_rng(7)
    weights = rng.normal(0, 0.2, (8, 3, 3, 4)).astype("<f4").tobytes()
    axes = np.array([1, 2], "<i4").tobytes()
    buffers = [schema.BufferT(), *(schema.BufferT(data=data) for data in (weights, bytes(32), axes))]
    tensors = [
        schema.TensorT(name=name, shape=np.array(shape, np.int32), buffer=buffer, type=kind)
        for name, shape, buffer, kind in (
            ("w", [8, 3, 3, 4], 1, schema.TensorType.FLOAT32),
            ("b", [8], 2, schema.TensorType.FLOAT32),
            ("axes", [2], 3, schema.TensorType.INT32),
            ("x", [1, 8, 8, 4], 0, schema.TensorType.FLOAT32),
            ("tiny/conv/Relu", [1, 8, 8, 8], 0, schema.TensorType.FLOAT32),
            ("tiny/mean/Mean", [1, 8], 0, schema.TensorType.FLOAT32),
        )
    ]
    conv = schema.Conv2DOptionsT(strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1)
    conv.fusedActivationFunction = schema.ActivationFunctionType.RELU
    operators = [
        schema.OperatorT(
            0, [3, 0, 1], [4], builtinOptionsType=schema.BuiltinOptions.Conv2DOptions, builtinOptions=conv
        ),
        schema.OperatorT(
            1,
            [4, 2],
            [5],
            builtinOptionsType=schema.BuiltinOptions.ReducerOptions,
            builtinOptions=schema.ReducerOptionsT(),
        ),
    ]
    codes = [
        schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=number)
        for number in (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.MEAN)
    ]
    return _write_tflite(path, codes, tensors, buffers, operators, 3)


def _write_tflite(path: Path, codes: list, tensors: list, buffers: list, operators: list, first: int) -> Path:
    """A file with one graph, from tensor number `first` to the last one."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    last = len(tensors) - 1
    graph = schema.SubGraphT(tensors=tensors, inputs=[first], outputs=[last], operators=operators)
    signature = schema.SignatureDefT(
        inputs=[schema.TensorMapT("x", first)], outputs=[schema.TensorMapT("y", last)], signatureKey="serving_default"
    )
    model = schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=buffers, signatureDefs=[signature])
    builder = Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def conv_onnx(path: Path, *, int8: bool = False, size: int = 32, channels: int = 16) -> Path:
    """relu(conv 3 × 3) from 3 channels, then twice from `channels`, then the mean over the picture; [1, 3, size, size].

    int8: quantised as ONNX Runtime's tools do it (QDQ), activations uint8 and weights within 7 bits of int8, which
    leaves x86 processors without VNNI their 16-bit sums.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)
    constants, nodes = [], []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    def quantised(value: str, scale: float, zero: int = 128) -> str:
        """The value through uint8 and back."""
        grid = [constant(f"{value}/scale", np.float32(scale)), constant(f"{value}/zero", np.uint8(zero))]
        nodes.append(helper.make_node("QuantizeLinear", [value, *grid], [f"{value}/q"], f"{value}/quantize"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{value}/q", *grid], [f"{value}/d"], f"{value}/dequantize"))
        return f"{value}/d"

    value = quantised("x", 1 / 127) if int8 else "x"
    for layer, (taken, given) in enumerate([(3, channels), (channels, channels), (channels, channels)]):
        name = f"conv_{layer}"
        shape = given, taken, 3, 3
        if int8:
            stored = constant(f"{name}/w/q", rng.integers(-64, 64, shape, np.int8))
            grid = [constant(f"{name}/w/scale", np.float32(0.004)), constant(f"{name}/w/zero", np.int8(0))]
            weights = f"{name}/w"
            nodes.append(helper.make_node("DequantizeLinear", [stored, *grid], [weights], f"{weights}/dequantize"))
        else:
            weights = constant(f"{name}/w", rng.normal(0, 0.1, shape).astype(np.float32))
        nodes.append(helper.make_node("Conv", [value, weights], [f"{name}/y"], name, pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"{name}/y"], [f"{name}/r"], f"{name}/relu"))
        value = quantised(f"{name}/r", 0.02, 0) if int8 else f"{name}/r"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["mean"], "mean"))
    if int8:
        value = quantised("mean", 0.01, 0)
        nodes.append(helper.make_node("Identity", [value], ["y"], "y"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size])
    y = helper.make_tensor_value_info("y" if int8 else "mean", TensorProto.FLOAT, [1, channels, 1, 1])
    graph = helper.make_graph(nodes, "tiny", [x], [y], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path
