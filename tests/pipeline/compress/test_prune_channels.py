"""The technique: which channels go, what is left, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedl
from edgedl.core.artifacts import TrainedModel
from edgedl.core.errors import ConfigError, ModelError
from edgedl.core.isolation import DEFAULT_LIMITS
from edgedl.core.store import RunStore
from edgedl.models.load import load_keras
from edgedl.pipeline.compress.altering import alter_stage
from edgedl.pipeline.compress.base import Bench
from edgedl.pipeline.compress.channels import PruneChannels
from edgedl.pipeline.compress.channels.graph import Couplings
from edgedl.pipeline.compress.channels.importance import bn_scale, l1, taylor
from edgedl.pipeline.compress.channels.recalibrate import recalibrate
from edgedl.pipeline.compress.channels.selection import choose
from edgedl.pipeline.compress.channels.trace import trace
from edgedl.pipeline.data.split import load_splits
from edgedl.pipeline.recipe import check_recipe

pytestmark = pytest.mark.tensorflow

RECIPE: dict[str, Any] = {
    "name": "d",
    "seed": 2,
    "data": {"source": "digits"},
    "model": {"family": "cnn", "filters": [16, 32]},
    "train": {"epochs": 6, "optimizer": {"learning_rate": 0.005}},
}


def toy(*, norm: bool = True) -> Any:
    import tf_keras

    L = tf_keras.layers
    middle = [L.BatchNormalization(name="bn")] if norm else []
    return tf_keras.Sequential(
        [
            L.Conv2D(16, 3, padding="same", input_shape=(8, 8, 1), name="conv"),
            *middle,
            L.ReLU(),
            L.Conv2D(32, 3, padding="same", activation="relu", name="second"),
            L.GlobalAveragePooling2D(),
            L.Dense(10, name="out"),
        ]
    )


def group_of(couplings: Couplings, layer: str) -> int:
    return next(i for i, one in enumerate(couplings.groups) if any(axis[0] == layer for axis in one.axes))


def test_l1_and_bn_scale_find_the_channels_that_are_small() -> None:
    model = toy()
    small = [1, 5, 6, 11]
    conv, second, bn = (model.get_layer(name) for name in ("conv", "second", "bn"))
    kernel, gamma, after = np.array(conv.kernel), np.array(bn.gamma), np.array(second.kernel)
    kernel[..., small] *= 0.01
    after[:, :, small] *= 0.01
    gamma[[2, 3, 4, 15]] = 0.001
    conv.kernel.assign(kernel)
    second.kernel.assign(after)
    bn.gamma.assign(gamma)
    couplings = trace(model)
    group = group_of(couplings, "conv")
    assert sorted(np.argsort(l1(model, couplings)[group])[:4].tolist()) == small
    scores = bn_scale(model, couplings)
    assert sorted(np.argsort(scores[group])[:4].tolist()) == [2, 3, 4, 15]
    assert np.isinf(scores[1 - group]).all()  # no BatchNorm behind the second convolution: it stays


@pytest.mark.parametrize("share", [0.9, 0.5, 0.25])
def test_the_target_is_met_in_multiples_and_no_group_is_emptied(share: float) -> None:
    couplings = trace(toy())
    whole = couplings.macs(couplings.sizes)
    rng = np.random.default_rng(0)
    scores = [rng.uniform(size=n) for n in couplings.sizes]
    choice = choose(couplings, scores, share * whole, round_to=4, floor=0.125)
    left = [int(kept.sum()) for kept in choice.kept]
    assert abs(choice.macs / whole - share) <= 0.05
    assert couplings.macs(left) == choice.macs
    assert all(n % 4 == 0 and n > 0 for n in left)
    for kept, score in zip(choice.kept, scores, strict=True):
        assert not kept.any() or kept.all() or score[kept].min() >= score[~kept].max()
    everything = choose(couplings, scores, 0.0, round_to=4, floor=0.25)
    assert [int(kept.sum()) for kept in everything.kept] == [max(4, n // 4) for n in couplings.sizes]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return edgedl.train(RECIPE, out=tmp_path_factory.mktemp("runs") / "d")


@pytest.fixture
def bench(run: TrainedModel, tmp_path: Path) -> Bench:
    recipe = check_recipe(RECIPE)
    data = load_splits(recipe.data, recipe.data.split, recipe.seed).as_given(run.contract)
    return Bench(run, run, data, recipe, recipe.seed, tmp_path, DEFAULT_LIMITS)


def model_of(run: TrainedModel) -> Any:
    return load_keras(run.path(run.model_file))


@pytest.mark.slow
def test_half_of_the_macs_in_two_steps_then_int8(run: TrainedModel) -> None:
    made = edgedl.compress(
        run, "prune-channels:steps=2:fine_tune.epochs=6:fine_tune.learning_rate=0.003:fine_tune.control=false+int8"
    )
    assert made.macs == pytest.approx(0.5 * made.float_macs, rel=0.06)
    assert made.float_macs == run.macs
    assert made.parameters < run.parameters
    assert made.size_bytes < 0.5 * made.float_size_bytes
    (step,) = made.steps
    assert "MACs" in step.said[0]
    assert [one.layer for one in step.skipped] == ["probabilities"]
    assert made.quality is not None
    assert made.quality.loss < 10  # percentage points; the whole model is at 95 % and more


def test_without_training_and_twice_the_same_bytes(run: TrainedModel, bench: Bench, tmp_path: Path) -> None:
    technique = PruneChannels(keep_macs=0.75, fine_tune=None)
    files = []
    for name in ("one", "two"):
        made = alter_stage(
            RunStore(tmp_path / name),
            run,
            run,
            technique,
            data=bench.data,
            recipe=bench.recipe,
            seed=bench.seed,
            limits=bench.limits,
        )
        files.append(made.path(made.model_file))
        assert made.macs == made.figures["macs_after"]
        assert made.figures["macs_before"] == run.macs
        assert made.parameters == made.figures["parameters_after"]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert [one.name for one in load_keras(files[0]).layers] == [one.name for one in model_of(run).layers]


def test_taylor_gives_nothing_to_channels_that_nobody_uses(run: TrainedModel, bench: Bench) -> None:
    model = model_of(run)
    kernel = np.array(model.get_layer("stage2_conv1").kernel)
    dead = [0, 3, 7, 9]
    kernel[:, :, dead] = 0
    model.get_layer("stage2_conv1").kernel.assign(kernel)
    couplings = trace(model)
    scores = taylor(model, couplings, bench, 128)[group_of(couplings, "stage1_conv2_bn")]
    assert np.flatnonzero(scores == 0).tolist() == dead
    assert scores.mean() == pytest.approx(1)


def test_averages_are_taken_again(run: TrainedModel, bench: Bench) -> None:
    model = model_of(run)
    norm, wanted = model.get_layer("stage1_conv1_bn"), np.array(model.get_layer("stage1_conv1_bn").moving_mean)
    norm.moving_mean.assign(0 * wanted + 100)
    assert recalibrate(model, bench, 1024) == 4
    assert np.abs(np.array(norm.moving_mean) - wanted).max() < 0.2 * np.abs(wanted).max()
    assert norm.momentum == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("prune-channels:keep_macs=1.0", "keep_macs"),
        ("prune-channels:keep_macs=0", "keep_macs"),
        ("prune-channels:steps=4:fine_tune.epochs=2", "4 steps need at least 4 epochs"),
        ("prune-channels:importance=magic", "importance"),
        ("prune-channels:round_to=0", "round_to"),
    ],
)
def test_settings_that_cannot_be(run: TrainedModel, words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        edgedl.compress(run, words)


def test_models_that_cannot_be(run: TrainedModel, bench: Bench) -> None:
    with pytest.raises(ModelError, match="names no layer: nothing"):
        PruneChannels(keep=("nothing",)).alter(model_of(run), bench)
    everything = tuple(layer.name for layer in model_of(run).layers if layer.weights)
    with pytest.raises(ModelError, match="no channel that can be removed"):
        PruneChannels(keep=everything).alter(model_of(run), bench)
    frozen = model_of(run)
    frozen.trainable = False
    with pytest.raises(ModelError, match="no weight of it is trainable"):
        PruneChannels().alter(frozen, bench)
    with pytest.raises(ModelError, match="bn-scale needs BatchNorm"):
        PruneChannels(importance="bn-scale").alter(toy(norm=False), bench)


def test_what_cannot_be_reached_is_said(run: TrainedModel, bench: Bench) -> None:
    made = PruneChannels(keep_macs=0.05, min_channels=0.5, fine_tune=None, importance="l1").alter(model_of(run), bench)
    assert "keep_macs 5.0% was not reached" in " ".join(made.said)
    assert "min_channels" in " ".join(made.said)
