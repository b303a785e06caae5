"""How well a model does its task: predictions against targets, with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import Quality, QualityChange
from edgedl.core.contract import Task
from edgedl.core.statistics import bootstrap_mean, paired_difference, wilson


def correct(outputs: NDArray[Any], targets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Right or wrong per example. outputs: (n, classes); targets: (n,) class indices."""
    return outputs.reshape(len(targets), -1).argmax(axis=1) == targets


def absolute_errors(outputs: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """Mean absolute error per example, in the target's unit. outputs, targets: (n, k)."""
    difference = outputs.reshape(len(targets), -1).astype(np.float64) - targets.reshape(len(targets), -1)
    return np.abs(difference).mean(axis=1)


def quality(outputs: NDArray[Any], targets: NDArray[Any], task: Task, *, of: str, split: str = "test") -> Quality:
    """Accuracy (classification) or mean absolute error (regression) of `outputs`, shape (n, …)."""
    if task == "classification":
        right = correct(outputs, targets)
        interval = wilson(int(right.sum()), len(right))
        return Quality("accuracy", interval.value, interval, len(right), split, of)
    interval = bootstrap_mean(absolute_errors(outputs, targets))
    return Quality("mae", interval.value, interval, len(targets), split, of)


def quality_change(
    before: tuple[Quality, NDArray[Any]], after: tuple[Quality, NDArray[Any]], targets: NDArray[Any]
) -> QualityChange:
    """The loss from one model to the other on the same examples. Each is (its quality, its outputs (n, …))."""
    (old, old_outputs), (new, new_outputs) = before, after
    if old.metric == "accuracy":
        points = paired_difference(correct(old_outputs, targets), correct(new_outputs, targets)).scaled(100.0)
        return QualityChange(old, new, points.value, points)
    gain = absolute_errors(new_outputs, targets) - absolute_errors(old_outputs, targets)
    interval = bootstrap_mean(gain)
    return QualityChange(old, new, interval.value, interval)
