"""Quantization in two steps: same integers as in one, other ranges where asked, ops left in float."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedl
from edgedl.core.artifacts import ExportedModel, Quantization
from edgedl.core.errors import ModelError
from edgedl.core.tflite_schema import read_tflite
from edgedl.export.inference import run_file
from edgedl.export.inspect import inspect_file
from edgedl.export.tflite import convert_tflite
from edgedl.export.tflite_quantizer import calibrate_tflite, quantize_tflite, ranges_of, with_ranges

pytestmark = pytest.mark.tensorflow

INT8 = Quantization(method="int8", weights="int8", activations="int8", io="integer")
X = np.random.default_rng(0).normal(size=(32, 6, 6, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(1)
    given = tf_keras.Input((6, 6, 2), name="x")
    hidden = layers.Conv2D(4, 3, activation="relu", name="first")(given)
    hidden = layers.Conv2D(4, 3, activation="relu", name="second")(hidden)
    model = tf_keras.Model(given, layers.Dense(3, name="y")(layers.Flatten()(hidden)))
    return edgedl.export(model, "saved-model", out=tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "calibration.npz"
    np.savez(path, x=X)
    return path


@pytest.fixture(scope="module")
def calibrated(saved: ExportedModel, calibration: Path) -> bytes:
    return calibrate_tflite(saved.model_path, calibration, INT8, name="tiny")


def stored(path: Path) -> list[Any]:
    """Every tensor's type, scales, zero points and constant."""
    model = read_tflite(path.read_bytes(), path.name)
    found: list[Any] = []
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        scales = tensor.quantization.scale if tensor.quantization else None
        found.append((tensor.type, str(scales), None if data is None else bytes(data)))
    return found


def test_two_steps_give_the_integers_of_one(
    saved: ExportedModel, calibration: Path, calibrated: bytes, tmp_path: Path
) -> None:
    convert_tflite(
        saved.model_path, tmp_path / "one.tflite", INT8, saved.contract, name="tiny", calibration=calibration
    )
    quantize_tflite(calibrated, tmp_path / "two.tflite", INT8, saved.contract, name="tiny")
    assert stored(tmp_path / "two.tflite") == stored(tmp_path / "one.tflite")
    assert inspect_file(tmp_path / "two.tflite").inputs[0].name == "x"


def test_a_given_range_is_the_scale_that_is_stored(saved: ExportedModel, calibrated: bytes, tmp_path: Path) -> None:
    first = next(name for name in ranges_of(calibrated) if "first" in name)
    path = tmp_path / "narrow.tflite"
    quantize_tflite(calibrated, path, INT8, saved.contract, name="tiny", ranges={first: (0.0, 0.51)})
    model = read_tflite(path.read_bytes(), "narrow")
    scale = next(one.quantization.scale for one in model.subgraphs[0].tensors if one.name.decode() == first)
    assert scale == pytest.approx([0.51 / 255])
    with pytest.raises(ModelError, match="calibrated tensors"):
        with_ranges(calibrated, {"nobody": (0.0, 1.0)})


def test_a_dense_layer_has_one_scale_in_all_where_that_is_asked_for(
    saved: ExportedModel, calibration: Path, calibrated: bytes, tmp_path: Path
) -> None:
    asked = replace(INT8, dense_scales="per-tensor")
    one, two = tmp_path / "one.tflite", tmp_path / "two.tflite"
    convert_tflite(saved.model_path, one, asked, saved.contract, name="tiny", calibration=calibration)
    quantize_tflite(calibrated, two, asked, saved.contract, name="tiny")
    assert stored(one) == stored(two)
    scales = [
        len(tensor.quantization.scale)
        for tensor in read_tflite(one.read_bytes(), "one").subgraphs[0].tensors
        if tensor.quantization and tensor.quantization.scale is not None and len(tensor.shape) > 1
    ]
    assert sorted(scales) == [1] * (len(scales) - 2) + [4, 4]  # the two convolutions


def test_ops_are_left_in_float_by_kind_and_by_name(saved: ExportedModel, calibrated: bytes, tmp_path: Path) -> None:
    second = next(name for name in ranges_of(calibrated) if "second" in name)
    by_name, by_kind = tmp_path / "name.tflite", tmp_path / "kind.tflite"
    quantize_tflite(calibrated, by_name, INT8, saved.contract, name="tiny", float_nodes=[second])
    quantize_tflite(calibrated, by_kind, INT8, saved.contract, name="tiny", float_ops=["CONV_2D"])
    precisions = [[op.precision for op in inspect_file(path).ops if op.op == "CONV_2D"] for path in (by_name, by_kind)]
    assert precisions == [["int8", "float32"], ["float32", "float32"]]
    assert np.isfinite(run_file(by_name, {"x": X[:4]})["y"]).all()
    with pytest.raises(ModelError, match="no op has this output"):
        quantize_tflite(calibrated, by_name, INT8, saved.contract, name="tiny", float_nodes=["nobody"])
