"""The callback that prunes while a model is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.pipeline.compress.keeping import Masks
from edgedl.pipeline.compress.kernels import Kernel
from edgedl.pipeline.compress.masks import Mask


@dataclass(frozen=True)
class Plan:
    """A schedule in steps, the first of which is 1: a choice every `frequency` steps from `begin` to `end`.

    initial: sparsity at the beginning; None for a constant schedule.
    """

    begin: int
    end: int
    frequency: int
    initial: float | None

    def share(self, step: int, target: float) -> float | None:
        """The sparsity of the choice before a step (Zhu and Gupta 2017, eq. 1); None where there is none."""
        if not self.begin <= step <= self.end or (step - self.begin) % self.frequency:
            return None
        if self.initial is None or self.end == self.begin:
            return target
        left = 1.0 - (step - self.begin) / (self.end - self.begin)
        return target + (min(self.initial, target) - target) * left**3


Choose = Callable[[Kernel, NDArray[Any], float], Mask]
"""From a kernel, its values and a sparsity to what stays."""


class Pruner(Masks):
    """Chooses anew what is zero whenever the schedule says so; after the last time the choice stands."""

    def __init__(self, kernels: Sequence[Kernel], targets: Sequence[float], plan: Plan, choose: Choose) -> None:
        super().__init__(kernels, [np.ones(one.shape, np.bool_) for one in kernels])
        self._targets, self._plan, self._choose = list(targets), plan, choose

    def advance(self, step: int) -> None:
        """A new choice, where the schedule has one before this step."""
        for kernel, mask, target in zip(self.kernels, self.masks, self._targets, strict=True):
            share = self._plan.share(step, target)
            if share is not None:
                mask.assign(self._choose(kernel, kernel.variable.numpy(), share).astype(np.float32))
