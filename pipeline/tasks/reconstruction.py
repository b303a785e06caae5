"""The input again, through a bottleneck; and how badly that goes as the score of an anomaly.

An anomaly detector is trained on normal examples only and judged by the area under the ROC curve.
"""

from __future__ import annotations

from typing import Any

from edgedl.pipeline.evaluate import ANOMALY_AUC, RECONSTRUCTION_ERROR
from edgedl.pipeline.tasks.base import Answer, TaskRules, itself, n_inputs, supervised


def _batch(inputs: Any, targets: Any) -> tuple[Any, Any]:
    return inputs, {"reconstruction": inputs}


RECONSTRUCTION = TaskRules(
    task="reconstruction",
    answers=(Answer("reconstruction", "value", "values"),),
    measure=RECONSTRUCTION_ERROR,
    units=n_inputs,
    ask=itself,
    batch=_batch,
)

ANOMALY_DETECTION = TaskRules(
    task="anomaly-detection",
    answers=(Answer("reconstruction", "value", "values"),),
    measure=ANOMALY_AUC,
    units=n_inputs,
    ask=supervised,
    batch=_batch,
)
