"""Weight-only int8 and int4: what is stored, what is left, and that it answers like float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedl
from edgedl.core.artifacts import CompressedModel, TrainedModel
from edgedl.core.errors import ModelError
from edgedl.core.tflite_schema import op_names, read_tflite, tensors_of
from edgedl.export import tflite_weights
from edgedl.export.inference import run_file
from edgedl.export.inspect import inspect_file

pytestmark = pytest.mark.tensorflow

X = np.random.default_rng(3).normal(size=(64, 12, 12, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> Any:
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    given = tf_keras.Input((12, 12, 3), name="x")
    hidden = layers.Conv2D(24, 3, activation="relu", name="stem")(given)
    hidden = layers.DepthwiseConv2D(3, activation="relu", name="depth")(hidden)
    hidden = layers.Conv2D(48, 1, activation="relu", name="point")(hidden)
    hidden = layers.Conv2D(32, 3, activation="relu", name="body")(hidden)
    return tf_keras.Model(given, layers.Dense(4, name="y")(layers.GlobalAveragePooling2D()(hidden)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def int8(model: Any, run: Path) -> CompressedModel:
    return edgedl.compress(model, "weight-only-int8", out=run)


@pytest.fixture(scope="module")
def int4(model: Any, run: Path) -> CompressedModel:
    return edgedl.compress(model, "weight-only-int4", out=run)


def matrices(path: Path) -> dict[str, tuple[str, int, int]]:
    """Layer → type, number of weights and stored bytes of its kernel."""
    model = read_tflite(path.read_bytes(), path.name)
    return {
        one.name.split("/")[1]: (one.dtype, one.elements, one.stored_bytes)
        for one in tensors_of(model, model.subgraphs[0])
        if one.buffer and len(one.shape) > 1
    }


def sqnr_db(model: Any, variant: CompressedModel) -> float:
    expected = np.asarray(model(X))
    (got,) = run_file(variant.path(variant.model_file), {"x": X}).values()
    return float(10 * np.log10((expected**2).sum() / ((got - expected) ** 2).sum()))


def test_int8_weights_by_channel_and_answers_like_float(model: Any, int8: CompressedModel) -> None:
    path = int8.path(int8.model_file)
    found = matrices(path)
    assert {dtype for dtype, _, _ in found.values()} == {"int8"}
    assert all(elements == stored for _, elements, stored in found.values())
    assert int8.size_bytes < 0.42 * int8.float_size_bytes
    assert sqnr_db(model, int8) > 35
    facts = inspect_file(path)
    assert facts.precision == "weight-only-int8"
    assert {op.precision for op in facts.ops} == {"float32"}
    assert facts.inputs[0].name == "x"  # the contract is inside
    assert int8.notes == ()


def test_int4_is_stored_in_half_bytes(model: Any, int4: CompressedModel, int8: CompressedModel) -> None:
    path = int4.path(int4.model_file)
    found = matrices(path)
    assert {layer: dtype for layer, (dtype, _, _) in found.items()} == {
        "stem": "int4", "depth": "int8", "point": "int4", "body": "int4", "y": "int4"
    }  # fmt: skip
    assert all(stored == (elements + 1) // 2 for dtype, elements, stored in found.values() if dtype == "int4")
    assert int4.size_bytes < 0.7 * int8.size_bytes
    assert sqnr_db(model, int4) > 15
    assert inspect_file(path).precision == "weight-only-int4"


def test_what_is_left_is_told_and_rules_were_compared(int4: CompressedModel) -> None:
    chosen, left = int4.notes
    assert left == "216 weights of 1 DEPTHWISE_CONV_2D stay int8 (depth): there is no int4 form of this op"
    assert "random inputs" in chosen
    assert all(f"{rule} " in chosen for rule in ("min-max", "mse", "octav"))
    assert sorted(one.name for one in int4.folder.iterdir()) == ["manifest.json", "model.tflite"]


@pytest.mark.slow
def test_auto_is_the_best_of_the_rules(model: Any, run: Path, int4: CompressedModel) -> None:
    rules = ("min-max", "mse", "octav")
    by_rule = [edgedl.compress(model, f"weight-only-int4:scale={rule}", out=run) for rule in rules]
    assert sqnr_db(model, int4) >= max(sqnr_db(model, one) for one in by_rule) - 1.0  # chosen on other random inputs


def test_the_ops_say_what_runtime_they_need(int4: CompressedModel) -> None:
    parsed = read_tflite(int4.path(int4.model_file).read_bytes(), "int4")
    versions = {name: code.version for name, code in zip(op_names(parsed), parsed.operatorCodes, strict=True)}
    assert versions["DEQUANTIZE"] == 6
    assert not [one for one in parsed.metadata if b"min_runtime_version" in one.name]


def test_same_bytes_twice(model: Any, int4: CompressedModel, tmp_path: Path) -> None:
    again = edgedl.compress(model, "weight-only-int4", out=tmp_path)
    assert again.path(again.model_file).read_bytes() == int4.path(int4.model_file).read_bytes()


def test_other_formats_refuse_or_carry_it(trained: TrainedModel) -> None:
    int4 = edgedl.compress(trained, "weight-only-int4")
    assert any("validation examples" in note for note in int4.notes)
    for format in ("onnx", "coreml", "saved-model"):
        with pytest.raises(ModelError, match="weight-only-int4"):
            edgedl.export(int4, format)
    exported = edgedl.export(int4, "tflite")
    assert exported.precision == "weight-only-int4"
    report = edgedl.verify(exported, trained)
    assert report.passed, report.failures
    assert report.precision == "weight-only-int4"


def test_an_op_that_the_runtime_refuses_is_left(
    model: Any, run: Path, int8: CompressedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No op of LiteRT 2.3 refuses 4 bits behind a DEQUANTIZE, so the quantizer is told to break FULLY_CONNECTED."""
    source = next(run.glob("export-float32-tflite-*/*.tflite"))
    wanted = edgedl.compress(model, "weight-only-int4:scale=min-max", out=run)
    monkeypatch.setattr(tflite_weights, "_quantize", _breaking_dense)
    left = tflite_weights.quantize_weights(
        source, tmp_path / "left.tflite", wanted.quantization, wanted.contract, name="broken"
    )
    assert {(one.op, one.dtype) for one in left} == {("DEPTHWISE_CONV_2D", "int8"), ("FULLY_CONNECTED", "int8")}
    assert run_file(tmp_path / "left.tflite", {"x": X})["y"].shape == (64, 4)


_REAL = tflite_weights._quantize


def _breaking_dense(content: bytes, eight: list[str], four: list[str], rule: Any) -> bytes:
    """The real quantizer; where it stores FULLY_CONNECTED in 4 bits, that op's version is one that no runtime has."""
    import flatbuffers

    made = _REAL(content, eight, four, rule)
    if "FULLY_CONNECTED" not in four:
        return made
    parsed = read_tflite(made, "made")
    for name, code in zip(op_names(parsed), parsed.operatorCodes, strict=True):
        code.version = 99 if name == "FULLY_CONNECTED" else code.version
    builder = flatbuffers.Builder(len(made))
    builder.Finish(parsed.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.slow
def test_a_model_without_such_weights_keeps_them_and_says_so(tmp_path: Path) -> None:
    import tf_keras
    from tf_keras import layers

    given = tf_keras.Input((6, 4), name="x")
    recurrent = tf_keras.Model(given, layers.Dense(3, name="y")(layers.LSTM(8, name="memory")(given)))
    found = edgedl.compress(recurrent, "weight-only-int8", out=tmp_path)
    (note,) = found.notes
    assert note.startswith("384 weights of 1 UNIDIRECTIONAL_SEQUENCE_LSTM stay float32"), note
