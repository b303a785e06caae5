"""Full integer quantization: int8 weights (per channel) and int8 activations (per tensor), integer arithmetic only.

Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
CVPR, eq. 1: real = scale × (stored − zero_point); TFLite's 8-bit quantization specification fixes the ranges.
Activation ranges come from a representative data set.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgedl.core.artifacts import Quantization
from edgedl.pipeline.compress.base import Calibration, Technique


class Int8(Technique):
    """About a quarter of the size; runs on CPUs, NPUs, Edge TPU and microcontrollers."""

    method: Literal["int8"] = "int8"
    io: Literal["integer", "float"] = Field(
        default="integer",
        description="Type of the model's own inputs and outputs: int8, or float32 with conversions inside.",
    )
    calibration: Calibration = Calibration()

    def quantization(self) -> Quantization:
        """int8 weights, int8 activations."""
        return Quantization(method="int8", weights="int8", activations="int8", io=self.io)
