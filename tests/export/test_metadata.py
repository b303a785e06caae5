import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgedl.core.contract import Contract, InputContract, OutputContract
from edgedl.core.errors import ModelError
from edgedl.export.metadata import TensorMetadata, embed_metadata, read_metadata
from edgedl.export.onnx_metadata import embed_onnx_metadata, read_onnx_contract


def embed(model: bytes, contract: Contract, **changes) -> bytes:
    settings = {"name": "tiny", "description": "what it is", "layers": ("dense", "probs"), "version": "1.2"} | changes
    return embed_metadata(model, contract, **settings)


def run(model: bytes, seed: int = 0) -> list[np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(seed)
    for detail in interpreter.get_input_details():
        is_float = detail["dtype"] == np.float32
        values = rng.random(detail["shape"]) if is_float else rng.integers(0, 100, detail["shape"])
        interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def buffer_places(model: bytes) -> list[int]:
    from ai_edge_litert import schema_py_generated as schema

    root = schema.Model.GetRootAs(model, 0)
    buffers = [root.Buffers(i) for i in range(root.BuffersLength())]
    return [one._tab.Vector(one._tab.Offset(4)) for one in buffers if one is not None and one.DataLength()]


def test_everything_is_read_back(tiny_tflite: bytes, tiny_contract: Contract, tmp_path: Path):
    path = tmp_path / "tiny.tflite"
    path.write_bytes(embed(tiny_tflite, tiny_contract))
    found = read_metadata(path)
    assert (found.name, found.description, found.version) == ("tiny", "what it is", "1.2")
    assert found.contract == tiny_contract
    assert found.layers == ("dense", "probs")
    assert found.outputs == (
        TensorMetadata("probs", "probabilities", minimum=(0.0,), maximum=(1.0,), labels=("null", "één", 'a "b"')),
    )
    extra, image = found.inputs  # in the order of the subgraph, which is not the contract's
    assert (extra.name, extra.mean, extra.std) == ("extra", (0.0,), (1.0,))
    assert (image.name, image.mean, image.std, image.minimum, image.maximum) == (
        *("image", (127.5,), (51.0,)),
        *((-2.5,), (2.5,)),
    )


def test_an_image_says_its_colours_and_size(shared_data: Path, tmp_path: Path):
    model = (shared_data / "mlperf_tiny/image_classification/trained_models/pretrainedResnet_quant.tflite").read_bytes()
    image = InputContract("any", (32, 32, 3), content="image", color_space="rgb", mean=(1.0, 2.0, 3.0), std=(4.0,) * 3)
    contract = Contract("classification", (image,), (OutputContract("out", (10,)),))
    path = tmp_path / "resnet.tflite"
    path.write_bytes(embed(model, contract))
    found = read_metadata(path).inputs[0]
    assert (found.content, found.color_space, found.mean, found.std) == ("image", "rgb", (1, 2, 3), (4, 4, 4))
    assert found.name == "any"  # a single input needs no matching name


@pytest.mark.parametrize(
    "model",
    [
        "mlperf_tiny/image_classification/trained_models/pretrainedResnet_quant.tflite",
        "mlperf_tiny/keyword_spotting/trained_models/kws_ref_model_float32.tflite",
        "tflm_models/tensorflow/lite/micro/examples/mnist_lstm/trained_lstm_int8.tflite",
        "coral_test_data/mobilenet_v1_0.25_128_quant.tflite",  # carries metadata of its own
    ],
)
def test_the_model_itself_is_unchanged(shared_data: Path, model: str):
    content = (shared_data / model).read_bytes()
    contract = Contract("regression", (InputContract("x", (1,)),), (OutputContract("y", (1,)),))
    described = embed(content, contract)
    for before, after in zip(run(content), run(described), strict=True):
        np.testing.assert_array_equal(before, after)
    places = buffer_places(described)
    assert len(places) >= len(buffer_places(content))
    assert {place % 16 for place in places} == {0}


def test_buffers_are_aligned_whatever_their_sizes(tiny_tflite: bytes, tiny_contract: Contract):
    for length in range(20):
        described = embed(tiny_tflite, tiny_contract, name="x" * (length + 1))
        assert {place % 16 for place in buffer_places(described)} == {0}
        np.testing.assert_array_equal(run(described)[0], run(tiny_tflite)[0])


def test_files_are_stored_uncompressed_and_the_result_repeats(tiny_tflite: bytes, tiny_contract: Contract):
    described = embed(tiny_tflite, tiny_contract)
    assert described == embed(tiny_tflite, tiny_contract)
    with zipfile.ZipFile(io.BytesIO(described)) as archive:
        assert {entry.filename: entry.compress_type for entry in archive.infolist()} == {
            "labels.txt": zipfile.ZIP_STORED,
            "edgedl.json": zipfile.ZIP_STORED,
        }
        assert archive.read("labels.txt").decode() == 'null\néén\na "b"\n'


def test_embedding_again_replaces(tiny_tflite: bytes, tiny_contract: Contract, tmp_path: Path):
    once = embed(tiny_tflite, tiny_contract)
    twice = embed(once, tiny_contract, name="other")
    path = tmp_path / "twice.tflite"
    path.write_bytes(twice)
    assert read_metadata(path).name == "other"
    assert len(buffer_places(twice)) == len(buffer_places(once))
    assert embed(twice, tiny_contract) == once


def test_a_contract_of_another_model_is_refused(tiny_tflite: bytes, tiny_contract: Contract):
    inputs = (InputContract("picture", (4,)), InputContract("extra", (4,)))
    with pytest.raises(
        ModelError, match=r"tiny does not fit its contract: required .*extra, picture, received extra, image"
    ):
        embed(tiny_tflite, Contract("classification", inputs, tiny_contract.outputs))


def test_metadata_of_others(shared_data: Path):
    folder = shared_data / "tflite_support_models/tensorflow_lite_support/cc/test/testdata/task/vision"
    found = read_metadata(folder / "mobilenet_v1_0.25_224_quant.tflite")
    assert (found.name, found.author, found.version) == (
        *("MobileNetV1 image classifier (quantized)", "TensorFlow"),
        "v1",
    )
    assert (found.inputs[0].content, found.inputs[0].color_space, found.inputs[0].mean) == ("image", "rgb", (127.5,))
    assert len(found.outputs[0].labels) == 1001
    assert found.contract is None
    for file in shared_data.rglob("*.tflite"):
        read_metadata(file)


def test_damaged_metadata_is_left_out(tiny_tflite: bytes, tiny_contract: Contract, tmp_path: Path):
    described = embed(tiny_tflite, tiny_contract)
    start = described.index(b"M001") - 4
    path = tmp_path / "damaged.tflite"
    path.write_bytes(described[:start] + b"\xff\xff\xff\x7f" + described[start + 4 :])
    from edgedl.export.inspect import inspect_file

    assert inspect_file(path).notes == ("its TFLite metadata is damaged",)
    assert read_metadata(path).contract == tiny_contract


def test_onnx_properties_are_read_back(tiny_contract: Contract):
    model = onnx.ModelProto()
    model.metadata_props.add(key="kept", value="1")
    for _ in range(2):
        embed_onnx_metadata(model, tiny_contract, name="n", description="d", layers=("a", "b"), version="2")
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert read_onnx_contract(found) == (tiny_contract, ("a", "b"))
    assert found["labels"] == 'null\néén\na "b"\n'
    assert found["kept"] == "1"
    assert len(model.metadata_props) == len(found)
    assert read_onnx_contract({}) == (None, ())
    assert read_onnx_contract(found | {"edgedl.contract": "{}"}) == (None, ())
