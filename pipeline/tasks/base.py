"""What every task has to say, from the model's head to its quality; nothing else in the pipeline asks which task it is.

examples ─► ask ─► the model's inputs, and what is right ─► measure ─► quality
         └► batch ─► what the training step is given
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedl.core.contract import Contract, Task
from edgedl.models import Head, KerasModel
from edgedl.pipeline.data import Examples, Splits, examples_array
from edgedl.pipeline.evaluate import Asked, Measure

TargetKind: TypeAlias = Literal["one-hot", "index", "value"]
"""How a loss is told what is right: (…, classes) with a 1, (…,) class numbers, or the values themselves."""

Positions: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Answer:
    """One output that is trained. name: the output's in the zoo's models; content: as in `OutputContract`."""

    name: str
    target: TargetKind
    content: Literal["probabilities", "logits", "values"]


@dataclass(frozen=True)
class TaskRules:
    """One task.

    answers: the trained outputs, the judged one first. units: the size of the head for this data.
    ask: examples at positions as the model is given them. batch: of a training batch (inputs, targets) of the data
    source, what the step takes. trainee: a model with a training step of its own around the exported one, where plain
    supervision does not do. validates: whether its loss on held-out data means something.
    """

    task: Task
    answers: tuple[Answer, ...]
    measure: Measure
    units: Callable[[Splits], int]
    ask: Callable[[Contract, Splits, Examples, Positions], Asked]
    batch: Callable[[Any, Any], tuple[Any, Any]] | None = None
    trainee: Callable[[KerasModel, Any, Contract], KerasModel] | None = None
    validates: bool = True

    def head(self, data: Splits) -> Head:
        """What the architecture has to end in."""
        return Head(self.task, self.units(data))


def supervised(contract: Contract, data: Splits, examples: Examples, positions: Positions) -> Asked:
    """The example, and its target."""
    return Asked(_given(data, examples, positions), examples.targets[positions])


def itself(contract: Contract, data: Splits, examples: Examples, positions: Positions) -> Asked:
    """The example, and the example again."""
    given = _given(data, examples, positions)
    return Asked(given, given[data.input.name])


def _given(data: Splits, examples: Examples, positions: Positions) -> dict[str, NDArray[Any]]:
    return {data.input.name: examples_array(examples, data.input, positions)}


def n_labels(data: Splits) -> int:
    """Number of classes."""
    return len(data.labels)


def n_values(data: Splits) -> int:
    """Number of values in a target."""
    return data.train.targets.shape[1]


def n_inputs(data: Splits) -> int:
    """Number of values in an input."""
    return int(np.prod(data.input.shape))
