from pathlib import Path

import numpy as np
import pytest
from tests.tiny_models import dense_tflite

from edgedl.core.errors import ModelError
from edgedl.export.metadata import embed_metadata
from edgedl.export.tflite_file import inspect_tflite

MLPERF = "mlperf_tiny/{}/trained_models/{}.tflite"


def test_ops_in_order_with_their_figures(tiny_tflite: bytes, tmp_path: Path):
    path = tmp_path / "tiny.tflite"
    path.write_bytes(tiny_tflite)
    facts = inspect_tflite(path)
    assert [(op.op, op.layer, op.macs, op.parameters, op.weight_bytes) for op in facts.ops] == [
        ("ADD", "add", 0, 0, 0),
        ("FULLY_CONNECTED", "dense", 12, 15, 60),
        ("SOFTMAX", None, 0, 0, 0),
    ]
    assert [spec.name for spec in facts.inputs] == ["extra", "image"]  # names of the signature, order of the subgraph
    assert [spec.name for spec in facts.outputs] == ["probs"]
    assert (facts.kind, facts.precision, facts.parameters, facts.macs) == ("tflite", "float32", 15, 12)
    assert facts.ops[1].output_shape == (1, 3)
    assert facts.metadata == {"description": "hand-made"}


def test_layers_that_the_file_names_are_used(tiny_tflite: bytes, tiny_contract, tmp_path: Path):
    path = tmp_path / "tiny.tflite"
    path.write_bytes(
        embed_metadata(tiny_tflite, tiny_contract, name="tiny", description="", layers=("dense",), version="1")
    )
    facts = inspect_tflite(path)
    assert [op.layer for op in facts.ops] == [None, "dense", None]
    assert facts.metadata["image: normalisation"] == "(x − 127.5) / 51"
    assert facts.metadata["probs: labels"] == 'null, één, a "b"'


@pytest.mark.parametrize(
    ("model", "precision", "parameters", "macs"),
    [
        (MLPERF.format("image_classification", "pretrainedResnet"), "float32", 77706, 12501632),
        (MLPERF.format("image_classification", "pretrainedResnet_quant"), "int8", 77706, 12501632),
        (MLPERF.format("keyword_spotting", "kws_ref_model"), "int8", 22604, 2656768),
        (MLPERF.format("keyword_spotting", "kws_ref_model_float32"), "dynamic-range", 22604, 2656768),
        (MLPERF.format("anomaly_detection", "ad01_fp32"), "float32", 265864, 264192),
        ("tflm_models/tensorflow/lite/micro/examples/mnist_lstm/trained_lstm.tflite", "float32", 9530, 113120),
        ("tflm_models/tensorflow/lite/micro/models/keyword_scrambled.tflite", "int16x8", 21474, 21056),
        ("coral_test_data/mobilenet_v1_0.25_128_quant.tflite", "uint8", 467593, 13570304),
        ("ai_edge_quantizer_models/partly_quantized_mnist.tflite", "mixed", 50608, 106944),
        ("ai_edge_quantizer_models/single_conv2d_transpose_bias.tflite", "float32", 26, 6400),
        ("ai_edge_quantizer_models/bmm.tflite", "float32", 0, 1024),
    ],
)
def test_published_models(shared_data: Path, model: str, precision: str, parameters: int, macs: int):
    facts = inspect_tflite(shared_data / model)
    # LSTM by hand: 4·(28·20 + 20·20 + 20) + 560·10 + 10 = 9530 and 28·4·(28·20 + 20·20) + 5600 = 113120
    assert (facts.precision, facts.parameters, facts.macs) == (precision, parameters, macs)


def test_every_reference_model_is_read(shared_data: Path):
    files = sorted(shared_data.rglob("*.tflite"))
    assert len(files) > 100
    for file in files:
        facts = inspect_tflite(file)
        assert facts.inputs, file
        assert facts.outputs, file
        assert facts.ops, file


def test_layers_of_a_published_model(shared_data: Path):
    facts = inspect_tflite(shared_data / MLPERF.format("image_classification", "pretrainedResnet_quant"))
    assert [op.layer for op in facts.ops] == [
        *("conv2d", "conv2d_1", "conv2d_2", "add", "conv2d_3", "conv2d_4", "conv2d_5", "add_1"),
        *("conv2d_6", "conv2d_7", "conv2d_8", "add_2", "average_pooling2d", "flatten", "dense", None),
    ]


def test_custom_ops_subgraphs_and_signatures_are_noted(shared_data: Path):
    edge_tpu = inspect_tflite(shared_data / "coral_test_data/mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    assert edge_tpu.ops[0].op == "edgetpu-custom-op"
    assert "edgetpu-custom-op" in edge_tpu.notes[0]
    several = inspect_tflite(shared_data / "ai_edge_quantizer_models/two_signatures.tflite")
    assert several.notes == ("1 more subgraph(s) with 1 op(s), not counted here", "2 signatures: add, multiply")


@pytest.mark.parametrize("cut", [9, 40, 0.3, 0.9, -8])
def test_a_cut_off_file_is_one_clear_error(tiny_tflite: bytes, tmp_path: Path, cut: float):
    path = tmp_path / "cut.tflite"
    path.write_bytes(tiny_tflite[: int(cut * len(tiny_tflite)) if 0 < cut < 1 else int(cut)])
    with pytest.raises(ModelError, match=r"cut\.tflite is a damaged TFLite model: required a whole file"):
        inspect_tflite(path)


def test_overwritten_bytes_never_raise_anything_else(tiny_tflite: bytes, tmp_path: Path):
    path = tmp_path / "overwritten.tflite"
    refused = 0
    for place in range(8, len(tiny_tflite), 7):
        content = bytearray(tiny_tflite)
        content[place] ^= 0xFF
        path.write_bytes(content)
        try:
            inspect_tflite(path)
        except ModelError:
            refused += 1
    assert refused > 20


def test_zeros_are_counted_around_the_zero_point(tmp_path: Path):
    path = dense_tflite(tmp_path / "m.tflite", 2, width=16)  # biases are all zero, weights none
    facts = inspect_tflite(path)
    assert (facts.parameters, facts.zeros) == (16 * 16 + 16, 16)
    content = path.read_bytes()
    weights = np.random.default_rng(7).normal(0, 16**-0.5, (16, 16)).astype("<f4").tobytes()
    assert content.count(weights) == 1
    path.write_bytes(content.replace(weights, bytes(512) + weights[512:]))
    assert inspect_tflite(path).zeros == 16 + 128
