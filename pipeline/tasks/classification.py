"""One class per example."""

from __future__ import annotations

from edgedl.pipeline.evaluate import ACCURACY
from edgedl.pipeline.tasks.base import Answer, TaskRules, n_labels, supervised

RULES = TaskRules(
    task="classification",
    answers=(Answer("probabilities", "one-hot", "probabilities"),),
    measure=ACCURACY,
    units=n_labels,
    ask=supervised,
)
