"""What a recipe says about repairs."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, NonNegativeFloat, PositiveInt

from edgedl.core.config import Section

RepairName = Literal["equalise", "bias-correction", "rounding", "fallback"]
"""In order of cost."""


class Repair(Section):
    """What is done when int8 loses more than a limit on the validation split."""

    max_loss: NonNegativeFloat = Field(
        default=0.5, description="Points of a share, or per cent by which an error may grow, on the validation split."
    )
    repairs: tuple[RepairName, ...] = Field(
        default=get_args(RepairName),
        min_length=1,
        description="Which are tried: equalise (channels of a layer made alike), bias-correction, rounding (AdaRound), "
        "fallback (the most sensitive layers stay float32); always in this order, that of their cost.",
    )
    iterations: PositiveInt = Field(default=1000, description="Steps of rounding for each layer.")
    most_kept: PositiveInt | None = Field(
        default=None, description="How many layers fallback may leave in float32; all but one unless given."
    )

    def in_order(self) -> tuple[RepairName, ...]:
        """The repairs in order of cost, each once."""
        return tuple(name for name in get_args(RepairName) if name in self.repairs)
