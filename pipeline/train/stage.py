"""The training stage: recipe and data in, TrainedModel out; killed at any point, it goes on after the last epoch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from edgedl.core import isolation
from edgedl.core.artifacts import TrainedModel, to_json
from edgedl.core.console import reporter
from edgedl.core.contract import Contract, InputContract, OutputContract
from edgedl.core.errors import ConfigError, DataError
from edgedl.core.quiet import native_stderr_kept
from edgedl.core.store import RunStore
from edgedl.models import Family, KerasModel, ModelFileSection, TransferSection
from edgedl.models.identify import content_hash
from edgedl.models.load import bring_in
from edgedl.models.transfer import set_trainable
from edgedl.pipeline.data import Splits, balanced_class_weights, evaluation_batches, training_batches
from edgedl.pipeline.evaluate import Arrays, quality
from edgedl.pipeline.judge import evidence, save_evidence
from edgedl.pipeline.recipe import Recipe, Train, recipe_json
from edgedl.pipeline.tasks import TASKS, TaskRules
from edgedl.pipeline.train.start import BACKBONE_FILE, MODEL_FILE, bring_start, build_model, file_of, task_of

if TYPE_CHECKING:
    import tensorflow as tf

    from edgedl.pipeline.train.checkpoint import History
    from edgedl.pipeline.train.schedule import RecipeSchedule


def train_stage(store: RunStore, recipe: Recipe, data: Splits) -> TrainedModel:
    """The recipe's model, trained on the data; found in the store, gone on with, or begun.

    Raises ConfigError, ModelError. Ctrl-C leaves a checkpoint that the same call goes on from.
    """
    # Of the data, its content counts (in `inputs`) and what the app must do with it, not where it lies.
    config = {name: recipe_json(recipe)[name] for name in ("name", "model", "train", "description")}
    config |= {"input": to_json(data.input), "labels": data.labels}
    inputs = {"data": data.record.fingerprint}
    if (file := file_of(recipe)) is not None:
        inputs["model file"] = content_hash(file)
        section = config["model"].get("backbone", config["model"])
        del section["file"]  # its content counts, not its place
    return store.build(
        TrainedModel,
        "train",
        lambda folder: _train(folder, recipe, data),
        config=config,
        inputs=inputs,
        seed=recipe.seed,
        resumable=True,
    )


def import_stage(store: RunStore, section: ModelFileSection, name: str) -> TrainedModel:
    """A Keras file of the user's as it is, without data: neither trained nor judged here."""
    return store.build(
        TrainedModel,
        "train",
        lambda folder: _import(folder, section, name),
        config={"name": name, **section.model_dump(mode="json", exclude={"file", "fine_tune"})},
        inputs={"model file": content_hash(section.file)},
    )


def _import(folder: Path, section: ModelFileSection, name: str) -> TrainedModel:
    brought = bring_in(section.file, folder / MODEL_FILE, section)
    task = "classification" if brought.ends_in_softmax else "regression"
    inputs = tuple(InputContract(one.name, one.shape[1:], one.dtype) for one in brought.inputs)
    content = "probabilities" if brought.ends_in_softmax else "values"
    outputs = tuple(OutputContract(one.name, one.shape[1:], one.dtype, content) for one in brought.outputs)
    return TrainedModel(
        name=name,
        folder=folder,
        contract=Contract(task, inputs, outputs),
        data=None,
        quality=None,
        parameters=brought.parameters,
        macs=brought.macs,
        layers=brought.layers,
        origin=section.file.name,
        carried=brought.carried,
    )


@dataclass(frozen=True)
class _Fitted:
    history: list[dict[str, float]]
    traces: dict[str, int]
    stopped: str
    best_epoch: int | None


def _train(folder: Path, recipe: Recipe, data: Splits) -> TrainedModel:
    isolation.warm_up("tensorflow")  # for the conversions that follow; imports while this process trains
    isolation.warm_up("runtime")
    with native_stderr_kept():
        import tensorflow as tf
        import tf_keras

        tf.config.list_logical_devices()  # looks for GPUs, and complains of their absence, now
    tf_keras.utils.set_random_seed(recipe.seed)
    tf.config.experimental.enable_op_determinism()
    tf_keras.backend.experimental.enable_tf_random_generator()  # dropout's state becomes a variable, and is saved

    rules = TASKS[task_of(recipe, data)]
    start = bring_start(folder, recipe, data, rules)
    data = start.data

    def build() -> KerasModel:
        return build_model(folder, recipe, data, rules.head(data))

    with mixed_precision(recipe.train.mixed_precision):
        model = build()
    if isinstance(recipe.model, ModelFileSection) and not recipe.model.fine_tune:
        fitted = _Fitted([], {}, "not trained: the file's weights as they are", None)
    else:
        contract = build_contract(model, recipe, data, rules, softmax=start.softmax)
        fitted = _fit(folder, model, recipe, data, rules, contract)
        trained, model = model, build()  # without optimizer, in float32
        model.set_weights(trained.get_weights())
    contract = build_contract(model, recipe, data, rules, softmax=start.softmax)
    save_keras(model, folder / MODEL_FILE)
    if fitted.history:
        from edgedl.pipeline.report.charts import curves_png
        from edgedl.pipeline.train.checkpoint import remove_checkpoints

        curves_png(fitted.history, folder / "curves.png")
        remove_checkpoints(folder)
    (folder / BACKBONE_FILE).unlink(missing_ok=True)

    judged = None
    if len(data.test):
        found = evidence(lambda inputs: predict(model, inputs), contract, data, title="keras float32")
        save_evidence(folder, found)
        judged = quality(found, rules.measure, of="keras float32")

    from edgedl.models.facts import facts_of_model

    facts = facts_of_model(model, folder / MODEL_FILE, "keras-2")
    return TrainedModel(
        name=recipe.name,
        folder=folder,
        contract=contract,
        data=data.record,
        quality=judged,
        parameters=facts.parameters,
        macs=facts.macs,
        layers=tuple(op.name for op in facts.ops),
        origin=start.origin,
        carried=start.carried,
        history=tuple(fitted.history),
        traces=fitted.traces,
        stopped=fitted.stopped,
        best_epoch=fitted.best_epoch,
        model_file=MODEL_FILE,
    )


def _fit(
    folder: Path, model: KerasModel, recipe: Recipe, data: Splits, rules: TaskRules, contract: Contract
) -> _Fitted:
    from edgedl.pipeline.train.callbacks import best_epoch, rows_of, should_stop
    from edgedl.pipeline.train.checkpoint import read_history, restore_best, restore_checkpoint

    config, stopping = recipe.train, recipe.train.early_stopping
    if rules.trainee is not None:
        model = rules.trainee(model, recipe.model, contract)
    from_logits = contract.outputs[0].content == "logits"
    history, traced = read_history(folder), dict[str, int]()
    if history:
        reporter().note(f"train: going on after epoch {len(history)}")
    begun = int(history[-1].get("phase", 0)) if history else None
    phases = _phases(recipe)
    for number, phase in enumerate(phases):
        if begun is not None and number < begun:
            continue
        if isinstance(recipe.model, TransferSection):
            set_trainable(model, recipe.model.backbone, number)
        optimizer = config.optimizer.model_copy(update={"learning_rate": config.optimizer.learning_rate * phase.factor})
        this = config.model_copy(update={"optimizer": optimizer, "epochs": phase.epochs})
        rate = compile_model(model, this, data, rules, from_logits=from_logits)
        _check_stopping(config, model, data, rules)
        if number == begun:
            restore_checkpoint(folder, model)
        rows = rows_of(history, number)
        if len(rows) < phase.epochs and not (rows and stopping and should_stop(rows, stopping)):
            run_epochs(folder, model, this, data, rules, history, rate, recipe.seed, phase=number)
        suffix = f" of phase {number + 1}" if len(phases) > 1 else ""
        traced |= {f"{name}{suffix}": count for name, count in traces(model).items()}
    stopped = f"after {len(history)} epochs"
    if stopping and len(history) < sum(phase.epochs for phase in phases):
        stopped += f": no better {stopping.metric}"
    best = best_epoch(history, stopping) if stopping else None
    if stopping and stopping.restore_best:
        restore_best(folder, model)
        stopped += f"; weights of epoch {best}"
    return _Fitted(history, traced, stopped, best)


@dataclass(frozen=True)
class _Phase:
    """Epochs with the same layers learning; each has an optimizer and a schedule of its own."""

    epochs: int
    factor: float = 1.0


def _phases(recipe: Recipe) -> list[_Phase]:
    """One; two where a backbone is unfrozen."""
    first = _Phase(recipe.train.epochs)
    if isinstance(recipe.model, TransferSection) and (later := recipe.model.backbone.unfreeze):
        return [first, _Phase(later.epochs, later.rate_factor)]
    return [first]


def compile_model(
    model: KerasModel, config: Train, data: Splits, rules: TaskRules, *, from_logits: bool
) -> RecipeSchedule:
    """Give the model its optimizer, loss and metrics, with all their variables; returns the learning rate."""
    from edgedl.pipeline.train.losses import build_losses, build_metrics
    from edgedl.pipeline.train.schedule import RecipeSchedule, build_optimizer

    steps = -(-len(data.train) // config.batch_size)
    rate = RecipeSchedule(config.optimizer.learning_rate, config.schedule, steps, steps * config.epochs)
    options = {"jit_compile": config.jit_compile, "steps_per_execution": config.steps_per_execution}
    if rules.trainee is not None:
        if config.loss != "auto" or config.metrics != "auto":
            raise ConfigError(f"{rules.task} has a loss of its own", required="train.loss and train.metrics: auto")
        model.compile_with(lambda: build_optimizer(config.optimizer, rate), **options)
        return rate
    losses = build_losses(config, rules, from_logits=from_logits)
    metrics = build_metrics(config, rules, from_logits=from_logits)
    names = _answer_names(model, rules)
    one = len(model.outputs) == 1
    model.compile(
        optimizer=build_optimizer(config.optimizer, rate),
        loss=losses[0] if one else dict(zip(names, losses, strict=True)),
        metrics=metrics[0] if one else dict(zip(names, metrics, strict=True)),
        **options,
    )
    create_variables(model)
    return rate


def _answer_names(model: KerasModel, rules: TaskRules) -> list[str]:
    """The model's names of the outputs that the task trains: the zoo's by name, another's first ones."""
    if all(answer.name in model.output_names for answer in rules.answers):
        return [answer.name for answer in rules.answers]
    return list(model.output_names[: len(rules.answers)])


def run_epochs(
    folder: Path,
    model: KerasModel,
    config: Train,
    data: Splits,
    rules: TaskRules,
    history: History,
    rate: RecipeSchedule,
    seed: int,
    *,
    phase: int = 0,
) -> None:
    """Train a compiled model from where `history` ends, which goes on growing; a checkpoint after every epoch."""
    from edgedl.pipeline.train.callbacks import AfterEpoch, ProgressBar, rows_of

    last = len(history) + config.epochs - len(rows_of(history, phase))
    batches, validation, steps = batches_for(config, data, rules, seed=seed, first_epoch=len(history), epochs=last)
    with reporter().progress("train", steps * last) as bar, data_errors():
        model.fit(
            batches,
            steps_per_epoch=steps,
            initial_epoch=len(history),
            epochs=last,
            validation_data=validation,
            verbose=0,
            callbacks=[
                AfterEpoch(folder, history, rate, config.early_stopping, phase),
                ProgressBar(bar, steps, last),
            ],
        )


def batches_for(
    config: Train, data: Splits, rules: TaskRules, *, seed: int, first_epoch: int = 0, epochs: int | None = None
) -> tuple[tf.data.Dataset, tf.data.Dataset | None, int]:
    """What a training step of the task is given, epochs `first_epoch` to `epochs` - 1 (unless given all of the
    configuration's) as one data set; the validation set, where there is one; and the number of steps an epoch."""
    n_classes = len(data.labels) if rules.answers[0].target == "one-hot" and data.labels else None
    batches, steps = training_batches(
        data.train,
        data.input,
        batch_size=config.batch_size,
        seed=seed,
        first_epoch=first_epoch,
        epochs=config.epochs if epochs is None else epochs,
        n_classes=n_classes,
        augment=config.augment,
        class_weights=class_weights(config, data, rules),
    )
    validation = None
    if len(data.validation) and rules.validates:
        validation = evaluation_batches(data.validation, data.input, config.batch_size, n_classes=n_classes)
    if rules.batch is not None:
        shape = rules.batch

        def shaped(inputs: Any, targets: Any, *weights: Any) -> tuple[Any, ...]:
            return (*shape(inputs, targets), *weights)

        batches = batches.map(shaped)
        validation = validation.map(shaped) if validation is not None else None
    return batches, validation, steps


@contextlib.contextmanager
def data_errors() -> Generator[None]:
    """An example that cannot be read any more, deep inside tf.data, is a DataError again."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        _, found, message = str(error).partition("DataError: ")
        if not found:
            raise
        raise DataError(message.splitlines()[0].strip()) from None


def create_variables(model: KerasModel) -> None:
    """Make the variables of optimizer, loss and metrics now: made in the first step, they cost a second trace."""
    import tensorflow as tf

    answers = [tf.zeros([1, *output.shape[1:]]) for output in model.outputs]
    answer = answers if len(answers) > 1 else answers[0]
    model.optimizer.build(model.trainable_variables)
    model.compiled_loss.build(answer)
    model.compiled_metrics.build(answer, answer)


def traces(model: KerasModel) -> dict[str, int]:
    """How often tf.function traced each step function of a fitted model."""
    functions = {"train_step": model.train_tf_function, "test_step": model.test_function}
    return {
        name: function.experimental_get_tracing_count() for name, function in functions.items() if function is not None
    }


def predict(model: KerasModel, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """The model's outputs by name, for inputs by name, (n, …)."""
    given = [inputs[name] for name in model.input_names]
    found: Any = model.predict(given if len(given) > 1 else given[0], verbose=0, batch_size=128)
    return dict(zip(model.output_names, found if isinstance(found, list) else [found], strict=True))


def class_weights(config: Train, data: Splits, rules: TaskRules) -> tuple[float, ...] | None:
    """The weight of each class in the loss, in the order of the labels; None for equal weights."""
    if config.class_weights is None:
        return None
    if rules.task != "classification":
        raise ConfigError("train.class_weights needs classes", required="a classification data set")
    if config.class_weights == "balanced":
        return balanced_class_weights(data.train.targets, len(data.labels))
    for label in config.class_weights:
        if label not in data.labels:
            known = ", ".join(data.labels[:10])
            raise ConfigError(f"train.class_weights: no class {label!r}", required=f"labels such as {known}")
    return tuple(config.class_weights.get(label, 1.0) for label in data.labels)


@contextlib.contextmanager
def mixed_precision(kind: str) -> Generator[None]:
    """Layers built inside compute in half precision and keep float32 weights."""
    from tf_keras import mixed_precision

    before = mixed_precision.global_policy()
    mixed_precision.set_global_policy("float32" if kind == "off" else f"mixed_{kind}")
    try:
        yield
    finally:
        mixed_precision.set_global_policy(before)


def _check_stopping(config: Train, model: KerasModel, data: Splits, rules: TaskRules) -> None:
    if config.early_stopping is None:
        return
    if not rules.validates:
        raise ConfigError(f"train.early_stopping has nothing to go by in {rules.task}", advice="Leave it out")
    if not len(data.validation):
        raise ConfigError(
            "train.early_stopping needs a validation set", required="data.split.validation above 0", received="0"
        )
    known = ["loss", *(metric.name for metric in model.compiled_metrics._user_metrics or [])]
    if config.early_stopping.metric not in known:
        raise ConfigError(
            "train.early_stopping.metric is not measured",
            required=" or ".join(known),
            received=config.early_stopping.metric,
        )


def build_contract(model: KerasModel, recipe: Recipe, data: Splits, rules: TaskRules, *, softmax: bool) -> Contract:
    """What the app must do around this model. softmax: whether a classifier ends in one."""
    outputs: list[OutputContract] = []
    contents: dict[str, Literal["probabilities", "logits", "values"]] = dict(
        zip(_answer_names(model, rules), (answer.content for answer in rules.answers), strict=True)
    )
    for name, output in zip(model.output_names, model.outputs, strict=True):
        content = contents.get(name, "values")
        content = "logits" if content == "probabilities" and not softmax else content
        labels = data.labels if content != "values" and len(data.labels) == output.shape[-1] else ()
        shape = tuple(int(side) for side in output.shape[1:])
        outputs.append(OutputContract(name, shape, content=content, labels=labels))
    judged = list(contents)
    outputs.sort(key=lambda one: judged.index(one.name) if one.name in judged else len(judged))
    inputs = [
        data.input
        if name == data.input.name
        else InputContract(name, tuple(int(side) for side in given.shape[1:]), given.dtype.name)
        for name, given in zip(model.input_names, model.inputs, strict=True)
    ]
    noise = recipe.model.noise_schedule() if isinstance(recipe.model, Family) else None
    return Contract(rules.task, tuple(inputs), tuple(outputs), description=recipe.description, noise=noise)


def save_keras(model: KerasModel, path: Path) -> None:
    """Write a `.keras` file whose bytes depend on the model alone: no dates inside."""
    import zipfile

    loose = path.with_name(f".{path.name}")
    model.save(loose, save_format="keras")
    with zipfile.ZipFile(loose) as source, zipfile.ZipFile(path, "w") as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "metadata.json":
                metadata = json.loads(content)
                metadata.pop("date_saved", None)
                content = json.dumps(metadata).encode()
            target.writestr(zipfile.ZipInfo(name), content)
    loose.unlink()
