"""A training step that learns from a teacher: around any Keras model, wrapped by a toolkit or not, that can be called.

batch ─► teacher ──────────► soft, features, attention ┐
     └─► student ─► hard ─────────────────────────────┴─► loss
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedl.core.artifacts import TrainedModel
from edgedl.core.contract import Contract
from edgedl.core.errors import ConfigError, ModelError
from edgedl.core.store import RunStore
from edgedl.models import KerasModel
from edgedl.pipeline.compress.base import Bench
from edgedl.pipeline.compress.distill_layers import LayerPairs, check_spatial, layer_pairs, with_layers
from edgedl.pipeline.compress.distill_losses import Content, attention_loss, feature_loss, soft_loss
from edgedl.pipeline.compress.distillation import Distillation, KerasFile

TEACHER_FILE = ".teacher.keras"


@dataclass(frozen=True)
class Teacher:
    """A model that is only called. contents: of its outputs, in order. scale, shift: what makes its input of the
    student's. words: who it is."""

    model: KerasModel
    contents: Sequence[Content]
    words: str
    scale: Any = None
    shift: Any = None

    def given(self, inputs: Any) -> Any:
        """The student's batch as the teacher takes it."""
        return inputs if self.scale is None else inputs * self.scale + self.shift


def bring_teacher(settings: Distillation, bench: Bench) -> Teacher:
    """Load the teacher and see that it answers the same question. Raises ConfigError, ModelError."""
    from edgedl.models.load import load_keras

    if not isinstance(settings.teacher, KerasFile):
        model = load_keras(bench.origin.path(bench.origin.model_file))
        return _checked(_of_contract(model, bench.origin.contract, bench, "the uncompressed model"), bench)
    file = settings.teacher.file
    run = trained_in(file)
    if run is not None:
        model = load_keras(run.path(run.model_file))
        return _checked(_of_contract(model, run.contract, bench, f"{run.name} of {file.name}"), bench)
    model, softmax = load_file(settings.teacher, bench.folder / TEACHER_FILE)
    contents: list[Content] = [one.content for one in bench.base.contract.outputs]
    if contents[0] != "values":
        contents[0] = "probabilities" if softmax else "logits"
    return _checked(Teacher(model, contents, file.name), bench)


def trained_in(file: Path) -> TrainedModel | None:
    """The trained model of a run's folder, None for a model file."""
    models = RunStore(file).artifacts(TrainedModel) if file.is_dir() else []
    return models[-1] if models else None


def file_behind(file: Path) -> Path:
    """The model file itself, of a run's folder its trained model's."""
    run = trained_in(file)
    return file if run is None else run.path(run.model_file)


def load_file(section: KerasFile, copy: Path) -> tuple[KerasModel, bool]:
    """Any Keras file as a tf_keras model, and whether it ends in a softmax; read in a child process first."""
    from edgedl.models.load import bring_in, load_keras

    brought = bring_in(section.file, copy, section)
    model = load_keras(copy)
    for one in copy.parent.glob(f"{copy.name}*"):
        one.unlink()
    return model, brought.ends_in_softmax


def _of_contract(model: KerasModel, contract: Contract, bench: Bench, words: str) -> Teacher:
    mine, theirs = bench.base.contract, contract
    if mine.outputs[0].labels and theirs.outputs[0].labels and mine.outputs[0].labels != theirs.outputs[0].labels:
        raise ModelError(
            f"{words} knows other classes than its student",
            required=", ".join(mine.outputs[0].labels[:10]),
            received=", ".join(theirs.outputs[0].labels[:10]),
        )
    by_name: dict[str, Content] = {one.name: one.content for one in theirs.outputs}
    contents: list[Content] = [by_name.get(name, "values") for name in model.output_names]
    scale = shift = None
    if len(mine.inputs) == len(theirs.inputs) == 1 and mine.inputs[0].dtype.startswith("float"):
        (mean, std), (own_mean, own_std) = theirs.inputs[0].scaling(), mine.inputs[0].scaling()
        if not (np.array_equal(mean, own_mean) and np.array_equal(std, own_std)):
            scale, shift = (own_std / std).astype(np.float32), ((own_mean - mean) / std).astype(np.float32)
    return Teacher(model, contents, words, scale, shift)


def _checked(teacher: Teacher, bench: Bench) -> Teacher:
    contract = bench.base.contract
    for what, own, theirs in (("inputs", contract.inputs, teacher.model.inputs),
                              ("outputs", contract.outputs, teacher.model.outputs)):  # fmt: skip
        wanted = [one.shape for one in own]
        found = [tuple(one.shape[1:]) for one in theirs]
        fits = len(wanted) == len(found) and all(
            len(a) == len(b) and all(y in (None, x) for x, y in zip(a, b, strict=True))
            for a, b in zip(wanted, found, strict=True)
        )
        if not fits:
            raise ModelError(
                f"teacher and student have different {what}: {teacher.words} cannot teach this model",
                required=" and ".join(map(str, wanted)),
                received=" and ".join(map(str, found)),
                advice="Choose a teacher for the same question" if what == "outputs" else None,
            )
    return teacher


def make_distiller(
    student: KerasModel, settings: Distillation, bench: Bench, make_optimizer: Any, **options: Any
) -> KerasModel:
    """A compiled model whose step trains `student`, which is compiled already: with its loss and metrics on the data.

    make_optimizer: () → a new optimizer. options: of `compile`. Raises ConfigError, ModelError.
    """
    import tensorflow as tf
    import tf_keras

    from edgedl.pipeline.tasks import TASKS

    rules = TASKS[bench.base.contract.task]
    if rules.trainee is not None:
        raise ConfigError(
            f"there is no distillation for {rules.task}", required="a task with targets or an input to answer"
        )
    teacher = bring_teacher(settings, bench)
    features = layer_pairs(settings.features, teacher.model, student, what="features")
    attention = layer_pairs(settings.attention, teacher.model, student, what="attention")
    hints = [*features, *attention]
    mine = with_layers(student, [one for _, one in hints], "student") if hints else student
    theirs = with_layers(teacher.model, [one for one, _ in hints], "teacher") if hints else teacher.model
    answers = len(student.outputs)
    adapters = _regressors(theirs.outputs[answers:], mine.outputs[answers:], features, attention)
    contents = _contents(student, bench.base.contract)

    class Distilling(tf_keras.Model):
        def __init__(self) -> None:
            super().__init__(name="distilling")
            self.student = student
            self.regressors = [one for one in adapters if one is not None]
            names = (
                "loss",
                "hard",
                "soft",
                *(("features",) if features else ()),
                *(("attention",) if attention else ()),
            )
            self.means = {name: tf_keras.metrics.Mean(name=name) for name in names}

        @property
        def metrics(self) -> list[Any]:
            """What is reset at the start of an epoch and of a validation."""
            return [*self.means.values(), *student.compiled_metrics.metrics]

        @property
        def learnt(self) -> list[Any]:
            """All variables that the step changes."""
            return [
                *student.trainable_variables,
                *(one for each in self.regressors for one in each.trainable_variables),
            ]

        def train_step(self, data: Any) -> dict[str, Any]:
            """One step."""
            inputs, targets, weights = tf_keras.utils.unpack_x_y_sample_weight(data)
            wanted = _floats(theirs(teacher.given(inputs), training=False))
            with tf.GradientTape() as tape:
                answered = mine(inputs, training=True)
                found = _floats(answered)
                own = found[:answers] if answers > 1 else found[0]
                hard = student.compiled_loss(targets, own, weights, regularization_losses=mine.losses)
                pairs = zip(wanted[:answers], found[:answers], teacher.contents, contents, strict=True)
                soft = tf.add_n([soft_loss(*one, settings.temperature) for one in pairs])
                parts = {"hard": hard, "soft": soft} | self.hints(wanted[answers:], found[answers:])
                loss = (1.0 - settings.alpha) * hard + settings.alpha * soft
                loss += settings.feature_weight * parts.get("features", 0.0)
                loss += settings.attention_weight * parts.get("attention", 0.0)
            self.optimizer.apply_gradients(zip(tape.gradient(loss, self.learnt), self.learnt, strict=True))
            student.compiled_metrics.update_state(targets, own, weights)
            for name, value in {"loss": loss, **parts}.items():
                self.means[name].update_state(value)
            return {one.name: one.result() for one in self.metrics}

        def hints(self, wanted: Sequence[Any], found: Sequence[Any]) -> dict[str, Any]:
            """The losses of hidden layers, the features' first, summed over the layers."""
            fitted = [one if fit is None else fit(one) for one, fit in zip(found, adapters, strict=True)]
            pairs, n = list(zip(wanted, fitted, strict=True)), len(features)
            losses: dict[str, Any] = {}
            if features:
                losses["features"] = tf.add_n([feature_loss(*one) for one in pairs[:n]])
            if attention:
                losses["attention"] = tf.add_n([attention_loss(*one) for one in pairs[n:]])
            return losses

        def test_step(self, data: Any) -> dict[str, Any]:
            """The loss on the data alone, and the metrics."""
            inputs, targets, weights = tf_keras.utils.unpack_x_y_sample_weight(data)
            answered = student(inputs, training=False)
            loss = student.compiled_loss(targets, answered, weights)
            self.means["loss"].update_state(loss, tf.shape(inputs)[0])
            student.compiled_metrics.update_state(targets, answered, weights)
            return {one.name: one.result() for one in (self.means["loss"], *student.compiled_metrics.metrics)}

    distiller = Distilling()
    distiller.compile(optimizer=make_optimizer(), **options)
    distiller.optimizer.build(distiller.learnt)
    return distiller


def _floats(outputs: Any) -> list[Any]:
    import tensorflow as tf

    return [tf.cast(one, tf.float32) for one in tf.nest.flatten(outputs)]


def _contents(student: KerasModel, contract: Contract) -> list[Content]:
    """Of the student's outputs in their order; those of a toolkit's wrappers have other names, and the same order."""
    by_name: dict[str, Content] = {one.name: one.content for one in contract.outputs}
    if all(name in by_name for name in student.output_names):
        return [by_name[name] for name in student.output_names]
    return [one.content for one in contract.outputs]


def _regressors(theirs: Sequence[Any], mine: Sequence[Any], features: LayerPairs, attention: LayerPairs) -> list[Any]:
    """For each compared layer a 1×1 convolution (a dense layer over the channels) to the teacher's width, or None."""
    import tf_keras

    found: list[Any] = []
    for i, (wanted, given, names) in enumerate(zip(theirs, mine, [*features, *attention], strict=True)):
        what = "features" if i < len(features) else "attention"
        check_spatial(wanted, given, names, what)
        fit = None
        if what == "features" and wanted.shape[-1] != given.shape[-1]:
            fit = tf_keras.layers.Dense(wanted.shape[-1], name=f"regressor_{i}")
            fit.build(given.shape)
        found.append(fit)
    return found
