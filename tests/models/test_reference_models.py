"""Models that others published load, convert, and agree with the TFLite files that they were published with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.shared_data import SHARED, shared

import edgedl
from edgedl.core.errors import ModelError
from edgedl.export.inference import run_file
from edgedl.models.load import inspect_keras

pytestmark = pytest.mark.tensorflow

WITHOUT_CODE = {"albertraviss2023__anti-malarial-demand-forecast_malaria_models__GRU.keras": "CastAndClipLayer"}
"""Files that name a layer of their author's: it cannot be loaded without that."""


def test_every_keras_file_loads_or_says_why_not() -> None:
    folder = shared("wild_keras").parent
    found = [*folder.rglob("*.keras"), *folder.rglob("*.h5"), *(one.parent for one in folder.rglob("saved_model.pb"))]
    assert len(found) >= 17
    for path in found:
        if path.name in WITHOUT_CODE:
            with pytest.raises(ModelError, match=f"{WITHOUT_CODE[path.name]}.*--custom-objects"):
                inspect_keras(path)
            continue
        facts = inspect_keras(path)
        assert facts.parameters > 0
        assert not any("frozen" in note for note in facts.notes), (path, facts.notes)


def published(path: Path, x: NDArray[np.float32]) -> NDArray[Any]:
    """Answers of a float TFLite file without signatures."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for one in x:
        interpreter.set_tensor(given["index"], one[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(answer["index"])[0])
    return np.stack(found)


def images() -> NDArray[np.float32]:
    """Exact CIFAR-10 images, 0 to 255."""
    with np.load(shared("cifar10_lossless_5k/cifar10_lossless_train_first4000.npz")) as archive:
        return archive["x"][:100].astype(np.float32)


def test_mlperf_tiny_s_image_classifier_agrees_with_its_published_file(tmp_path: Path) -> None:
    folder = "mlperf_tiny/image_classification/trained_models"
    keras, x = shared(f"{folder}/pretrainedResnet.h5"), images()
    made = edgedl.export(keras, out=tmp_path / "run").model_path
    (mine,) = run_file(made, {inspect_keras(keras).inputs[0].name: x}).values()
    theirs = published(SHARED / folder / "pretrainedResnet.tflite", x)
    assert np.abs(mine - theirs).max() <= 1e-5 * np.abs(theirs).max()
