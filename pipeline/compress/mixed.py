"""Mixed precision: int8 everywhere but in the layers that int8 hurts most, which stay in float32.

Partial quantization by a sensitivity profile (Wu et al. 2020, arXiv:2004.09602, §6.1): layers are ranked by what each
costs alone in int8 on validation examples, and left in float32, the worst first, until the loss is within the limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from edgedl.core.artifacts import Quantization
from edgedl.core.errors import ConfigError
from edgedl.pipeline.compress.base import Calibration, Conversion, Converted, Scheme


class Mixed(Scheme):
    """int8, with the few most sensitive layers in float32."""

    method: Literal["mixed"] = "mixed"
    keep: PositiveInt | None = Field(default=None, description="How many layers stay float32: the most sensitive ones.")
    max_loss: NonNegativeFloat | None = Field(
        default=None,
        description="As many layers stay float32 as this limit needs, on the validation split: points of a share, per "
        "cent of an error. 0.5 where keep is not given either.",
    )
    io: Literal["integer", "float"] = Field(
        default="float",
        description="Type of the model's own inputs and outputs: int8, or float32 with conversions inside.",
    )
    calibration: Calibration = Calibration()

    @model_validator(mode="after")
    def _one_rule(self) -> Mixed:
        if self.keep is not None and self.max_loss is not None:
            raise ConfigError(
                "mixed is given two rules",
                required="keep (a number of layers) or max_loss (a limit)",
                received=f"keep {self.keep} and max_loss {self.max_loss}",
            )
        return self

    def quantization(self) -> Quantization:
        """int8 weights and activations, where it is int8."""
        return Quantization(method="mixed", weights="int8", activations="int8", io=self.io)

    def convert(self, job: Conversion, target: Path) -> Converted:
        """Write the file with as many layers in float32 as it takes. Raises ConfigError, ModelError, StageError."""
        from edgedl.pipeline.compress.float_layers import convert_mixed

        limit = self.max_loss if self.max_loss is not None else 0.5
        return convert_mixed(job, target, keep=self.keep, limit=limit, io=self.io)
