"""Values per example: targets (n, k) float32."""

from __future__ import annotations

from edgedl.pipeline.evaluate import MAE
from edgedl.pipeline.tasks.base import Answer, TaskRules, n_values, supervised

RULES = TaskRules(
    task="regression",
    answers=(Answer("values", "value", "values"),),
    measure=MAE,
    units=n_values,
    ask=supervised,
)
