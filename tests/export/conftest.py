from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedl.core.contract import Contract, InputContract, OutputContract

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of reference models beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the reference models in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def tiny_tflite() -> bytes:
    """softmax(dense(image + extra)); the subgraph takes `extra` first, and the weights are 12 + 3 numbers."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    rng = np.random.default_rng(1)
    weights, bias = rng.normal(size=(3, 4)).astype("<f4"), rng.normal(size=3).astype("<f4")

    def tensor(name: str, shape: list[int], buffer: int = 0):
        return schema.TensorT(name=name, shape=np.array(shape, np.int32), buffer=buffer)

    def operator(code: int, inputs: list[int], outputs: list[int], kind: int, options: object):
        return schema.OperatorT(code, inputs, outputs, builtinOptionsType=kind, builtinOptions=options)

    ops, options = schema.BuiltinOperator, schema.BuiltinOptions
    graph = schema.SubGraphT(
        tensors=[
            tensor("serving_extra:0", [1, 4]),
            tensor("serving_image:0", [1, 4]),
            tensor("net/dense/MatMul", [3, 4], 1),
            tensor("net/dense/BiasAdd/ReadVariableOp", [3], 2),
            tensor("net/add/add", [1, 4]),
            tensor("net/dense/MatMul;net/dense/BiasAdd", [1, 3]),
            tensor("StatefulPartitionedCall:0", [1, 3]),
        ],
        inputs=[0, 1],
        outputs=[6],
        operators=[
            operator(0, [1, 0], [4], options.AddOptions, schema.AddOptionsT()),
            operator(1, [4, 2, 3], [5], options.FullyConnectedOptions, schema.FullyConnectedOptionsT()),
            operator(2, [5], [6], options.SoftmaxOptions, schema.SoftmaxOptionsT(beta=1.0)),
        ],
        name="main",
    )
    model = schema.ModelT(
        version=3,
        operatorCodes=[
            schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=1)
            for code in (ops.ADD, ops.FULLY_CONNECTED, ops.SOFTMAX)
        ],
        subgraphs=[graph],
        description="hand-made",
        buffers=[
            schema.BufferT(),
            schema.BufferT(data=np.frombuffer(weights.tobytes(), np.uint8)),
            schema.BufferT(data=np.frombuffer(bias.tobytes(), np.uint8)),
        ],
        signatureDefs=[
            schema.SignatureDefT(
                inputs=[schema.TensorMapT("image", 1), schema.TensorMapT("extra", 0)],
                outputs=[schema.TensorMapT("probs", 6)],
                signatureKey="serving_default",
            )
        ],
    )
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.fixture(scope="session")
def tiny_contract() -> Contract:
    """The contract of `tiny_tflite`, in another order than the file's."""
    return Contract(
        task="classification",
        inputs=(
            InputContract("image", (4,), raw_range=(0.0, 255.0), mean=(127.5,), std=(51.0,)),
            InputContract("extra", (4,), feature_names=("a", "b", "c", "d")),
        ),
        outputs=(OutputContract("probs", (3,), content="probabilities", labels=("null", "één", 'a "b"')),),
        description="Three classes of nothing",
    )
