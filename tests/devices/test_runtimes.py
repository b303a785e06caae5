"""The same inputs give the same answers as each runtime's own Python interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.shared_data import shared
from tests.tiny_models import dense_onnx, dense_tflite

from edgedl.core.errors import ModelError
from edgedl.devices import litert, onnx_runtime
from edgedl.devices.session import random_input, runtime_of


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize(
    "file",
    [
        "",
        "ai_edge_quantizer_models/conv_fc_mnist_srq_a8w8.tflite",
        "ai_edge_quantizer_models/two_inputs_concatenation.tflite",
    ],
)
def test_litert_computes_what_its_interpreter_does(tmp_path: Path, file: str, xnnpack: bool):
    from ai_edge_litert.interpreter import Interpreter

    path = shared(file) if file else dense_tflite(tmp_path / "dense.tflite", layers=3, width=32)
    session = litert.open_session(path, threads=1, xnnpack=xnnpack, seed=3)
    session.invoke()
    found = session.outputs()
    session.close()
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (signature,) = interpreter.get_signature_list().values()
    runner = interpreter.get_signature_runner()
    details = runner.get_input_details()
    feeds = {
        name: random_input(tuple(details[name]["shape"]), details[name]["dtype"].__name__, 3 + index)
        for index, name in enumerate(signature["inputs"])
    }
    expected = runner(**feeds)
    for name, value in zip(signature["outputs"], found, strict=True):
        assert value.dtype == expected[name].dtype
        steps = 1 if value.dtype.kind in "iu" else 0
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5 + steps)


def test_onnx_runtime_computes_what_its_plain_call_does(tmp_path: Path):
    import onnxruntime

    path = dense_onnx(tmp_path / "dense.onnx", layers=3, width=32)
    session = onnx_runtime.open_session(path, threads=1, xnnpack=True, seed=3)
    session.invoke()
    (found,) = session.outputs()
    session.close()
    plain = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = plain.run(None, {"x": random_input((1, 32), "float32", 3)})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_format_without_a_runtime_says_which_have_one():
    with pytest.raises(ModelError, match="tflite, onnx"):
        runtime_of("saved-model")
