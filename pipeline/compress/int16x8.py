"""Integer quantization with int8 weights and int16 activations, for models that int8 activations hurt.

TFLite's 16x8 mode: symmetric int16 activations (zero_point 0), int8 per-channel weights, int64 biases. Arithmetic as in
Jacob et al. 2018, eq. 1–4. On x86 the runtime has reference kernels only: many times slower than float32 there.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgedl.core.artifacts import Quantization
from edgedl.core.errors import ConfigError
from edgedl.pipeline.compress.base import Calibration, Scheme


class Int16x8(Scheme):
    """About a quarter of the size, nearly float32's accuracy."""

    method: Literal["int16x8"] = "int16x8"
    io: Literal["integer", "float"] = Field(
        default="float",
        description="Type of the model's own inputs and outputs: int16, or float32 with conversions inside.",
    )
    calibration: Calibration = Calibration()

    def quantization(self) -> Quantization:
        """int8 weights, int16 activations."""
        return Quantization(method="int16x8", weights="int8", activations="int16", io=self.io)

    @model_validator(mode="after")
    def _min_max(self) -> Int16x8:
        if self.calibration.method != "min-max":
            raise ConfigError(
                f"int16x8 is not calibrated by {self.calibration.method}",
                required="calibration.method: min-max",
                received=self.calibration.method,
                advice="65,536 steps have room for outliers: cutting them would only lose; int8 has the other methods",
            )
        return self
