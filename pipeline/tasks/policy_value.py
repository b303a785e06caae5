"""Which move is best and who wins (Silver et al. 2017, "Mastering the game of Go without human knowledge", eq. 1).

Targets (n, moves + 1): the probability of each move, then the value from −1 (lost) to 1 (won).
"""

from __future__ import annotations

from typing import Any

from edgedl.pipeline.evaluate import MOVE_ACCURACY
from edgedl.pipeline.tasks.base import Answer, TaskRules, n_values, supervised


def _batch(inputs: Any, targets: Any) -> tuple[Any, Any]:
    return inputs, {"policy": targets[:, :-1], "value": targets[:, -1:]}


RULES = TaskRules(
    task="policy-value",
    answers=(Answer("policy", "one-hot", "probabilities"), Answer("value", "value", "values")),
    measure=MOVE_ACCURACY,
    units=n_values,
    ask=supervised,
    batch=_batch,
)
