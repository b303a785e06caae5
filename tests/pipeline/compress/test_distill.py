"""Distillation: what students learn, from which teachers, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedl.core.artifacts import AlteredModel, TrainedModel, WeightPromise
from edgedl.core.config import check
from edgedl.core.errors import ConfigError, ModelError
from edgedl.core.isolation import Limits
from edgedl.pipeline.compress import TechniqueConfig
from edgedl.pipeline.compress.base import Bench, FineTune
from edgedl.pipeline.compress.distill import Distill
from edgedl.pipeline.compress.distillation import Distillation
from edgedl.pipeline.verbs import as_recipe, open_model

pytestmark = pytest.mark.tensorflow

SHORT = FineTune(epochs=1, learning_rate=1e-3, control=False)


def technique(**settings: Any) -> Any:
    return check(TechniqueConfig, {"method": "distill", **settings}, source="test")


@pytest.fixture
def bench(trained: TrainedModel, tmp_path: Path) -> Bench:
    """Of the tiny classifier; its data has few examples, so that an epoch is a few steps."""
    with open_model(trained) as work:
        assert work.data is not None and work.recipe is not None
        few = replace(work.data, train=work.data.train.select(np.arange(200)))
        return Bench(trained, trained, few, work.recipe, 0, tmp_path, Limits())


def altered(one: Distill, bench: Bench) -> Any:
    import tf_keras

    from edgedl.models.load import load_keras

    tf_keras.utils.set_random_seed(7)
    return one.alter(load_keras(bench.base.path(bench.base.model_file)), bench)


# --- learning --------------------------------------------------------------------------------------------------------


def test_a_step_is_traced_once_and_its_loss_is_the_weighted_sum(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    from edgedl.pipeline.compress import distiller as module
    from edgedl.pipeline.compress.fine_tune import fine_tune

    made: list[Any] = []
    make = module.make_distiller
    monkeypatch.setattr(module, "make_distiller", lambda *given: made.append(make(*given)) or made[-1])
    settings = Distillation(alpha=0.3, features="auto", feature_weight=2.0, attention="auto", attention_weight=5.0)
    tune = FineTune(epochs=2, learning_rate=1e-3, distill=settings)
    history = fine_tune(_student(bench, filters=[4, 8]), bench, tune)
    (distiller,) = made
    assert distiller.train_tf_function.experimental_get_tracing_count() == 1
    for row in history:
        wanted = 0.7 * row["hard"] + 0.3 * row["soft"] + 2.0 * row["features"] + 5.0 * row["attention"]
        assert row["loss"] == pytest.approx(wanted, rel=1e-4)
        assert 0.0 <= row["val_accuracy"] <= 1.0
    assert history[1]["loss"] < history[0]["loss"]
    assert [tuple(one.kernel.shape) for one in distiller.regressors] == [(4, 16), (8, 32), (8, 32)]


def _student(bench: Bench, **settings: Any) -> Any:
    from edgedl.pipeline.compress.students import new_student

    student = technique(student={"family": "cnn", **settings}).student
    return new_student(student, bench)


def test_the_teacher_alone_teaches_its_answers(bench: Bench):
    """alpha 1: no target is used; shuffled labels change nothing, and the student comes to agree with the teacher."""
    from edgedl.pipeline.data import ArrayExamples

    one = technique(
        alpha=1.0,
        student={"family": "mlp", "hidden": [32]},
        fine_tune={"epochs": 12, "learning_rate": 0.01, "control": False},
    )
    first = altered(one, bench)
    raw = bench.data.train.raw(np.arange(200))
    wrong = ArrayExamples(raw, np.roll(bench.data.train.targets, 1))
    second = altered(one, replace(bench, data=replace(bench.data, train=wrong)))
    losses = [row["soft"] for row in first.history]
    assert losses[-1] < 0.5 * losses[0]
    assert losses == [row["soft"] for row in second.history]
    assert first.is_new and "taught by the uncompressed model" in first.said[0]


def test_the_same_seed_gives_the_same_weights(bench: Bench):
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    made = [altered(technique(features="auto", fine_tune=SHORT), bench).model for _ in range(2)]
    for one, other in zip(made[0].get_weights(), made[1].get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_a_wrapped_model_learns_through_its_wrappers(bench: Bench):
    """tfmot's pruning wrappers: their step, kept by a callback, moves with the distiller's."""
    import tensorflow_model_optimization as tfmot

    from edgedl.models.load import load_keras
    from edgedl.pipeline.compress.fine_tune import fine_tune

    pruning: Any = tfmot.sparsity.keras
    schedule = pruning.ConstantSparsity(0.5, begin_step=0, frequency=1)
    wrapped = pruning.prune_low_magnitude(load_keras(bench.base.path(bench.base.model_file)), schedule)
    tune = FineTune(epochs=1, distill=Distillation(features="auto", attention={"stage1_pool": "stage1_pool"}))
    history = fine_tune(wrapped, bench, tune, callbacks=[pruning.UpdatePruningStep()])
    bare = pruning.strip_pruning(wrapped)
    kernel = bare.get_layer("stage2_conv1").get_weights()[0]
    assert np.mean(kernel == 0.0) == pytest.approx(0.5, abs=0.01)
    assert {"soft", "features", "attention"} <= set(history[0])


def test_zeros_of_an_earlier_step_stay(bench: Bench):
    from edgedl.models.load import load_keras
    from edgedl.pipeline.compress.distill import Distill

    model = load_keras(bench.base.path(bench.base.model_file))
    layer = model.get_layer("stage2_conv1")
    kernel = layer.kernel.numpy()
    kernel[np.abs(kernel) < np.quantile(np.abs(kernel), 0.75)] = 0.0
    layer.kernel.assign(kernel)
    promise = WeightPromise("stage2_conv1", "kernel", tuple(kernel.shape), sparsity=0.75)
    known = {name: getattr(bench.base, name) for name in bench.base.__dataclass_fields__}
    base = AlteredModel(**known, method="prune", promises=(promise,))
    Distill(fine_tune=SHORT).alter(model, replace(bench, base=base))
    after = layer.kernel.numpy()
    assert np.array_equal(after == 0.0, kernel == 0.0)
    assert not np.array_equal(after, kernel)


# --- students and teachers -------------------------------------------------------------------------------------------


def test_a_students_names_and_answer_are_the_contracts(bench: Bench):
    contract = bench.base.contract
    output = replace(contract.outputs[0], name="scores", content="logits")
    given = replace(contract.inputs[0], name="picture")
    other = replace(bench.base, contract=replace(contract, inputs=(given,), outputs=(output,)))
    model = _student(replace(bench, base=other), filters=[4])
    assert (list(model.input_names), list(model.output_names)) == (["picture"], ["scores"])
    assert model.get_layer("scores").activation.__name__ == "linear"


def test_a_file_teaches_and_a_file_learns(bench: Bench, tmp_path: Path):
    import tf_keras
    from tf_keras import layers

    for name in ("teacher", "student"):
        stack: Any = [tf_keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)]  # logits, names of its own
        tf_keras.Sequential(stack).save(tmp_path / f"{name}.h5")
    one = technique(
        teacher={"file": str(tmp_path / "teacher.h5")}, student={"file": str(tmp_path / "student.h5")}, fine_tune=SHORT
    )
    made = altered(one, bench)
    assert list(made.model.output_names) == [bench.base.contract.outputs[0].name]
    answer = made.model.predict(np.zeros((1, 8, 8, 1), np.float32), verbose=0)
    assert answer.sum() == pytest.approx(1.0, abs=1e-5)
    assert "teacher.h5" in made.said[0] and "student.h5" in made.said[0]
    assert not list(bench.folder.glob(".*"))


def test_a_run_teaches_in_its_own_units(bench: Bench, trained: TrainedModel):
    """A teacher that learnt on values from 0 to 1 of a student that takes -1 to 1 sees 0 to 1."""
    from edgedl.pipeline.compress.distiller import bring_teacher

    own = bench.base.contract.inputs[0]
    student = replace(own, mean=(8.0,), std=(8.0,))
    base = replace(bench.base, contract=replace(bench.base.contract, inputs=(student,)))
    settings = technique(teacher={"file": str(trained.folder.parent)})
    teacher = bring_teacher(settings, replace(bench, base=base))
    raw = np.array([0.0, 4.0, 16.0], np.float32)
    assert teacher.given((raw - 8.0) / 8.0) == pytest.approx((raw - own.mean[0]) / own.std[0], abs=1e-6)


@pytest.mark.parametrize(
    ("data", "model", "student"),
    [
        ("values", {"family": "mlp", "hidden": [16]}, {"family": "mlp", "hidden": [4]}),
        pytest.param(
            *("copy-sequence", {"family": "transformer-decoder"}, {"family": "transformer-decoder"}),
            marks=pytest.mark.slow,
        ),
        pytest.param("digits", {"family": "autoencoder"}, {"family": "autoencoder"}, marks=pytest.mark.slow),
    ],
)
def test_values_sequences_and_autoencoders(data: str, model: dict[str, Any], student: dict[str, Any], tmp_path: Path):
    import edgedl

    source: dict[str, Any] = {"source": data, **({"n": 400} if data == "copy-sequence" else {})}
    if data == "values":
        x = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
        np.savez(tmp_path / "values.npz", x=x, y=(x[:, :2] @ [[1.0], [-2.0]] + 0.5).astype(np.float32))
        source = {"source": "npz", "file": str(tmp_path / "values.npz")}
    recipe = as_recipe({"name": "t", "data": source, "model": model, "train": {"epochs": 1}})
    done = edgedl.train(recipe, out=tmp_path / "run")
    with open_model(done) as work:
        assert work.data is not None and work.recipe is not None
        few = replace(work.data, train=work.data.train.select(np.arange(min(128, len(work.data.train)))))
        bench = Bench(done, done, few, work.recipe, 0, tmp_path, Limits())
        tune = {"epochs": 3, "control": False, "learning_rate": 3e-3}
        made = altered(technique(student=student, fine_tune=tune), bench)
    losses = [row["soft"] for row in made.history]
    assert losses[-1] < losses[0]


# --- controls --------------------------------------------------------------------------------------------------------


def test_the_control_has_no_teacher():
    alike = technique(student={"family": "mlp"}, temperature=2.0).control()
    assert isinstance(alike, Distill) and alike.teacher is None and alike.student is not None
    assert alike.control() is None
    assert alike.fine_tune is not None and (alike.fine_tune.epochs, alike.fine_tune.learning_rate) == (20, 1e-3)
    recovery = technique().control()
    assert recovery is not None and recovery.method == "fine-tune"
    assert technique(fine_tune={"control": False}).control() is None


def test_settings_read_back_as_they_were_written():
    for one in (technique(student="cnn"), technique(teacher={"file": "x.keras"}, features={"a": "b"}), technique()):
        assert technique(**{k: v for k, v in one.model_dump(mode="json").items() if k != "method"}) == one


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{"alpha": 1.5}, {"temperature": 0}, {"fine_tune": None}, {"student": {"family": "cnnn"}}, {"teacher": "somebody"},
     {"fine_tune": {"distill": {}}}],
)  # fmt: skip
def test_settings_that_mean_nothing(settings: dict[str, Any]):
    with pytest.raises(ConfigError):
        technique(**settings)


def test_a_teacher_with_other_outputs(bench: Bench, tmp_path: Path):
    import tf_keras
    from tf_keras import layers

    stack: Any = [tf_keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(7, activation="softmax")]
    tf_keras.Sequential(stack).save(tmp_path / "seven.keras", save_format="keras")
    given = str(tmp_path / "seven.keras")
    with pytest.raises(ModelError, match=r"different outputs.*seven.keras.*required \(10,\), received \(7,\)"):
        altered(technique(teacher={"file": given}, fine_tune=SHORT), bench)
    with pytest.raises(ModelError, match=r"different outputs.*seven.keras"):
        altered(technique(student={"file": given}, fine_tune=SHORT), bench)


def test_layers_that_cannot_be_compared(bench: Bench):
    with pytest.raises(ConfigError, match="the student has no layer 'nowhere'"):
        altered(technique(features={"stage1_pool": "nowhere"}, fine_tune=SHORT), bench)
    with pytest.raises(ModelError, match="the same spatial size"):
        altered(technique(features={"stage1_pool": "stage2_pool"}, fine_tune=SHORT), bench)
    with pytest.raises(ModelError, match="no layers in common"):
        altered(technique(attention="auto", student={"family": "mlp"}, fine_tune=SHORT), bench)


def test_a_task_with_a_training_of_its_own(bench: Bench):
    from edgedl.models.load import load_keras
    from edgedl.pipeline.compress.distiller import make_distiller

    model = load_keras(bench.base.path(bench.base.model_file))
    base = replace(bench.base, contract=replace(bench.base.contract, task="denoising"))
    with pytest.raises(ConfigError, match="no distillation for denoising"):
        make_distiller(model, Distillation(), replace(bench, base=base), None)
