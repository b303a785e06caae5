"""Fine-tuning: training that goes on, alone (the control of every other technique) or inside another technique."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgedl.core.console import reporter
from edgedl.core.errors import ConfigError, ModelError
from edgedl.pipeline.compress.base import Alteration, Altered, Bench, FineTune

if TYPE_CHECKING:
    from edgedl.models import KerasModel
    from edgedl.pipeline.recipe import Train


class FineTuned(Alteration):
    """The model, trained on: what compression is compared with."""

    method: Literal["fine-tune"] = "fine-tune"
    fine_tune: FineTune = FineTune()

    def alter(self, model: KerasModel, bench: Bench) -> Altered:
        """Train it on."""
        history = fine_tune(model, bench, self.fine_tune)
        return Altered(model, history=history, said=(f"fine-tuned for {self.fine_tune.epochs} epochs",))

    def control(self) -> Alteration | None:
        """It is the others' control."""
        return None


def steps_per_epoch(bench: Bench, tune: FineTune) -> int:
    """Number of training steps in an epoch of `fine_tune`."""
    n = len(bench.data.train)
    return -(-n // min(n, tune.batch_size or bench.recipe.train.batch_size))


def fine_tune(
    model: KerasModel,
    bench: Bench,
    tune: FineTune,
    *,
    callbacks: Sequence[Any] = (),
    keep: bool = True,
) -> tuple[Mapping[str, float], ...]:
    """Train `model` in place with the loss of its task; one mapping (loss, metrics, seconds) an epoch.

    Weights of the last epoch are kept: schedules of pruning and fake quantization end there. callbacks: of tf_keras.
    keep: keep what earlier steps promised of the weights (zeros, shared values). tune.distill: a teacher's
    answers are learnt too. Raises ConfigError where the task's data, ModelError where the teacher does not fit or
    nothing can be trained.
    """
    if not model.trainable_weights:
        raise ModelError(
            f"{bench.base.name} cannot be trained on: it has no trainable weights",
            required="a layer with trainable weights",
            advice="The number formats (int8, dynamic-range, float16 …) need none",
        )
    with _frozen_norms(model) if tune.batch_norm == "freeze" else contextlib.nullcontext():
        return _train(model, bench, tune, callbacks, keep)


def _train(
    model: KerasModel, bench: Bench, tune: FineTune, callbacks: Sequence[Any], keep: bool
) -> tuple[Mapping[str, float], ...]:
    from edgedl.pipeline.compress.distiller import make_distiller
    from edgedl.pipeline.tasks import TASKS
    from edgedl.pipeline.train.callbacks import ProgressBar, Rows
    from edgedl.pipeline.train.schedule import build_optimizer
    from edgedl.pipeline.train.stage import batches_for, compile_model, data_errors

    contract = bench.base.contract
    rules = TASKS[contract.task]
    config = training_config(bench, tune)
    step = model if rules.trainee is None else rules.trainee(model, bench.recipe.model, contract)
    logits = contract.outputs[0].content == "logits"
    rate = compile_model(step, config, bench.data, rules, from_logits=logits)
    if tune.distill is not None:
        step = make_distiller(model, tune.distill, bench, lambda: build_optimizer(config.optimizer, rate))
    batches, validation, steps = batches_for(config, bench.data, rules, seed=bench.seed)
    rows = Rows()
    kept = _keeping(model, bench) if keep else []
    with reporter().progress("fine-tune", steps * config.epochs) as bar, data_errors():
        step.fit(
            batches,
            steps_per_epoch=steps,
            epochs=config.epochs,
            validation_data=validation,
            verbose=0,
            callbacks=[*kept, *callbacks, rows, ProgressBar(bar, steps, config.epochs)],
        )
    return tuple(rows.history)


@contextlib.contextmanager
def _frozen_norms(model: KerasModel) -> Generator[None]:
    """Inside, BatchNorms are not trained and compute as in inference; a model compiled inside trains so."""
    import tf_keras

    from edgedl.models.facts import leaf_layers

    layers: list[Any] = [getattr(one, "layer", one) for one in leaf_layers(model)]  # behind tfmot's wrappers
    norms = [one for one in layers if isinstance(one, tf_keras.layers.BatchNormalization) and one.trainable]
    for one in norms:
        one.trainable = False
    try:
        yield
    finally:
        for one in norms:
            one.trainable = True


def _keeping(model: KerasModel, bench: Bench) -> Sequence[Any]:
    from edgedl.core.artifacts import AlteredModel

    promises = bench.base.promises if isinstance(bench.base, AlteredModel) else ()
    if not promises:
        return ()
    from edgedl.pipeline.compress.keeping import keeping
    from edgedl.pipeline.compress.kernels import kernels_of

    return keeping(kernels_of(model)[0], promises)


def training_config(bench: Bench, tune: FineTune) -> Train:
    """The recipe's `train` with what fine-tuning says otherwise. Raises ConfigError without training examples."""
    from edgedl.pipeline.recipe import Optimizer, Schedule

    if not len(bench.data.train):
        raise ConfigError("fine-tuning needs training examples", required="data with a training split")
    train = bench.recipe.train
    return train.model_copy(
        update={
            "epochs": tune.epochs,
            "batch_size": tune.batch_size or train.batch_size,
            "optimizer": Optimizer(name="adam", learning_rate=tune.learning_rate),
            "schedule": Schedule(name=tune.schedule),
            "early_stopping": None,
            "mixed_precision": "off",
            "steps_per_execution": 1,
        }
    )
