"""The audit stage: one compressed file beside the Keras model that it began as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import (
    SHARES,
    Audit,
    AuditFigure,
    AuditKey,
    AuditReference,
    CompressedModel,
    Outcome,
    TrainedModel,
)
from edgedl.core.console import reporter
from edgedl.core.contract import Contract
from edgedl.core.isolation import DEFAULT_LIMITS, Limits
from edgedl.core.store import RunStore
from edgedl.export.inference import run_file
from edgedl.pipeline.audit import figures
from edgedl.pipeline.audit.config import AuditConfig, AuditLimits
from edgedl.pipeline.audit.inputs import CLEAN, FGSM, by_name
from edgedl.pipeline.audit.reference import ANSWERS, ATTACK, Questions, questions, reference_stage
from edgedl.pipeline.data import Splits
from edgedl.pipeline.evaluate import Asked
from edgedl.pipeline.judge import load_evidence
from edgedl.pipeline.tasks import TASKS

TURNS = ("right to wrong", "wrong to right")
"""Parts of the changed predictions; the limit is on all of them."""


def audit_stage(
    store: RunStore,
    trained: TrainedModel,
    compressed: CompressedModel,
    config: AuditConfig,
    *,
    data: Splits | None,
    seed: int,
    limits: Limits = DEFAULT_LIMITS,
) -> Audit | None:
    """Compare the variant with `trained`, which it began as: found in the store or done now.

    None where there are no test examples to compare on. Raises ModelError, StageError when one of the two is lost.
    """
    if data is None or not len(data.test) or compressed.quality is None:
        return None
    asked = questions(trained, config, data, seed)
    reference = reference_stage(store, trained, config, asked, data=data, seed=seed, limits=limits)
    return store.build(
        Audit,
        f"audit-{compressed.name}",
        lambda folder: _audit(folder, trained, compressed, reference, config, asked, data, limits),
        config=config.model_dump(mode="json"),
        parents=[compressed, reference],
        seed=seed,
    )


def _audit(
    folder: Path,
    trained: TrainedModel,
    compressed: CompressedModel,
    reference: AuditReference,
    config: AuditConfig,
    asked: Questions,
    data: Splits,
    limits: Limits,
) -> Audit:
    contract = trained.contract
    before = _load(reference, ANSWERS)
    made = by_name(asked.raw, contract, config.severity, asked.seed)
    keys: dict[str, AuditKey] = {name: key for name, (key, _) in made.items()}
    sets = {name: inputs for name, (_, inputs) in made.items()}
    if FGSM in before:
        keys[FGSM], sets[FGSM] = "fgsm_drop", _load(reference, ATTACK)["inputs"]
    path, given, output = compressed.path(compressed.model_file), contract.inputs[0].name, contract.outputs[0].name
    after: dict[str, NDArray[Any]] = {}
    feeds = {CLEAN: dict(asked.asked.inputs), **{name: {given: inputs} for name, inputs in sets.items()}}
    with reporter().progress(f"audit {compressed.name}", len(feeds)) as bar:
        for name, feed in feeds.items():
            after[name] = np.asarray(run_file(path, feed, limits=limits)[output], np.float32)
            bar.update(len(after))
    found = [
        *_per_class(trained, compressed, data),
        *_changed(before[CLEAN], after[CLEAN], asked),
        *_calibration(before[CLEAN], after[CLEAN], asked),
    ]
    for name, key in keys.items():
        if key == "disagreement":
            differs = figures.difference(before[name], after[name], contract.outputs[0].content)
            found.append(AuditFigure(key, name, None, None, differs, "%", len(before[name])))
        else:
            found.append(_judged(key, name, before[name], after[name], sets[name], asked))
    n, whole = len(asked.raw), len(data.test)
    chosen = f"{n} of {whole} test examples (seed {asked.seed})" if n < whole else f"all {n} test examples"
    return Audit(
        name=compressed.name,
        folder=folder,
        file=compressed.model_file,
        examples=chosen,
        figures=tuple(with_limit(one, config.limits) for one in found),
        does_not_apply=_missing(keys, reference.refused, contract),
        notes=_notes(found, config),
    )


def _load(reference: AuditReference, name: str) -> dict[str, NDArray[Any]]:
    with np.load(reference.path(name), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


# --- figures ---------------------------------------------------------------------------------------------------------


def _per_class(trained: TrainedModel, compressed: CompressedModel, data: Splits) -> list[AuditFigure]:
    """The accuracy of each class on all test examples, from the evidence that both models' judging left."""
    if trained.contract.task != "classification":
        return []
    before, after = load_evidence(trained).astype(bool), load_evidence(compressed).astype(bool)
    targets = np.asarray(data.test.targets)
    labels = trained.contract.outputs[0].labels or data.labels
    present = [i for i in range(int(targets.max()) + 1) if (targets == i).any()]
    found: list[AuditFigure] = []
    for i in present:
        mine = targets == i
        old, new, loss = figures.class_change(before[mine], after[mine], len(present))
        name = labels[i] if i < len(labels) else str(i)
        found.append(AuditFigure("per_class_drop", f"class {name}", old, new, loss, "points", int(mine.sum())))
    return found


def _changed(before: NDArray[Any], after: NDArray[Any], asked: Questions) -> list[AuditFigure]:
    content, n = asked.contract.outputs[0].content, len(before)
    what = "output difference" if content == "values" else "changed predictions"
    whole = figures.difference(before, after, content)
    found = [AuditFigure("changed", what, None, None, whole, "%", n)]
    if asked.contract.task == "classification":
        old, new = (one.reshape(n, -1).argmax(axis=1) for one in (before, after))
        right = np.asarray(asked.asked.targets)
        turns = dict(zip(TURNS, ((old == right) & (new != right), (old != right) & (new == right)), strict=True))
        for words, truths in turns.items():
            found.append(AuditFigure("changed", words, None, None, figures.share(truths), "%", n))
    return found


def _calibration(before: NDArray[Any], after: NDArray[Any], asked: Questions) -> list[AuditFigure]:
    content = asked.contract.outputs[0].content
    if asked.contract.task != "classification" or content == "values":
        return []
    right = np.asarray(asked.asked.targets)
    pairs = [(figures.confidence(one, content), one.argmax(axis=-1) == right) for one in (before, after)]
    old, new, growth = figures.calibration_change(pairs[0], pairs[1])
    return [AuditFigure("calibration_error", "calibration error", old, new, growth, "points", len(before))]


def _judged(
    key: AuditKey, name: str, before: NDArray[Any], after: NDArray[Any], inputs: NDArray[Any], asked: Questions
) -> AuditFigure:
    """The task's own measure of both models' answers to the same corrupted or attacked inputs."""
    contract, measure = asked.contract, TASKS[asked.contract.task].measure
    targets = inputs if contract.task == "reconstruction" else asked.asked.targets
    question = Asked({contract.inputs[0].name: inputs}, targets)
    old, new = (measure.evidence(one, question) for one in (before, after))
    unit = "points" if measure.metric in SHARES else measure.metric
    qualities = measure.interval(old), measure.interval(new)
    return AuditFigure(key, name, *qualities, measure.loss(old, new), unit, len(before))


# --- limits and words ------------------------------------------------------------------------------------------------


def with_limit(figure: AuditFigure, limits: AuditLimits) -> AuditFigure:
    """The figure with its limit and what it means: as in `check`, only a change whose whole interval is over the limit
    is a regression; one that is over it but may be chance is inconclusive."""
    limit = getattr(limits, figure.key)
    if limit is None or figure.what in TURNS:
        return figure
    change = figure.change
    outcome: Outcome = "pass"
    if change.value > limit:
        outcome = "regressed" if change.low > limit else "inconclusive"
    return replace(figure, limit=limit, outcome=outcome)


def _missing(keys: Mapping[str, AuditKey], refused: Mapping[str, str], contract: Contract) -> tuple[str, ...]:
    """What was not judged, in sentences."""
    found: list[str] = []
    if contract.task != "classification":
        found.append(f"accuracy of each class, calibration error: {contract.task} has no one class an example")
    elif contract.outputs[0].content == "values":
        found.append("calibration error: the answers are no probabilities")
    if "corruption_drop" not in keys.values():
        found.append(f"corruptions: the inputs of {contract.task} are no measurements that noise can change")
    found += [f"{name}: {reason}" for name, reason in refused.items()]
    if "disagreement" not in keys.values():
        found.append(f"inputs unlike the training data: {contract.task} is given drawn inputs only")
    return tuple(f"does not apply: {one}" for one in found)


def _notes(found: Sequence[AuditFigure], config: AuditConfig) -> tuple[str, ...]:
    kinds = {one.key: one for one in found}
    notes: list[str] = []
    if (one := kinds.get("per_class_drop")) is not None:
        n = sum(each.key == "per_class_drop" for each in found)
        notes.append(
            f"the losses of {n} classes are judged together: each interval has level {100 * one.change.level:.4g} % "
            "(Bonferroni), so that all of them hold together at 95 %"
        )
    if "calibration_error" in kinds:
        notes.append(f"calibration error in {figures.BINS} bins of equal size; few examples make it look larger")
    if "corruption_drop" in kinds:
        notes.append(f"corruptions of severity {config.severity} of 5")
    if "fgsm_drop" in kinds:
        notes.append(
            f"FGSM with a step of {config.fgsm_epsilon:g} of the range, along the uncompressed model's gradient: an "
            "attack made for the file itself may do more"
        )
    return tuple(notes)
