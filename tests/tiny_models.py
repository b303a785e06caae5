"""Small TFLite and ONNX files of a known amount of work, written without TensorFlow."""

from __future__ import annotations

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
