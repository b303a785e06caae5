"""Chains of techniques: how they are written, what they refuse, and what flows from one step to the next."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.pipeline.compress import small_nets as nets

import edgedl
from edgedl.core.artifacts import AlteredModel, Run, TrainedModel, load_artifact
from edgedl.core.errors import ConfigError, ModelError
from edgedl.core.store import RunStore
from edgedl.pipeline.compress import technique_in_words
from edgedl.pipeline.compress.base import FineTune
from edgedl.pipeline.compress.fine_tune import FineTuned
from edgedl.pipeline.verbs import as_technique
from edgedl.pipeline.verify import EXAMPLES


def test_words_are_short_for_sections() -> None:
    assert technique_in_words("fine-tune:fine_tune.epochs=1:name=x+int8:io=float") == {
        "method": "fine-tune",
        "fine_tune": {"epochs": 1},
        "name": "x",
        "then": [{"method": "int8", "io": "float"}],
    }
    long = as_technique({"method": "fine-tune", "then": ["int8"]})
    assert long == as_technique("fine-tune+int8")
    assert long.variant == "fine-tune+int8"
    assert [one.method for one in long.chain()] == ["fine-tune", "int8"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fin-tune+int8", "did you mean 'fine-tune'"),
        ("int8+", "a technique has no name"),
        ("int8:oi=float", "did you mean 'io'"),
        ("fine-tune+int8:io=sometimes", "'integer' or 'float'"),
        ("fine-tune:fine_tune.epochs=0", "greater than 0"),
    ],
)
def test_words_that_cannot_be_read(words: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        as_technique(words)
    assert said in str(error.value)


def test_a_number_format_comes_last(trained: TrainedModel) -> None:
    with pytest.raises(ConfigError, match="fine-tune cannot follow int8"):
        edgedl.compress(trained, "int8+fine-tune")


def test_training_needs_data(trained: TrainedModel, tmp_path: Path) -> None:
    file = shutil.copy(trained.path(trained.model_file), tmp_path / "mine.keras")
    with pytest.raises(ConfigError, match="fine-tune needs data to train on"):
        edgedl.compress(file, "fine-tune", out=tmp_path / "run")


@pytest.fixture(scope="module")
def tuned_run(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The tiny run with a chain, its training found in the store."""
    folder = tmp_path_factory.mktemp("tuned") / "tiny"
    shutil.copytree(tiny_run.folder, folder)
    recipe = {
        **tiny_run.recipe,
        "compress": [{"method": "fine-tune", "fine_tune": {"epochs": 1}, "then": ["int8"]}],
        "profile": {"devices": []},
    }
    return edgedl.run(recipe, out=folder)


def test_a_chain_is_made_from_its_last_step(tuned_run: Run) -> None:
    (variant,) = tuned_run.compressed
    assert variant.name == "fine-tune+int8"
    assert variant.altered is not None
    altered = load_artifact(tuned_run.folder / variant.altered)
    assert isinstance(altered, AlteredModel)
    assert len(altered.history) == 1
    assert variant.steps[0].change == altered.change
    assert variant.integer_ops == 1.0
    files = {one.format: one for one in tuned_run.exported if one.name == variant.name}
    assert files["onnx"].altered == files["tflite"].altered == variant.altered
    assert files["tflite"].path(files["tflite"].model_file).read_bytes() == variant.path("model.tflite").read_bytes()


def test_files_are_compared_with_the_altered_model(tuned_run: Run) -> None:
    parity = {one.format: one for one in tuned_run.parity if one.name == "fine-tune+int8"}
    assert parity["onnx"].n == EXAMPLES
    assert all(one.passed for one in parity.values())


def test_an_altered_model_is_not_taken_for_the_trained_one(tuned_run: Run) -> None:
    (model,) = RunStore(tuned_run.folder).artifacts(TrainedModel)
    assert not isinstance(model, AlteredModel)


def test_a_chain_of_one_step_is_used_again(tuned_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(tuned_run.folder, folder)
    before = {path.name for path in folder.glob("alter-*")}
    edgedl.compress(folder, "fine-tune:fine_tune.epochs=1+dynamic-range")
    assert {path.name for path in folder.glob("alter-*")} == before


def test_a_frozen_graph_is_not_altered(trained: TrainedModel) -> None:
    from dataclasses import replace

    from edgedl.core.artifacts import CarriedOver
    from edgedl.pipeline.compress.altering import alter_stage

    frozen = replace(trained, carried=CarriedOver("Keras 3", "frozen", None, None, ("a layer of its own",)))
    with pytest.raises(ModelError, match="its graph is frozen"):
        alter_stage(None, frozen, frozen, as_technique("fine-tune"), data=None, recipe=None, seed=0, limits=None)  # type: ignore[arg-type]


@pytest.mark.tensorflow
def test_frozen_norms_stay_as_they_are_while_all_else_is_trained(tmp_path: Path) -> None:
    model = nets.convnet()
    norms = [layer for layer in model.layers if layer.name.endswith("_bn")]
    before, kernels = [one.get_weights() for one in norms], nets.kernels(model)
    FineTuned(fine_tune=FineTune(epochs=1, batch_norm="freeze")).alter(model, nets.bench_of(model, tmp_path))
    for one, values in zip(norms, before, strict=True):
        assert all(np.array_equal(new, old) for new, old in zip(one.get_weights(), values, strict=True))
        assert one.trainable
    for name, values in nets.kernels(model).items():
        assert not np.array_equal(values, kernels[name])
