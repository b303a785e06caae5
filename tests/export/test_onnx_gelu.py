"""Exact GELU, whose Erfc ONNX lacks, runs in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedl.core.contract import Contract, InputContract, OutputContract
from edgedl.core.isolation import run_isolated
from edgedl.export import saved_model
from edgedl.export.inference import run_file
from edgedl.export.onnx import convert_onnx

pytestmark = pytest.mark.tensorflow


def test_exact_gelu_becomes_erf(tmp_path: Path) -> None:
    import tf_keras

    x = tf_keras.Input((3,), name="x")
    tf_keras.Model(x, tf_keras.layers.Dense(4, activation="gelu", name="y")(x)).save(tmp_path / "m.keras")
    run_isolated(saved_model._write, tmp_path / "m.keras", tmp_path / "saved", 1, stage="saving", subject="m")
    contract = Contract("regression", (InputContract("x", (3,)),), (OutputContract("y", (4,)),))
    convert_onnx(tmp_path / "saved", tmp_path / "m.onnx", contract, name="m")
    given = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    model = tf_keras.models.load_model(tmp_path / "m.keras", compile=False)
    expected = model.predict(given, verbose=0)
    np.testing.assert_allclose(run_file(tmp_path / "m.onnx", {"x": given})["y"], expected, atol=1e-5)
