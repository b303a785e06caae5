"""A language model: tokens (n, t) in, targets the same shifted by one, output logits (n, t, vocabulary).

The softmax is left to the app, which decodes greedily (arg-max) or samples.
"""

from __future__ import annotations

from edgedl.pipeline.evaluate import PERPLEXITY
from edgedl.pipeline.tasks.base import Answer, TaskRules, n_labels, supervised

RULES = TaskRules(
    task="next-token",
    answers=(Answer("logits", "index", "logits"),),
    measure=PERPLEXITY,
    units=n_labels,
    ask=supervised,
)
