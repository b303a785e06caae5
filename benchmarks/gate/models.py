"""TFLite files that differ by a known amount of work: a stack of equal layers, and the same with more of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

ROWS, WIDTH = 64, 32
LAYERS = 100
"""Of the base for times, 6.6 M MACs: a layer more is 1 % more work."""
LAYERS_COUNTED = 300
"""Of the base for counters: a layer more is 0.33 %, three are 1 %."""


def stack(path: Path, layers: int) -> Path:
    """Write a file of `layers` times relu(x·W + b), [64, 32] → [64, 32], which share their weights."""
    rng = np.random.default_rng(7)
    weights = rng.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)).astype("<f4").tobytes()
    buffers = [schema.BufferT(), schema.BufferT(data=weights), schema.BufferT(data=bytes(4 * WIDTH))]

    def tensor(name: str, shape: tuple[int, ...], buffer: int = 0) -> schema.TensorT:
        return schema.TensorT(name=name, shape=np.array(shape, np.int32), buffer=buffer)

    tensors = [tensor("w", (WIDTH, WIDTH), 1), tensor("b", (WIDTH,), 2), tensor("x", (ROWS, WIDTH))]
    operators = []
    for layer in range(layers):
        tensors.append(tensor(f"dense_{layer}", (ROWS, WIDTH)))
        options = schema.FullyConnectedOptionsT(fusedActivationFunction=schema.ActivationFunctionType.RELU)
        kind = schema.BuiltinOptions.FullyConnectedOptions
        operators.append(
            schema.OperatorT(0, [2 + layer, 0, 1], [3 + layer], builtinOptionsType=kind, builtinOptions=options)
        )
    last = len(tensors) - 1
    signature = schema.SignatureDefT(
        inputs=[schema.TensorMapT("x", 2)], outputs=[schema.TensorMapT("y", last)], signatureKey="serving_default"
    )
    graph = schema.SubGraphT(tensors=tensors, inputs=[2], outputs=[last], operators=operators)
    codes = [schema.OperatorCodeT(builtinCode=9, deprecatedBuiltinCode=9)]
    model = schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=buffers, signatureDefs=[signature])
    builder = Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(builder.Output()))
    return path
