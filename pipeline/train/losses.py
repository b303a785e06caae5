"""Losses and metrics by the names that recipes use. Classification targets are one-hot."""

from __future__ import annotations

from typing import Any

import tf_keras

from edgedl.core.contract import Task
from edgedl.core.errors import ConfigError
from edgedl.pipeline.recipe import Train

FOR_TASK: dict[str, Task] = {
    "cross-entropy": "classification",
    "focal": "classification",
    "mse": "regression",
    "mae": "regression",
    "huber": "regression",
}

METRICS_FOR_TASK: dict[Task, tuple[str, ...]] = {
    "classification": ("accuracy", "top5", "auc", "precision", "recall"),
    "regression": ("mae", "mse", "rmse"),
}


def build_loss(config: Train, task: Task, *, from_logits: bool) -> Any:
    """The loss that the recipe names. Raises ConfigError when it does not fit the task."""
    name = config.loss
    if name == "auto":
        name = "cross-entropy" if task == "classification" else "mse"
    if FOR_TASK[name] != task:
        fitting = [loss for loss, meant in FOR_TASK.items() if meant == task]
        raise ConfigError(f"train.loss does not fit {task}", required=" or ".join(fitting), received=name)
    if config.label_smoothing and task != "classification":
        raise ConfigError("train.label_smoothing needs classes", required="0 for regression")
    losses: Any = tf_keras.losses
    if name == "cross-entropy":
        return losses.CategoricalCrossentropy(from_logits=from_logits, label_smoothing=config.label_smoothing)
    if name == "focal":
        return losses.CategoricalFocalCrossentropy(from_logits=from_logits, label_smoothing=config.label_smoothing)
    return {"mse": losses.MeanSquaredError, "mae": losses.MeanAbsoluteError, "huber": losses.Huber}[name]()


def build_metrics(config: Train, task: Task, *, from_logits: bool) -> list[Any]:
    """The metrics that the recipe names. Raises ConfigError when one does not fit the task."""
    names = config.metrics
    if names == "auto":
        names = ("accuracy",) if task == "classification" else ("mae",)
    for name in names:
        if name not in METRICS_FOR_TASK[task]:
            raise ConfigError(
                f"train.metrics: {name} does not fit {task}",
                required=" or ".join(METRICS_FOR_TASK[task]),
                received=name,
            )
    metrics: Any = tf_keras.metrics
    make = {
        "accuracy": metrics.CategoricalAccuracy,
        "top5": metrics.TopKCategoricalAccuracy,
        "auc": lambda name: metrics.AUC(multi_label=True, from_logits=from_logits, name=name),
        "precision": metrics.Precision,
        "recall": metrics.Recall,
        "mae": metrics.MeanAbsoluteError,
        "mse": metrics.MeanSquaredError,
        "rmse": metrics.RootMeanSquaredError,
    }
    return [make[name](name=name) for name in names]
