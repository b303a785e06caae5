"""Core ML packages: written on Linux, read back, never run here."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedl.core.artifacts import Quantization
from edgedl.core.contract import Contract, InputContract, OutputContract
from edgedl.core.errors import ModelError, UnavailableError
from edgedl.core.isolation import run_isolated
from edgedl.core.model_facts import ModelFacts
from edgedl.export import ExportSource, coreml, coreml_file, saved_model
from edgedl.export.inspect import inspect_file
from edgedl.export.onnx_metadata import read_onnx_contract
from edgedl.export.tflite import FLOAT32

pytestmark = pytest.mark.xdist_group("coreml")  # its files are made once

FLOAT16 = Quantization("float16", weights="float16", activations="float32")
CONTRACT = Contract(
    task="classification",
    inputs=(InputContract("image", (8, 8, 3), content="image"), InputContract("extra", (4,))),
    outputs=(OutputContract("z-score", (2,)), OutputContract("probs", (3,), labels=("a", "b", "c"))),
    description="Two in, two out",
)


@pytest.fixture(autouse=True)
def coremltools() -> None:
    if importlib.util.find_spec("coremltools") is None:
        pytest.skip("coremltools is not installed")


def write_keras(path: Path) -> None:
    """In a child: image → conv → batch norm → relu → pool; + extra → GELU dense → two outputs, not in A–Z order."""
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(1)
    image, extra = layers.Input((8, 8, 3), name="image"), layers.Input((4,), name="extra")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same", name="conv")(image)))
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), extra])
    x = layers.Dense(5, activation="gelu", name="hidden")(x)
    outputs = [layers.Dense(2, name="z-score")(x), layers.Dense(3, activation="softmax", name="probs")(x)]
    tf_keras.Model([image, extra], outputs).save(path)


def write_recurrent(path: Path, kind: str) -> None:
    import tf_keras
    from tf_keras import layers

    sequence = layers.Input((6, 4), name="image")
    x = getattr(layers, kind)(3, name="memory")(sequence)
    tf_keras.Model(sequence, layers.Dense(2, name="y")(x)).save(path)


def isolated(function: Any, *arguments: object) -> Any:
    return run_isolated(function, *arguments, stage="test", subject="coreml")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ExportSource:
    folder = tmp_path_factory.mktemp("coreml")
    isolated(write_keras, folder / "model.keras")
    return with_saved_model(folder, CONTRACT, ("conv", "hidden", "z-score", "probs"))


def with_saved_model(folder: Path, contract: Contract, layers: tuple[str, ...]) -> ExportSource:
    bare = ExportSource("tiny", "float32", FLOAT32, contract, layers, folder / "model.keras")
    return replace(bare, float_saved_model=saved_model.export(bare, folder))


@pytest.fixture(scope="module")
def float32(source: ExportSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coreml.export(source, tmp_path_factory.mktemp("float32"))


@pytest.fixture(scope="module")
def facts(float32: Path) -> ModelFacts:
    return inspect_file(float32)


def weights_of(package: Path) -> Mapping[str, np.ndarray[Any, Any]]:
    """In a child: every stored weight by the name of its constant, through coremltools' own reader."""
    import coremltools as ct
    from coremltools.optimize.coreml import get_weights_metadata

    model = ct.models.MLModel(str(package), skip_model_load=True)
    return {name: one.val for name, one in get_weights_metadata(model, weight_threshold=1).items()}


def keras_weights(path: Path) -> Mapping[str, np.ndarray[Any, Any]]:
    import tf_keras

    return {one.name: one.numpy() for one in tf_keras.models.load_model(path).weights}


def test_the_package_has_the_names_and_shapes_of_the_model(facts: ModelFacts) -> None:
    assert facts.kind == "coreml"
    assert {(one.name, one.shape, one.dtype) for one in facts.inputs} == {
        ("image", (1, 8, 8, 3), "float32"),
        ("extra", (1, 4), "float32"),
    }
    assert {(one.name, one.shape) for one in facts.outputs} == {("z_score", (1, 2)), ("probs", (1, 3))}
    assert facts.precision == "float32"
    assert "iOS 15" in facts.metadata["specification"]
    assert coreml_file.NOT_RUN in facts.notes


def test_its_ops_are_counted_and_traced_to_layers(facts: ModelFacts) -> None:
    conv = next(op for op in facts.ops if op.op == "conv")
    assert (conv.macs, conv.parameters, conv.weight_bytes) == (8 * 8 * 6 * 27, 6 * 27 + 6, 4 * (6 * 27 + 6))
    assert "erf" in facts.op_counts  # the exact GELU: Erfc became 1 − Erf
    assert {op.layer for op in facts.ops if op.op in ("linear", "matmul")} >= {"z-score"}
    assert facts.macs == 8 * 8 * 6 * 27 + 10 * 5 + 5 * 2 + 5 * 3
    assert facts.parameters == 6 * 27 + 6 + 50 + 10 + 15  # batch norm folded; biases of zero are dropped


def test_the_weights_in_the_package_are_those_of_the_keras_model(source: ExportSource, float32: Path) -> None:
    kernels = {name: value for name, value in isolated(keras_weights, source.keras).items() if "/kernel" in name}
    stored = list(isolated(weights_of, float32).values())
    for name in ("hidden/kernel:0", "z-score/kernel:0", "probs/kernel:0"):
        kernel = kernels[name]
        assert any(
            value.size == kernel.size and np.array_equal(np.sort(value, axis=None), np.sort(kernel, axis=None))
            for value in stored
        ), name


def test_the_contract_travels_in_the_package(float32: Path) -> None:
    given = isolated(user_metadata, float32)
    contract, layers = read_onnx_contract(given)
    assert contract == CONTRACT
    assert layers == ("conv", "hidden", "z-score", "probs")


def user_metadata(package: Path) -> dict[str, str]:
    import coremltools as ct

    return dict(ct.models.MLModel(str(package), skip_model_load=True).user_defined_metadata)


def test_float16_halves_the_weights(source: ExportSource, facts: ModelFacts, tmp_path: Path) -> None:
    half = inspect_file(coreml.export(replace(source, quantization=FLOAT16), tmp_path))
    assert half.precision == "float16"
    conv, before = (next(op for op in one.ops if op.op == "conv") for one in (half, facts))
    assert (conv.parameters, conv.weight_bytes) == (before.parameters, before.weight_bytes // 2)
    assert {one.dtype for one in half.inputs} == {"float32"}  # the app's side stays as it was


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_layers_convert(kind: str, tmp_path: Path) -> None:
    isolated(write_recurrent, tmp_path / "model.keras", kind)
    contract = Contract("classification", (InputContract("image", (6, 4)),), (OutputContract("y", (2,)),))
    found = inspect_file(coreml.export(with_saved_model(tmp_path, contract, ("memory", "y")), tmp_path))
    assert [one.shape for one in found.outputs] == [(1, 2)]


def test_a_package_that_is_not_the_model_is_refused(source: ExportSource, tmp_path: Path) -> None:
    other = replace(CONTRACT, outputs=(OutputContract("z-score", (7,)), CONTRACT.outputs[1]))
    with pytest.raises(ModelError, match=r"other outputs than the model: required z_score \[1, 7\]"):
        coreml.export(replace(source, contract=other), tmp_path)


def test_what_core_ml_cannot_hold_is_said_before(source: ExportSource, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="fixed batch"):
        coreml.export(replace(source, batch=None), tmp_path)
    assert coreml.refusal(FLOAT32) is None
    assert coreml.refusal(FLOAT16) is None
    int8 = Quantization("int8", weights="int8", activations="int8")
    assert "int8 is none of its schemes" in str(coreml.refusal(int8))


def test_without_coremltools_the_extra_is_named(
    source: ExportSource, float32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"edgedl\[coreml\]"):
        coreml.export(source, tmp_path)
    with pytest.raises(UnavailableError, match=r"edgedl\[coreml\]"):
        inspect_file(float32)


def test_a_damaged_package_is_one_clear_error(float32: Path, tmp_path: Path) -> None:
    copy = tmp_path / "m.mlpackage"
    shutil.copytree(float32, copy)
    (weights,) = copy.rglob("weight.bin")
    weights.unlink()
    with pytest.raises(ModelError, match=r"damaged.*weights are missing"):
        inspect_file(copy)
    (model,) = copy.rglob("*.mlmodel")
    model.write_bytes(b"\xff" * 50)
    with pytest.raises(ModelError, match="damaged"):
        inspect_file(copy)
    (copy / "Manifest.json").write_text(json.dumps({}))
    with pytest.raises(ModelError, match="damaged"):
        inspect_file(copy)
