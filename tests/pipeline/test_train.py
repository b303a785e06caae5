"""Training: one trace, the same weights from the same seed, and a killed run that goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedl
from edgedl.core.artifacts import TrainedModel
from edgedl.core.errors import ConfigError, ModelError
from edgedl.pipeline.recipe import EarlyStopping
from edgedl.pipeline.train.callbacks import best_epoch, should_stop

pytestmark = pytest.mark.tensorflow

RECIPE: dict[str, Any] = {
    "name": "t",
    "seed": 5,
    "data": {"source": "digits"},
    "model": {"family": "mlp", "hidden": [16], "dropout": 0.3},
    "train": {"epochs": 4, "batch_size": 100, "augment": {"noise": 0.1}, "optimizer": {"learning_rate": 0.01}},
}


def recipe(**train: Any) -> dict[str, Any]:
    return RECIPE | {"train": RECIPE["train"] | train}


def weights(model: TrainedModel) -> list[np.ndarray]:
    import tf_keras

    return tf_keras.models.load_model(model.path("model.keras"), compile=False).get_weights()


def same(a: TrainedModel, b: TrainedModel) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(weights(a), weights(b), strict=True))


@pytest.mark.parametrize(
    "train",
    [
        {},
        {
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "nesterov": True, "clip_norm": 5.0},
            "schedule": {"name": "step", "every_epochs": 3, "factor": 0.5},
        },
        {
            "optimizer": {"name": "adamw", "learning_rate": 0.02},
            "schedule": {"name": "cosine", "warmup_epochs": 1},
            "label_smoothing": 0.1,
        },
        {"jit_compile": True, "loss": "focal", "metrics": ["accuracy", "top5", "auc", "precision", "recall"]},
        {"steps_per_execution": 5, "class_weights": "balanced", "early_stopping": {"metric": "accuracy"}},
        {"mixed_precision": "bfloat16", "augment": {"mixup": 0.2}},
        {"mixed_precision": "float16", "class_weights": {"3": 2.0}},
    ],
)
def test_every_setting_trains_with_one_trace_a_step_function(tmp_path: Path, train: dict[str, Any]) -> None:
    model = edgedl.train(recipe(**train), out=tmp_path)
    assert model.traces == {"train_step": 1, "test_step": 1}
    assert model.quality is not None
    assert model.quality.value > 0.5
    assert all(array.dtype == np.float32 for array in weights(model))
    assert len(model.history) == 4
    assert {"epoch", "loss", "val_loss", "seconds", "learning_rate"} <= set(model.history[0])
    assert model.path("curves.png").stat().st_size > 1000
    assert list(model.path("tensorboard").iterdir())


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    first, second = (edgedl.train(RECIPE, out=tmp_path / name) for name in "ab")
    other = edgedl.train(RECIPE | {"seed": 6}, out=tmp_path / "c")
    assert same(first, second)
    assert first.record.content_hash == second.record.content_hash
    assert not same(first, other)


@pytest.mark.parametrize(
    ("optimizer", "left"),
    [({"name": "sgd"}, 1.0), ({"name": "sgd", "weight_decay": 0.5}, 0.95), ({"name": "adamw"}, 1 - 0.1 * 0.004)],
)
def test_decoupled_decay_shrinks_a_weight_without_gradient(optimizer: dict[str, Any], left: float) -> None:
    import tensorflow as tf

    from edgedl.pipeline.recipe import Optimizer, Schedule
    from edgedl.pipeline.train.schedule import RecipeSchedule, build_optimizer

    config = Optimizer.model_validate(optimizer | {"learning_rate": 0.1})
    weight = tf.Variable(1.0)
    made = build_optimizer(config, RecipeSchedule(0.1, Schedule(), steps_per_epoch=1, total_steps=10))
    made.apply_gradients([(tf.constant(0.0), weight)])
    assert float(weight.numpy()) == pytest.approx(left)


def test_schedules_go_where_their_papers_say(tmp_path: Path) -> None:
    train = {"epochs": 6, "optimizer": {"learning_rate": 0.1}, "schedule": {"name": "cosine", "warmup_epochs": 2}}
    rates = [epoch["learning_rate"] for epoch in edgedl.train(recipe(**train), out=tmp_path / "a").history]
    assert rates[1] == pytest.approx(0.1, rel=0.05)
    assert rates[5] == pytest.approx(0.0, abs=1e-3)
    assert rates[3] == pytest.approx(0.05, rel=0.05)  # half-way between the end of the warm-up and the end
    train = {"epochs": 4, "optimizer": {"learning_rate": 0.1}, "schedule": {"name": "step", "every_epochs": 2}}
    rates = [epoch["learning_rate"] for epoch in edgedl.train(recipe(**train), out=tmp_path / "b").history]
    assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001])  # as the epoch ends


SLOW_RECIPE = recipe(epochs=40, early_stopping={"metric": "loss", "patience": 40})


def start(folder: Path) -> subprocess.Popen[bytes]:
    (folder / "recipe.json").write_text(json.dumps(SLOW_RECIPE))
    command = [sys.executable, "-m", "edgedl", "train", str(folder / "recipe.json"), "--out", str(folder / "run"), "-q"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for_epochs(process: subprocess.Popen[bytes], folder: Path, epochs: int) -> None:
    """Until that many checkpoints were seen."""
    seen: set[int] = set()
    deadline = time.monotonic() + 120
    while len(seen) < epochs:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        for path in folder.glob("run/.train-*.partial/checkpoint.npz"):
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.002)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return edgedl.train(SLOW_RECIPE, out=tmp_path_factory.mktemp("uninterrupted"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "epochs"), [(signal.SIGKILL, 1), (signal.SIGINT, 3)])
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(
    tmp_path: Path, uninterrupted: TrainedModel, number: signal.Signals, epochs: int
) -> None:
    process = start(tmp_path)
    wait_for_epochs(process, tmp_path, epochs)
    os.kill(process.pid, number)
    assert process.wait(30) == (130 if number == signal.SIGINT else -number)
    assert not list(tmp_path.glob("run/train-*"))
    assert list(tmp_path.glob("run/.train-*.partial/checkpoint.npz"))

    resumed = edgedl.train(SLOW_RECIPE, out=tmp_path / "run")
    assert len(resumed.history) == len(uninterrupted.history)
    for mine, theirs in zip(resumed.history, uninterrupted.history, strict=True):
        assert {k: v for k, v in mine.items() if k != "seconds"} == {k: v for k, v in theirs.items() if k != "seconds"}
    assert same(resumed, uninterrupted)
    assert resumed.quality == uninterrupted.quality
    assert not list(tmp_path.glob("run/.*.partial"))


def test_early_stopping_is_decided_by_the_history_alone() -> None:
    stopping = EarlyStopping(metric="accuracy", patience=2)
    history = [{"val_accuracy": value} for value in (0.5, 0.7, 0.6, 0.7, float("nan"))]
    assert [best_epoch(history[:n], stopping) for n in range(1, 6)] == [1, 2, 2, 2, 2]
    assert [should_stop(history[:n], stopping) for n in range(1, 6)] == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"train": {"loss": "mse"}}, ConfigError, "does not fit classification"),
        ({"train": {"metrics": ["mae"]}}, ConfigError, "does not fit classification"),
        ({"train": {"early_stopping": {"metric": "acuracy"}}}, ConfigError, "loss or accuracy"),
        ({"train": {"class_weights": {"ten": 1.0}}}, ConfigError, "no class 'ten'"),
        ({"model": {"family": "cnn", "filters": [8, 8, 8, 8]}}, ModelError, "sides of at least 16"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, changes: dict[str, Any], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        edgedl.train(RECIPE | changes, out=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("train-")]


def test_regression_from_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    y = x @ [1.0, -2.0, 0.5] + 4.0
    lines = ["a,b,c,y", *(",".join(f"{v:.6f}" for v in (*row, target)) for row, target in zip(x, y, strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    model = edgedl.train(
        {
            "data": {"source": "csv", "file": str(tmp_path / "t.csv"), "target": "y"},
            "model": {"family": "mlp", "hidden": [16]},
            "train": {"epochs": 40, "optimizer": {"learning_rate": 0.02}, "metrics": ["mae", "rmse"]},
        },
        out=tmp_path / "run",
    )
    assert model.quality is not None
    assert model.quality.metric == "mae"
    assert model.quality.value < 0.3
    assert model.contract.inputs[0].feature_names == ("a", "b", "c")


def test_a_model_file_is_fine_tuned_or_taken_as_it_is(tmp_path: Path) -> None:
    first = edgedl.train(RECIPE, out=tmp_path / "a")
    section = {"file": str(first.path("model.keras"))}
    taken = edgedl.train(RECIPE | {"model": section | {"fine_tune": False}}, out=tmp_path / "b")
    assert same(first, taken)
    assert taken.quality is not None and first.quality is not None
    assert taken.quality.value == first.quality.value
    tuned = edgedl.train(RECIPE | {"model": section}, out=tmp_path / "c")
    assert not same(first, tuned)
    with pytest.raises(ModelError, match="does not take this data"):
        flat = {"source": "npz", "file": str(tmp_path / "flat.npz")}
        rng = np.random.default_rng(0)
        np.savez(tmp_path / "flat.npz", x=rng.normal(size=(100, 5)), y=np.arange(100) % 10)
        edgedl.train(RECIPE | {"model": section, "data": flat}, out=tmp_path / "d")
