"""The steps of a chain that make another Keras model, each an artifact of its own, so that chains share them."""

from __future__ import annotations

from pathlib import Path

from edgedl.core.artifacts import AlteredModel, QualityChange, Step, TrainedModel, load_artifact
from edgedl.core.errors import ModelError
from edgedl.core.isolation import Limits
from edgedl.core.store import RunStore
from edgedl.models import KerasModel
from edgedl.models.identify import content_hash
from edgedl.pipeline.compress.base import Alteration, Bench
from edgedl.pipeline.compress.distiller import file_behind
from edgedl.pipeline.data import Splits
from edgedl.pipeline.recipe import Recipe, recipe_json


def alter_stage(
    store: RunStore,
    origin: TrainedModel,
    base: TrainedModel,
    technique: Alteration,
    *,
    data: Splits,
    recipe: Recipe,
    seed: int,
    limits: Limits,
) -> AlteredModel:
    """What the technique makes of `base`, found in the store or made now. origin: what the chain began with.

    Raises ConfigError, ModelError.
    """
    _check_layers(origin, technique)
    files = {name: content_hash(file_behind(file)) for name, file in technique.files().items()}
    control = None
    if (alike := technique.control()) is not None:
        control = alter_stage(store, origin, base, alike, data=data, recipe=recipe, seed=seed, limits=limits)
    config = technique.model_dump(mode="json", exclude={"name", "then"})
    config |= {"train": recipe_json(recipe)["train"]} if technique.fine_tune is not None else {}
    return store.build(
        AlteredModel,
        f"alter-{technique.method}",
        lambda folder: _alter(Bench(origin, base, data, recipe, seed, folder, limits), technique, control),
        config=config,
        parents=[origin, *([base] if base is not origin else []), *([control] if control else [])],
        inputs={"data": data.record.fingerprint, **files},
        seed=seed,
    )


def _alter(bench: Bench, technique: Alteration, control: AlteredModel | None) -> AlteredModel:
    from edgedl.core.quiet import native_stderr_kept

    with native_stderr_kept():
        import tensorflow as tf
        import tf_keras

        tf.config.list_logical_devices()
    from edgedl.models.facts import facts_of_model
    from edgedl.models.load import load_keras
    from edgedl.pipeline.compress.keeping import still_held
    from edgedl.pipeline.compress.kernels import kernels_of
    from edgedl.pipeline.train.stage import save_keras

    tf_keras.utils.set_random_seed(bench.seed)
    tf.config.experimental.enable_op_determinism()
    made = technique.alter(load_keras(bench.base.path(bench.base.model_file)), bench)
    path = bench.folder / bench.base.model_file
    model = tf_keras.models.clone_model(made.model)  # without optimizer and loss
    model.set_weights(made.model.get_weights())
    save_keras(model, path)
    renewed = {(one.layer, one.weight) for one in made.promises}
    before = bench.base.promises if isinstance(bench.base, AlteredModel) and not made.is_new else ()
    before = [one for one in before if (one.layer, one.weight) not in renewed]
    held = still_held(kernels_of(model)[0], before) if before else []
    said = made.said
    if len(held) < len(before):
        lost = [f"{one.layer}/{one.weight}" for one in before if one not in held]
        said = (*said, f"{technique.method} gave up what earlier steps promised of {', '.join(lost)}")
    facts = facts_of_model(model, path, "keras-2")
    change = _judge(model, bench, technique)
    return AlteredModel(
        name=bench.base.name,
        folder=bench.folder,
        method=technique.method,
        contract=bench.base.contract,
        data=bench.base.data,
        quality=change.after if change else None,
        parameters=facts.parameters,
        macs=facts.macs,
        layers=tuple(op.name for op in facts.ops),
        origin=f"{technique.method} of {bench.base.origin}",
        history=made.history,
        model_file=bench.base.model_file,
        carried=bench.base.carried,
        change=change,
        control=control.change if control else None,
        promises=(*held, *made.promises),
        skipped=made.skipped,
        said=said,
        fake_quant=made.fake_quant,
        figures=made.figures,
    )


def _judge(model: KerasModel, bench: Bench, technique: Alteration) -> QualityChange | None:
    """The loss against the model that the chain began with, on the test split."""
    from edgedl.pipeline.evaluate import quality, quality_change
    from edgedl.pipeline.judge import evidence, load_evidence, save_evidence
    from edgedl.pipeline.tasks import TASKS
    from edgedl.pipeline.train.stage import predict

    if not len(bench.data.test) or bench.origin.quality is None:
        return None
    contract = bench.base.contract
    measure = TASKS[contract.task].measure
    found = evidence(lambda inputs: predict(model, inputs), contract, bench.data, title=technique.method)
    save_evidence(bench.folder, found)
    after = quality(found, measure, of=f"keras {technique.method}")
    return quality_change((bench.origin.quality, load_evidence(bench.origin)), (after, found), measure)


def _check_layers(origin: TrainedModel, technique: Alteration) -> None:
    if origin.carried is not None and origin.carried.road == "frozen":
        raise ModelError(
            f"{technique.method} cannot alter this model: its graph is frozen",
            required="a model of layers",
            received=", ".join(origin.carried.notes),
            advice="The number formats (int8, dynamic-range, float16 …) work on it",
        )


def step_of(model: AlteredModel) -> Step:
    """One altered model as a step of a chain's result."""
    return Step(
        method=model.method,
        folder=model.folder.name,
        parameters=model.parameters,
        macs=model.macs,
        change=model.change,
        control=model.control,
        said=model.said,
        skipped=model.skipped,
    )


def model_behind(store_folder: Path, trained: TrainedModel, altered: str | None) -> TrainedModel:
    """The Keras model that a variant or a file was made from: `trained`, or the altered one of that folder name."""
    if altered is None:
        return trained
    found = load_artifact(store_folder / altered)
    assert isinstance(found, AlteredModel)
    return found
