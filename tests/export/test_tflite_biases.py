"""Layers whose biases are equal do not share one quantized constant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedl
from edgedl.export import tflite
from edgedl.export.tflite_biases import separate_biases


def two_layers_with_equal_biases() -> Any:
    import tf_keras

    bias = tf_keras.initializers.Constant([0.5, -0.5, 0.25, 1.0])
    given = tf_keras.Input((3,), name="given")
    a = tf_keras.layers.Dense(4, bias_initializer=bias, kernel_initializer="ones", name="a")(given)
    b = tf_keras.layers.Dense(4, bias_initializer=bias, kernel_initializer="ones", name="b")(given * 20.0)
    return tf_keras.Model(given, a + b)


def answer(path: Path, x: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.slow
@pytest.mark.tensorflow
def test_equal_biases_keep_their_values_in_int16x8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = two_layers_with_equal_biases()
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (64, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=np.asarray(model(x)))
    data = {"source": "npz", "file": str(tmp_path / "data.npz")}
    kept = edgedl.compress(model, "int16x8", data=data, out=tmp_path / "kept")
    assert answer(kept.path(kept.model_file), x[:1]) == pytest.approx(np.asarray(model(x[:1])), abs=0.05)
    assert separate_biases(kept.path(kept.model_file).read_bytes(), "kept") == kept.path(kept.model_file).read_bytes()

    # What TensorFlow 2.21 gives by itself:
    monkeypatch.setattr(tflite, "separate_biases", lambda content, name: content)
    shared = edgedl.compress(model, "int16x8", data=data, out=tmp_path / "shared")
    assert abs(answer(shared.path(shared.model_file), x[:1]) - np.asarray(model(x[:1]))).max() > 0.2
