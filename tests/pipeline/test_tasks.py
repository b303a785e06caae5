"""Every task, from tiny networks to a judged int8 file: it learns, resumes, calibrates, exports and is verified."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from edgedl.core.artifacts import SplitRecord
from edgedl.core.contract import InputContract, NoiseSchedule, Task
from edgedl.core.errors import ConfigError, ModelError
from edgedl.core.store import open_store
from edgedl.models import Family, Head, KerasModel
from edgedl.pipeline.compress import int8
from edgedl.pipeline.compress.stage import compress_stage
from edgedl.pipeline.data import ArrayExamples, Splits
from edgedl.pipeline.export import export_stage
from edgedl.pipeline.recipe import Recipe, check_recipe
from edgedl.pipeline.train.stage import train_stage
from edgedl.pipeline.verify import verify_stage

pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("ignore:Pydantic serializer")]  # Tiny is in no list


class Tiny(Family):
    """The smallest network for each task."""

    family: Literal["tiny"] = "tiny"
    learns: Task

    tasks: ClassVar[tuple[Task, ...]] = ("segmentation", "next-token", "policy-value", "anomaly-detection")

    def task_for(self, data_task: Task) -> Task:
        return self.learns

    def noise_schedule(self) -> NoiseSchedule | None:
        return NoiseSchedule(steps=50, last=0.2) if self.learns == "denoising" else None

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        import tf_keras
        from tf_keras import layers

        inputs = [tf_keras.Input(input_shape, name=input_name)]
        if self.learns == "segmentation":
            x = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs[0])
            outputs = head.attach_map(x)
        elif self.learns == "next-token":
            inputs = [tf_keras.Input(input_shape, name=input_name, dtype="int32")]
            outputs = head.attach_tokens(layers.Embedding(head.units, 8)(inputs[0]))
        elif self.learns == "policy-value":
            x = layers.Dense(32, activation="relu")(inputs[0])
            value = layers.Dense(1, activation="tanh", name="value")(x)
            outputs = [value, layers.Dense(head.units - 1, activation="softmax", name="policy")(x)]
        elif self.learns in ("reconstruction", "anomaly-detection"):
            x = layers.Dense(1)(inputs[0])
            outputs = layers.Dense(input_shape[0], name="reconstruction")(x)
        elif self.learns == "generation":
            inputs = [tf_keras.Input((4,), name="z")]
            outputs = layers.Dense(input_shape[0], name="sample")(layers.Dense(16, activation="relu")(inputs[0]))
        else:
            inputs.append(tf_keras.Input((1,), name="t"))
            x = layers.Concatenate()([inputs[0], layers.Rescaling(1 / 50)(inputs[1])])
            x = layers.Dense(32, activation="relu")(layers.Dense(32, activation="relu")(x))
            outputs = layers.Dense(input_shape[0], name="noise")(x)
        return tf_keras.Model(inputs, outputs)

    def build_discriminator(self, shape: tuple[int, ...]) -> KerasModel:
        import tf_keras
        from tf_keras import layers

        inputs = tf_keras.Input(shape)
        return tf_keras.Model(inputs, layers.Dense(1)(layers.Dense(16, activation="relu")(inputs)))


def examples(task: Task, n: int, seed: int) -> ArrayExamples:
    """Data whose answer is known."""
    rng = np.random.default_rng(seed)
    if task == "segmentation":
        x = rng.random((n, 8, 8, 1), np.float32)
        return ArrayExamples(x, (x[..., 0] > 0.5).astype(np.int64))
    if task == "next-token":
        tokens = (rng.integers(0, 5, (n, 1)) + np.arange(7)) % 5
        return ArrayExamples(tokens[:, :-1].astype(np.int32), tokens[:, 1:].astype(np.int64))
    if task == "policy-value":
        x = rng.random((n, 3), np.float32)
        best = np.eye(3, dtype=np.float32)[x.argmax(axis=1)]
        return ArrayExamples(x, np.concatenate([best, np.sign(x[:, :1] - 0.5)], axis=1))
    line = rng.normal(size=(n, 1)).astype(np.float32) @ np.array([[1.0, 2.0]], np.float32)
    anomalous = (np.arange(n) % 4 == 0) & (seed == 2) & (task == "anomaly-detection")
    line[anomalous, 1] *= -1
    return ArrayExamples(line + 0.05 * rng.normal(size=(n, 2)).astype(np.float32), anomalous.astype(np.int64))


def splits(task: Task) -> Splits:
    train, validation, test = (examples(task, n, seed) for seed, n in enumerate((512, 64, 128)))
    shape = train.inputs.shape[1:]
    tokens = task == "next-token"
    given = InputContract("tokens" if tokens else "x", shape, "int32" if tokens else "float32")
    labels = {"segmentation": ("dark", "light"), "next-token": tuple("abcde")}.get(task, ())
    record = SplitRecord({"source": "made"}, f"made for {task}", {"train": 512, "validation": 64, "test": 128})
    return Splits(train, validation, test, task, given, labels, record)


def recipe(task: Task, epochs: int, **train: Any) -> Recipe:
    plain = check_recipe(
        {
            "name": task,
            "data": {"source": "digits"},
            "model": {"family": "mlp"},
            "train": {"epochs": epochs, "batch_size": 32, "optimizer": {"learning_rate": 0.01}} | train,
        }
    )
    return plain.model_copy(update={"model": Tiny(learns=task)})


CASES: Mapping[Task, tuple[str, float, int]] = {
    "segmentation": ("pixel accuracy", 0.95, 20),
    "next-token": ("perplexity", 1.05, 10),
    "policy-value": ("move accuracy", 0.95, 20),
    "reconstruction": ("reconstruction error", 0.02, 20),
    "anomaly-detection": ("AUC", 0.9, 20),
    "generation": ("energy distance", 1.0, 20),
    "denoising": ("noise error", 0.6, 20),
}
"""Metric, the quality that the known answer makes reachable, epochs."""


FAST = ("next-token",)


@pytest.mark.parametrize("task", [one if one in FAST else pytest.param(one, marks=pytest.mark.slow) for one in CASES])
def test_a_task_from_training_to_a_verified_int8_file(task: Task, tmp_path: Path) -> None:
    metric, enough, epochs = CASES[task]
    data = splits(task)
    with open_store(tmp_path) as store:
        asked = recipe(task, epochs)
        trained = train_stage(store, asked, data)
        assert trained.contract.task == task
        assert trained.quality is not None
        assert trained.quality.metric == metric
        good = trained.quality.value >= enough if trained.quality.is_share else trained.quality.value <= enough
        assert good, trained.quality
        assert set(trained.traces.values()) == {1}
        compressed = compress_stage(store, trained, int8.Int8(), data=data, recipe=asked, seed=0)
        assert compressed.quality is not None
        assert compressed.quality.after.metric == metric
        for variant in (None, compressed):
            for format in ("tflite", "onnx"):
                exported = export_stage(store, trained, variant, format, data=data)
                report = verify_stage(store, exported, trained, data=data, seed=0)
                assert report.passed, (format, variant and variant.name, report.failures)
                assert {one.name for one in report.outputs} == {one.name for one in trained.contract.outputs}


@pytest.mark.parametrize("task", ["generation", "denoising"])
def test_a_training_step_of_its_own_goes_on_bit_for_bit(task: Task, tmp_path: Path, monkeypatch: Any) -> None:
    from edgedl.models.load import load_keras
    from edgedl.pipeline.train.callbacks import AfterEpoch

    data = splits(task)
    with open_store(tmp_path / "whole") as store:
        whole = train_stage(store, recipe(task, 3), data)
    after = AfterEpoch.on_epoch_end

    def killed(self: Any, epoch: int, logs: Any = None) -> None:
        after(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    with open_store(tmp_path / "cut") as store:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(AfterEpoch, "on_epoch_end", killed)
            train_stage(store, recipe(task, 3), data)
        again = train_stage(store, recipe(task, 3), data)
    first, second = (load_keras(one.path("model.keras")).get_weights() for one in (whole, again))
    assert all(map(np.array_equal, first, second))


def test_what_does_not_fit_a_task_is_one_line(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        with pytest.raises(ConfigError, match=r"train\.loss and train\.metrics: auto"):
            train_stage(store, recipe("denoising", 1, loss="mae"), splits("denoising"))
        with pytest.raises(ConfigError, match=r"train\.loss does not fit segmentation: required cross-entropy"):
            train_stage(store, recipe("segmentation", 1, loss="mse"), splits("segmentation"))
        with pytest.raises(ConfigError, match="nothing to go by in generation"):
            train_stage(store, recipe("generation", 1, early_stopping={}), splits("generation"))
        mlp = recipe("segmentation", 1).model_copy(
            update={"model": check_recipe({"data": {"source": "digits"}, "model": "mlp"}).model}
        )
        with pytest.raises(ModelError, match="mlp does not fit this data: required data for classification or regress"):
            train_stage(store, mlp, splits("segmentation"))
