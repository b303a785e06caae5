"""Losses and metrics by the names that recipes use; what fits depends on how the task tells what is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tf_keras

from edgedl.core.errors import ConfigError
from edgedl.pipeline.recipe import Train
from edgedl.pipeline.tasks import TaskRules
from edgedl.pipeline.tasks.base import TargetKind

_LOSSES: Any = tf_keras.losses
_METRICS: Any = tf_keras.metrics

LOSSES: Mapping[TargetKind, Mapping[str, Callable[..., Any]]] = {
    "one-hot": {"cross-entropy": _LOSSES.CategoricalCrossentropy, "focal": _LOSSES.CategoricalFocalCrossentropy},
    "index": {"cross-entropy": _LOSSES.SparseCategoricalCrossentropy},
    "value": {"mse": _LOSSES.MeanSquaredError, "mae": _LOSSES.MeanAbsoluteError, "huber": _LOSSES.Huber},
}
"""The first of each is the automatic one."""

METRICS: Mapping[TargetKind, Mapping[str, Callable[..., Any]]] = {
    "one-hot": {
        "accuracy": _METRICS.CategoricalAccuracy,
        "top5": _METRICS.TopKCategoricalAccuracy,
        "auc": _METRICS.AUC,
        "precision": _METRICS.Precision,
        "recall": _METRICS.Recall,
    },
    "index": {"accuracy": _METRICS.SparseCategoricalAccuracy},
    "value": {
        "mae": _METRICS.MeanAbsoluteError,
        "mse": _METRICS.MeanSquaredError,
        "rmse": _METRICS.RootMeanSquaredError,
    },
}


def build_losses(config: Train, rules: TaskRules, *, from_logits: bool) -> list[Any]:
    """A loss for each answer of the task: the recipe's for the first, the automatic ones for the others.

    Raises ConfigError when the recipe's does not fit the task.
    """
    first = rules.answers[0].target
    if config.loss != "auto" and config.loss not in LOSSES[first]:
        raise ConfigError(
            f"train.loss does not fit {rules.task}", required=" or ".join(LOSSES[first]), received=config.loss
        )
    if config.label_smoothing and first != "one-hot":
        raise ConfigError("train.label_smoothing needs one class per example", required=f"0 for {rules.task}")
    losses: list[Any] = []
    for answer in rules.answers:
        make = LOSSES[answer.target].get(config.loss) or next(iter(LOSSES[answer.target].values()))
        options: dict[str, Any] = {}
        if answer.target != "value":
            options["from_logits"] = from_logits
        if answer.target == "one-hot":
            options["label_smoothing"] = config.label_smoothing
        losses.append(make(**options))
    return losses


def build_metrics(config: Train, rules: TaskRules, *, from_logits: bool) -> list[list[Any]]:
    """The recipe's metrics for the task's first answer, and the automatic one for each of the others.

    Raises ConfigError when one does not fit the task.
    """
    first = METRICS[rules.answers[0].target]
    names = config.metrics if config.metrics != "auto" else (next(iter(first)),)
    for name in names:
        if name not in first:
            raise ConfigError(
                f"train.metrics: {name} does not fit {rules.task}", required=" or ".join(first), received=name
            )
    options = {"auc": {"multi_label": True, "from_logits": from_logits}}
    found = [[first[name](name=name, **options.get(name, {})) for name in names]]
    for answer in rules.answers[1:]:
        name, make = next(iter(METRICS[answer.target].items()))
        found.append([make(name=name)])
    return found
