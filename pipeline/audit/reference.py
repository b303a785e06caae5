"""The uncompressed Keras model's answers to an audit's inputs: once for all variants, in a child process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import AuditReference, TrainedModel
from edgedl.core.contract import Contract
from edgedl.core.isolation import DEFAULT_LIMITS, Limits, run_isolated
from edgedl.core.store import RunStore
from edgedl.pipeline.audit.config import AuditConfig
from edgedl.pipeline.audit.inputs import ATTACKED, CLEAN, FGSM, attacked, by_name, gradient_of_loss
from edgedl.pipeline.data import Splits
from edgedl.pipeline.evaluate import Asked
from edgedl.pipeline.tasks import TASKS

ANSWERS, ATTACK = "answers.npz", "attack.npz"

MOST, FEWEST = 1000, 100
MACS = 1e11
"""Of all answers of one model; about 10 s of one core."""
VALUES = 16e6
"""Of one kind of inputs; 64 MB."""
SETS = 8
"""Kinds of inputs, about."""


@dataclass(frozen=True)
class Questions:
    """What the child is given. raw: test examples; asked: as the task asks them."""

    raw: NDArray[Any]
    asked: Asked
    contract: Contract
    severity: int
    epsilon: float
    seed: int


def examples_for(trained: TrainedModel, config: AuditConfig, data: Splits, seed: int) -> NDArray[np.int64]:
    """Positions of the test examples, drawn with the seed: `config.n`, or what takes seconds."""
    wanted = config.n
    if wanted is None:
        affordable = min(MACS / SETS / max(1, trained.macs), VALUES / float(np.prod(data.input.shape)))
        wanted = min(MOST, max(FEWEST, int(affordable)))
    n = min(wanted, len(data.test))
    return np.sort(np.random.default_rng([seed, 0]).choice(len(data.test), n, replace=False))


def questions(trained: TrainedModel, config: AuditConfig, data: Splits, seed: int) -> Questions:
    """The examples, raw and as they are asked."""
    positions = examples_for(trained, config, data, seed)
    asked = TASKS[trained.contract.task].ask(trained.contract, data, data.test, positions)
    raw = np.asarray(data.test.raw(positions))
    return Questions(raw, asked, trained.contract, config.severity, config.fgsm_epsilon, seed)


def reference_stage(
    store: RunStore,
    trained: TrainedModel,
    config: AuditConfig,
    asked: Questions,
    *,
    data: Splits,
    seed: int,
    limits: Limits = DEFAULT_LIMITS,
) -> AuditReference:
    """The answers, found in the store or asked for now."""

    def make(folder: Path) -> AuditReference:
        answers, attack, refused = run_isolated(
            answer_all, trained.path(trained.model_file), asked, stage="audit", subject=trained.name, limits=limits,
            advice="`audit: false` leaves the audit out",
        )  # fmt: skip
        np.savez(folder / ANSWERS, allow_pickle=False, **answers)
        if attack is not None:
            np.savez(folder / ATTACK, allow_pickle=False, inputs=attack)
        positions = tuple(int(i) for i in examples_for(trained, config, data, seed))
        return AuditReference(
            name=trained.name, folder=folder, positions=positions, inputs=tuple(answers), refused=refused
        )

    return store.build(
        AuditReference,
        "audit-reference",
        make,
        config=config.model_dump(mode="json", exclude={"limits"}),
        parents=[trained],
        inputs={"data": data.record.fingerprint},
        seed=seed,
    )


def answer_all(path: Path, asked: Questions) -> tuple[dict[str, NDArray[Any]], NDArray[Any] | None, dict[str, str]]:
    """In the child: the first output for every kind of inputs, the attacked inputs, and what was refused and why."""
    from edgedl.models.load import load_keras
    from edgedl.pipeline.train.stage import predict

    model, contract = load_keras(path), asked.contract
    answer, given = contract.outputs[0], contract.inputs[0].name

    def first(inputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
        return np.asarray(predict(model, inputs)[answer.name], np.float32)

    answers = {CLEAN: first(dict(asked.asked.inputs))}
    for name, (_, inputs) in by_name(asked.raw, contract, asked.severity, asked.seed).items():
        answers[name] = first({given: inputs})
    reason = why_not_attacked(contract)
    if reason is not None:
        return answers, None, {FGSM: reason}
    clean = asked.asked.inputs[given]
    try:
        gradient = gradient_of_loss(model, clean, asked.asked.targets, answer.content)
    except LookupError as error:
        return answers, None, {FGSM: str(error).splitlines()[0]}
    attack = attacked(clean, gradient, asked.raw, contract.inputs[0], asked.epsilon)
    answers[FGSM] = first({given: attack})
    return answers, attack, {}


def why_not_attacked(contract: Contract) -> str | None:
    """Why the gradient of the loss says nothing of this model's inputs; None where it does."""
    if contract.task not in ATTACKED:
        return f"there is no one right answer to move away from in {contract.task}"
    if len(contract.inputs) != 1 or not contract.inputs[0].dtype.startswith("float"):
        return "its inputs are no measurements that change a little"
    return None
