"""One class per pixel: targets (n, height, width) class numbers, output (n, height, width, classes)."""

from __future__ import annotations

from edgedl.pipeline.evaluate import PIXEL_ACCURACY
from edgedl.pipeline.tasks.base import Answer, TaskRules, n_labels, supervised

RULES = TaskRules(
    task="segmentation",
    answers=(Answer("probabilities", "index", "probabilities"),),
    measure=PIXEL_ACCURACY,
    units=n_labels,
    ask=supervised,
)
