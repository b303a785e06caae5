"""Full integer quantization: int8 weights (per channel) and int8 activations (per tensor), integer arithmetic only.

Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
CVPR, eq. 1: real = scale × (stored − zero_point); TFLite's 8-bit quantization specification fixes the ranges.
Activation ranges come from a representative data set, by the method of its `calibration`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from edgedl.core.artifacts import Quantization
from edgedl.core.config import sentence
from edgedl.pipeline.compress.base import Calibration, Conversion, Converted, Scheme
from edgedl.pipeline.compress.repair.settings import Repair


class Int8(Scheme):
    """About a quarter of the size; runs on CPUs, NPUs, Edge TPU and microcontrollers."""

    method: Literal["int8"] = "int8"
    io: Literal["integer", "float"] = Field(
        default="integer",
        description="Type of the model's own inputs and outputs: int8, or float32 with conversions inside.",
    )
    dense_scales: Literal["per-channel", "per-tensor"] = Field(
        default="per-channel",
        description="Scales of a dense layer's weights: one for each output, or one in all: a smaller file, and what "
        "kernels from before 2024 can read.",
    )
    calibration: Calibration = Calibration()
    repair: Repair | None = Field(
        default=None, description="Repairs that are tried when the loss is above a limit; none unless given."
    )

    def quantization(self) -> Quantization:
        """int8 weights, int8 activations."""
        return Quantization(
            method="int8", weights="int8", activations="int8", io=self.io, dense_scales=self.dense_scales
        )

    @model_validator(mode="after")
    def _repairs_know_the_scales(self) -> Int8:
        if self.repair is not None and self.dense_scales != "per-channel" and self.repair.repairs != ("equalise",):
            raise sentence("with scales per tensor the only repair is equalise: repair.repairs=[equalise]")
        return self

    def convert(self, job: Conversion, target: Path) -> Converted:
        """The int8 file; repaired, where that is asked for and needed."""
        made = self._convert(job, target)
        if self.repair is None:
            return made
        from edgedl.pipeline.compress.repair.run import repair_int8

        found = repair_int8(job, target, self.repair, self._convert, io=self.io)
        return replace(found, notes=(*made.notes, *found.notes))

    def _convert(self, job: Conversion, target: Path) -> Converted:
        """TFLite's own conversion for min-max; other methods choose the ranges between its two steps."""
        if self.calibration.method == "min-max":
            return super().convert(job, target)
        from edgedl.pipeline.compress.calibration.choose import convert_with_chosen_ranges

        return Converted(convert_with_chosen_ranges(job, target, self.quantization(), self.calibration))
