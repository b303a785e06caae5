"""Quantization-aware training: what is taken, what is left, whose ranges the file has, and what earlier steps keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pipeline.compress import small_nets as nets

import edgedl
from edgedl.core.artifacts import TrainedModel
from edgedl.core.errors import ModelError
from edgedl.export.inspect import inspect_file
from edgedl.pipeline.compress.base import Altered, FineTune
from edgedl.pipeline.compress.cluster import Cluster
from edgedl.pipeline.compress.promises import kept_promises
from edgedl.pipeline.compress.prune import Prune
from edgedl.pipeline.compress.qat import FAKE_QUANT, Qat

pytestmark = pytest.mark.tensorflow

SHORT = FineTune(epochs=1, learning_rate=1e-4)


def input_of(path: Path) -> Any:
    return inspect_file(path).inputs[0]


def test_the_file_has_the_learnt_ranges_and_is_integer_throughout(tmp_path: Path) -> None:
    import tf_keras

    from edgedl.export.inference import run_file

    model = nets.convnet()
    bench = nets.bench_of(model, tmp_path)
    made = Qat(fine_tune=SHORT).alter(model, bench)
    assert made.skipped == ()
    assert made.fake_quant == FAKE_QUANT
    assert isinstance(made.model, tf_keras.Model)
    assert {type(one).__module__.split(".")[0] for one in made.model.layers} == {"tf_keras"}  # plain layers
    path = nets.exported(made, bench, nets.INT8)
    facts = inspect_file(path)
    assert {one.precision for one in facts.ops} == {"int8"}
    inputs = {"image": np.asarray(bench.data.test.inputs[:32], np.float32) / 16.0}
    found = run_file(path, inputs)["probabilities"]
    assert found == pytest.approx(made.model.predict(inputs["image"], verbose=0), abs=0.1)


@pytest.mark.slow
def test_ranges_come_from_training_not_from_calibration(tmp_path: Path) -> None:
    """With other ranges in the fake-quantized model the file changes; with other calibration data it does not."""
    from edgedl.export.saved_model import write_saved_model
    from edgedl.pipeline.compress.fake_quant import refresh_weight_ranges, watching, with_fake_quant

    model = nets.convnet()
    bench = nets.bench_of(model, tmp_path)
    trainee, _ = with_fake_quant(model)
    images = np.random.default_rng(0).random((8, 8, 8, 1), np.float32)
    scales = []
    for highest in (1.0, 3.0):
        with watching():
            trainee(images * highest, training=False)
        refresh_weight_ranges(trainee)
        write_saved_model(trainee, tmp_path / FAKE_QUANT, 1, output_names=list(model.output_names))
        path = nets.exported(Altered(model, fake_quant=FAKE_QUANT), bench, nets.INT8)
        scales.append(input_of(path).scale)
    assert scales[0] == pytest.approx(images.max() / 255, rel=1e-3)
    assert scales[1] == pytest.approx(3 * images.max() / 255, rel=1e-3)


@pytest.mark.slow
def test_layers_that_tfmot_does_not_take_are_listed_and_quantized_all_the_same(tmp_path: Path) -> None:
    model = nets.recurrent()
    bench = nets.bench_of(model, tmp_path)
    made = Qat(fine_tune=SHORT).alter(model, bench)
    assert {one.layer: one.kind for one in made.skipped} == {
        "along": "Conv1D",
        "norm": "LayerNormalization",
        "lstm": "LSTM",
    }
    assert "3 layers without fake quantization: along, norm, lstm" in made.said[1]
    facts = inspect_file(nets.exported(made, bench, nets.INT8))
    assert {one.precision for one in facts.ops} == {"int8"}


def test_nested_models_are_taken_apart_and_trained(tmp_path: Path) -> None:
    model = nets.nested()
    before = nets.kernels(model)
    made = Qat(fine_tune=FineTune(epochs=1, learning_rate=1e-2)).alter(model, nets.bench_of(model, tmp_path))
    assert made.skipped == ()
    assert made.model.get_layer("backbone") is not None
    for name, values in nets.kernels(made.model).items():
        assert not np.array_equal(values, before[name])


def test_attention_and_used_twice_and_lonely_norms_are_left_out(tmp_path: Path) -> None:
    import tf_keras
    from tf_keras import layers

    inputs = nets.image()
    twice = layers.Conv2D(1, 3, padding="same", name="twice")
    x = layers.BatchNormalization(name="lonely")(inputs)
    x = twice(twice(x))
    x = layers.Dense(8, activation="elu", name="odd")(layers.Flatten(name="flat")(x))
    model = nets.head(inputs, x)
    made = Qat(fine_tune=SHORT).alter(model, nets.bench_of(model, tmp_path))
    reasons = {one.layer: one.reason for one in made.skipped}
    assert set(reasons) == {"lonely", "twice", "odd"}
    assert "used more than once" in reasons["twice"]
    assert "activation elu" in reasons["odd"]
    bare = tf_keras.Model(inputs, layers.LayerNormalization(name="probabilities")(inputs))
    with pytest.raises(ModelError, match="no layer of this model can be trained with fake quantization"):
        Qat().alter(bare, nets.bench_of(nets.mlp(), tmp_path))


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        (Prune(sparsity=0.7, fine_tune=None), ()),
        pytest.param(Cluster(clusters=8, fine_tune=None), (), marks=pytest.mark.slow),
        pytest.param(
            Prune(pattern="2:4", fine_tune=None), (Cluster(clusters=8, fine_tune=None),), marks=pytest.mark.slow
        ),
    ],
    ids=["PQAT", "CQAT", "PCQAT"],
)
def test_zeros_and_shared_values_survive_in_the_int8_file(tmp_path: Path, first: Any, rest: Any) -> None:
    model = nets.convnet()
    made = first.alter(model, nets.bench_of(model, tmp_path))
    for one in rest:
        made = one.alter(made.model, nets.bench_of(model, tmp_path, made.promises))
    bench = nets.bench_of(model, tmp_path / "qat", made.promises)
    before = nets.kernels(made.model)
    trained = Qat(fine_tune=FineTune(epochs=2, learning_rate=1e-3)).alter(made.model, bench)
    after = nets.kernels(trained.model)
    assert not any(np.array_equal(after[name], before[name]) for name in after)
    assert len(made.promises) >= 2
    for quantization in (None, nets.INT8):
        kept = kept_promises(nets.exported(trained, bench, quantization), made.promises, bench.base)
        assert all(one.kept for one in kept)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", ["prune:sparsity=0.75+cluster:clusters=16+qat", "qat+int8:io=float", "prune:pattern=2:4+qat"]
)
def test_chains_from_the_run_to_the_file(trained: TrainedModel, words: str) -> None:
    made = edgedl.compress(trained, words)
    assert made.quantization.method == "int8"
    assert made.integer_ops == 1.0
    assert all(one.kept for one in made.kept)
    assert all(step.control is not None for step in made.steps)
    assert made.quality is not None
    assert made.quality.loss < 5.0  # points; the net is small and the training short
    assert input_of(made.folder / made.model_file).dtype == ("float32" if "float" in words else "int8")


@pytest.mark.slow
def test_two_runs_with_one_seed_give_the_same_file(tmp_path: Path, tiny_recipe: dict[str, Any]) -> None:
    recipe = {name: tiny_recipe[name] for name in ("name", "seed", "data", "model", "train")}
    files = []
    for run in ("one", "two"):
        trained = edgedl.train(recipe | {"train": {"epochs": 1}}, out=tmp_path / run)
        keras = trained.path(trained.model_file).read_bytes()
        made = edgedl.compress(trained, "prune:fine_tune.epochs=1+cluster:fine_tune.epochs=1+qat:fine_tune.epochs=1")
        assert trained.path(trained.model_file).read_bytes() == keras  # the caller's model is as it was
        files.append((made.folder / made.model_file).read_bytes())
    assert files[0] == files[1]
