"""What every compression technique has in common: a section whose type is the selector, and the scheme it asks for."""

from __future__ import annotations

from pydantic import Field

from edgedl.core.artifacts import Quantization
from edgedl.core.config import Section


class Calibration(Section):
    """Which training examples show the converter the ranges of the activations."""

    n: int = Field(default=200, ge=1, description="Number of training examples, drawn without replacement.")
    seed: int | None = Field(default=None, description="Seed of the draw; the recipe's seed unless given.")


class Technique(Section):
    """One entry of the recipe's `compress` list."""

    method: str
    name: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="The variant's own name."
    )

    @property
    def variant(self) -> str:
        """The name that folders and tables show."""
        return self.name or self.method

    def quantization(self) -> Quantization:
        """The scheme that the converters carry out."""
        raise NotImplementedError
