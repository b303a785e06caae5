"""`gaussian-ring`: points of eight Gaussians on a circle: a distribution that is known, for generative models."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from edgedl.core.contract import InputContract
from edgedl.pipeline.data.base import ArrayExamples, RawData, Source

MODES = 8


def centres() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Shape (8, 2), on the unit circle."""
    angle = 2 * np.pi * np.arange(MODES) / MODES
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


class GaussianRing(Source):
    """Eight equally likely Gaussians on the unit circle; the class is the Gaussian."""

    source: Literal["gaussian-ring"] = Field(description="Generated points of eight Gaussians on a circle.")
    n: PositiveInt = Field(default=8000, description="Number of points.")
    spread: PositiveFloat = Field(default=0.05, description="Standard deviation of each Gaussian.")
    generator_seed: int = Field(default=0, ge=0, description="Seed of the points.")

    def load(self) -> RawData:
        """Points (n, 2) float32; classes 0 … 7."""
        rng = np.random.default_rng(self.generator_seed)
        classes = rng.integers(0, MODES, self.n)
        points = centres()[classes] + rng.normal(0, self.spread, (self.n, 2))
        return RawData(
            examples=ArrayExamples(points.astype(np.float32), classes.astype(np.int64)),
            task="classification",
            input=InputContract("point", (2,), feature_names=("x", "y")),
            normalize="none",
            labels=tuple(f"mode {k}" for k in range(MODES)),
        )
