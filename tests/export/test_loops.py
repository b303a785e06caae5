"""Exported models that are run in a loop give what the Keras model gives in the same loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgedl
from edgedl.core.artifacts import ExportedModel, TrainedModel
from edgedl.core.errors import ConfigError, ModelError
from edgedl.export.sampling import follow
from edgedl.models.load import load_keras
from edgedl.pipeline.data.gaussian_ring import centres

pytestmark = pytest.mark.tensorflow


def train(name: str, folder: Path, data: str, model: dict[str, object], epochs: int, rate: float) -> TrainedModel:
    recipe = {"name": name, "seed": 1, "data": {"source": data}, "model": model}
    settings = {"epochs": epochs, "batch_size": 128, "optimizer": {"learning_rate": rate}}
    return edgedl.train(recipe | {"train": settings}, out=folder)


def files(trained: TrainedModel) -> list[ExportedModel]:
    int8 = edgedl.compress(trained, "int8")
    return [edgedl.export(trained, "tflite"), edgedl.export(trained, "onnx"), edgedl.export(int8, "tflite")]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    family = {"family": "transformer-decoder", "width": 16, "layers": 1, "heads": 2, "dropout": 0.0}
    return train("words", tmp_path_factory.mktemp("runs") / "words", "copy-sequence", family, 10, 0.01)


@pytest.mark.slow
def test_decoding_follows_keras_beyond_the_context(decoder: TrainedModel) -> None:
    model = load_keras(decoder.path(decoder.model_file))
    length = model.input_shape[1]
    text = [1, 2, 3, 4, 5, 6]
    for _ in range(8):  # beyond the context of 11
        window = text[-length:]
        filled = np.array([window + [0] * (length - len(window))], np.int32)
        text.append(int(model.predict(filled, verbose=0)[0, len(window) - 1].argmax()))
    tflite, onnx, int8 = files(decoder)
    for one in (tflite, onnx):
        assert edgedl.generate(one.model_path, [1, 2, 3, 4, 5, 6], 8) == text[6:]
    answers = edgedl.generate(int8.model_path, [1, 2, 3, 4, 5, 6], 8)
    assert len(answers) == 8
    assert set(answers) <= set(range(8))
    with pytest.raises(ModelError, match="each 0 to 7"):
        edgedl.generate(tflite.model_path, [9], 1)
    with pytest.raises(ModelError, match="no denoiser"):
        edgedl.sample(tflite.model_path, 1)


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    family = {"family": "ddpm", "steps": 50, "last": 0.3, "filters": 128}
    return train("ring", tmp_path_factory.mktemp("runs") / "ring", "gaussian-ring", family, 50, 0.003)


@pytest.mark.slow
def test_sampling_follows_keras_and_finds_the_ring(denoiser: TrainedModel) -> None:
    model = load_keras(denoiser.path(denoiser.model_file))
    schedule = denoiser.contract.noise
    assert schedule is not None

    def predict(x: np.ndarray, t: int) -> np.ndarray:
        return model([x, np.full((len(x), 1), t, np.float32)], training=False).numpy()

    expected = follow(predict, schedule, (300, 2), 7)
    for file in files(denoiser):
        found = edgedl.sample(file.model_path, 300, seed=7)
        if file.precision != "int8":
            assert np.allclose(found, expected, atol=1e-2)
        off = np.linalg.norm(found[:, None] - centres()[None], axis=-1)
        assert np.median(off.min(axis=1)) < 0.2  # noise alone: 0.6
        assert len(np.unique(off.argmin(axis=1))) == 8  # no Gaussian is left out
    few = edgedl.sample(file.model_path, 100, steps=10)
    assert few.shape == (100, 2)
    with pytest.raises(ConfigError, match="1 to 50"):
        edgedl.sample(file.model_path, 1, steps=51)
    with pytest.raises(ModelError, match="no language model"):
        edgedl.generate(file.model_path, [1], 1)
