"""Tasks: one a file. `TASKS` is the one list where a new task adds its line."""

from __future__ import annotations

from edgedl.core.contract import Task
from edgedl.pipeline.tasks import (
    classification,
    denoising,
    generation,
    next_token,
    policy_value,
    reconstruction,
    regression,
    segmentation,
)
from edgedl.pipeline.tasks.base import Answer, TaskRules

TASKS: dict[Task, TaskRules] = {
    rules.task: rules
    for rules in (
        classification.RULES,
        regression.RULES,
        segmentation.RULES,
        next_token.RULES,
        policy_value.RULES,
        reconstruction.RECONSTRUCTION,
        reconstruction.ANOMALY_DETECTION,
        generation.RULES,
        denoising.RULES,
    )
}

__all__ = ["TASKS", "Answer", "TaskRules"]
