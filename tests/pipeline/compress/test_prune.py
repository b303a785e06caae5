"""Pruning: what is zero, when, and that it still is in the exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pipeline.compress import small_nets as nets

import edgedl
from edgedl.core.artifacts import TrainedModel
from edgedl.core.errors import ConfigError, ModelError
from edgedl.pipeline.compress.base import FineTune
from edgedl.pipeline.compress.promises import kept_promises
from edgedl.pipeline.compress.prune import Prune
from edgedl.pipeline.verbs import as_technique

pytestmark = pytest.mark.tensorflow

SHORT = FineTune(epochs=2, learning_rate=1e-3)


def sparsity(values: Any) -> float:
    return float(1.0 - np.count_nonzero(values) / values.size)


@pytest.mark.parametrize("schedule", ["polynomial", pytest.param("constant", marks=pytest.mark.slow)])
def test_every_kernel_ends_as_sparse_as_promised_in_the_exported_files(tmp_path: Path, schedule: str) -> None:
    model = nets.convnet()
    bench = nets.bench_of(model, tmp_path)
    technique = Prune(sparsity=0.75, layers={"point*": 0.9, "probabilities": 0}, schedule=schedule, fine_tune=SHORT)
    made = technique.alter(model, bench)
    found = nets.kernels(made.model)
    assert sparsity(found["full/kernel"]) == pytest.approx(0.75, abs=0.005)
    assert sparsity(found["deep/depthwise_kernel"]) == pytest.approx(0.75, abs=0.005)
    assert sparsity(found["point/kernel"]) == pytest.approx(0.9, abs=0.005)
    assert sparsity(found["probabilities/kernel"]) == 0.0
    assert [(one.layer, one.reason) for one in made.skipped] == [("probabilities", "left out by `layers`")]
    assert len(made.history) == 2
    for quantization in (None, nets.INT8):
        path = nets.exported(made, bench, quantization)
        kept = {one.promise.layer: one for one in kept_promises(path, made.promises, bench.base)}
        assert {name: round(one.sparsity, 2) for name, one in kept.items()} == {
            "full": 0.75,
            "deep": 0.75,
            "point": 0.9,
        }
        assert all(one.kept for one in kept.values())


def test_depthwise_kernels_are_left_when_not_wanted(tmp_path: Path) -> None:
    model = nets.convnet()
    made = Prune(depthwise=False, fine_tune=None).alter(model, nets.bench_of(model, tmp_path))
    assert [one.layer for one in made.skipped] == ["deep"]
    assert "depthwise" in made.skipped[0].reason
    assert sparsity(nets.kernels(made.model)["deep/depthwise_kernel"]) == 0.0
    assert sparsity(nets.kernels(made.model)["full/kernel"]) == 0.5


@pytest.mark.parametrize("pattern", ["2:4", pytest.param("block", marks=pytest.mark.slow)])
def test_patterns_hold_in_the_exported_files(tmp_path: Path, pattern: Any) -> None:
    from edgedl.pipeline.compress.stored import along_inputs, stored_weights

    model = nets.convnet()
    bench = nets.bench_of(model, tmp_path)
    made = Prune(pattern=pattern, fine_tune=SHORT).alter(model, bench)
    assert {one.layer for one in made.skipped} == {"deep"} | ({"full"} if pattern == "2:4" else set())  # one input
    for quantization in (None, nets.INT8):
        path = nets.exported(made, bench, quantization)
        kept_promises(path, made.promises, bench.base)
        stored = {one.layer: along_inputs(one) for one in stored_weights(path, bench.base.layers)}
        for layer in ("point", "probabilities"):
            groups = (stored[layer] != 0).reshape(len(stored[layer]), -1, 4).sum(axis=2)
            assert groups.max() <= (2 if pattern == "2:4" else 4)
            assert quantization is not None or set(groups.ravel()) == ({2} if pattern == "2:4" else {0, 4})


@pytest.mark.parametrize(
    ("build", "quantization"),
    [
        (nets.nested, None),
        (nets.recurrent, None),
        (nets.attentive, nets.INT8),
        pytest.param(nets.recurrent, nets.INT8, marks=pytest.mark.slow),
        pytest.param(nets.attentive, None, marks=pytest.mark.slow),
    ],
)
def test_nested_models_recurrent_and_attention_layers_are_pruned_too(
    tmp_path: Path, build: Any, quantization: Any
) -> None:
    model = build()
    bench = nets.bench_of(model, tmp_path)
    made = Prune(sparsity=0.6, fine_tune=FineTune(epochs=1)).alter(model, bench)
    assert not made.skipped
    assert all(abs(sparsity(values) - 0.6) < 0.005 for values in nets.kernels(made.model).values())
    kept = kept_promises(nets.exported(made, bench, quantization), made.promises, bench.base)
    assert len(kept) == len(nets.kernels(model))


def test_the_same_weights_stay_as_with_tfmots_own_wrapper(tmp_path: Path) -> None:
    """Same schedule, same batches, on a model that prune_low_magnitude can prune."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    from edgedl.pipeline.compress.fine_tune import fine_tune, steps_per_epoch

    tf_keras.utils.set_random_seed(1)
    theirs, ours = nets.mlp(), nets.mlp()
    bench = nets.bench_of(ours, tmp_path)
    technique = Prune(sparsity=0.8, frequency=3, fine_tune=SHORT)
    plan = technique.plan(steps_per_epoch(bench, SHORT), SHORT)
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.8, plan.begin, plan.end, frequency=3)
    wrapped = tfmot.sparsity.keras.prune_low_magnitude(theirs, schedule)
    fine_tune(wrapped, bench, SHORT, callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
    expected = nets.kernels(tfmot.sparsity.keras.strip_pruning(wrapped))
    found = nets.kernels(technique.alter(ours, bench).model)
    for name, values in expected.items():
        assert sparsity(values) == pytest.approx(0.8, abs=0.005)
        assert ((values != 0) == (found[name] != 0)).all()
        assert found[name] == pytest.approx(values, abs=2e-3)  # Adam moved them by up to 0.04


def test_what_fine_tuning_follows_keeps_the_zeros(tmp_path: Path) -> None:
    from edgedl.pipeline.compress.fine_tune import FineTuned

    model = nets.mlp()
    made = Prune(fine_tune=None).alter(model, nets.bench_of(model, tmp_path))
    before = nets.kernels(model)
    after = FineTuned(fine_tune=SHORT).alter(made.model, nets.bench_of(model, tmp_path / "on", made.promises))
    for name, values in nets.kernels(after.model).items():
        assert ((values == 0) == (before[name] == 0)).all()
        assert not np.array_equal(values, before[name])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("prune:sparsity=1.0", "sparsity"),
        ("prune:sparsity=-0.1", "sparsity"),
        ("prune:layers={point: 1.0}", "layers.point"),
        ("prune:layers.point=1", "layers.point"),
        ("prune:pattern=2:4:sparsity=0.75", "pattern 2:4 is a sparsity of 0.5, not of 0.75"),
        ("prune:block=[1, 16]", "block is the size of pattern block"),
        ("prune:pattern=block:block=[1, 1]", "a block of 1 × 1 is pattern unstructured"),
        ("prune:initial_sparsity=0.8", "initial_sparsity is above sparsity"),
        ("prune:frequency=0", "frequency"),
        ("prune:sparsty=0.5", "did you mean 'sparsity'?"),
    ],
)
def test_settings_that_make_no_sense_are_refused(words: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("?", r"\?")):
        as_technique(words)


def test_two_in_four_needs_no_quotes_in_yaml() -> None:
    technique = as_technique("prune:pattern=2:4:fine_tune.epochs=3")
    assert isinstance(technique, Prune)
    assert technique.pattern == "2:4"
    assert technique.fine_tune == FineTune(epochs=3, learning_rate=1e-3)  # what serves pruning, unless said


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"end_epoch": 3}, "begin_epoch < end_epoch ≤ 2.*end_epoch 3"),
        ({"begin_epoch": 1.5, "end_epoch": 1.0}, "begin_epoch 1.5, end_epoch 1"),
        ({"begin_epoch": 2}, "does not fit into the training"),
        ({"frequency": 1000}, "frequency is longer than the schedule: required at most the"),
        ({"layers": {"pont": 0.5}}, "no layer with a kernel matches 'pont': required names or patterns of full, deep"),
    ],
)
def test_schedules_and_layers_that_are_not_there_are_refused(tmp_path: Path, settings: Any, told: str) -> None:
    model = nets.convnet()
    with pytest.raises(ConfigError, match=told):
        Prune(**settings, fine_tune=SHORT).alter(model, nets.bench_of(model, tmp_path))


def test_a_model_without_kernels_or_without_trainable_weights_is_refused(tmp_path: Path) -> None:
    import tf_keras
    from tf_keras import layers

    inputs = nets.image()
    bare = tf_keras.Model(inputs, layers.GlobalAveragePooling2D(name="probabilities")(inputs))
    with pytest.raises(ModelError, match="no layer of this model can be pruned"):
        Prune().alter(bare, nets.bench_of(nets.mlp(), tmp_path))
    frozen = nets.mlp()
    frozen.trainable = False
    with pytest.raises(ModelError, match="it has no trainable weights"):
        Prune().alter(frozen, nets.bench_of(frozen, tmp_path))


def test_from_the_run_to_the_file_with_its_control(trained: TrainedModel) -> None:
    made = edgedl.compress(trained, "prune:sparsity=0.75:encoding=sparse:fine_tune.epochs=1")
    assert [one.method for one in made.steps] == ["prune"]
    assert made.steps[0].control is not None
    assert {round(one.sparsity, 2) for one in made.kept} == {0.75}
    assert len(made.kept) == 5
    assert made.size_bytes < 0.7 * made.float_size_bytes  # not stored
    assert any("sparse encoding" in note for note in made.notes)
    plain = edgedl.compress(trained, "prune:sparsity=0.75:fine_tune.epochs=1")
    assert plain.quality is not None
    assert made.quality is not None
    assert made.quality.after.value == pytest.approx(plain.quality.after.value, abs=0.01)
    assert plain.size_bytes == pytest.approx(plain.float_size_bytes, rel=0.01)
    assert plain.gzip_bytes < 0.6 * plain.float_gzip_bytes
    assert any("smaller only when compressed" in note for note in plain.notes)
