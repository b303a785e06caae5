"""`sine-mixture`: noisy sines, to be told apart by their frequency."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from edgedl.core.contract import InputContract
from edgedl.pipeline.data.base import ArrayExamples, RawData, Source


class SineMixture(Source):
    """Class k has k + 1 periods in the window, any phase, an amplitude of 0.5 to 1.5, and Gaussian noise."""

    source: Literal["sine-mixture"] = Field(description="Generated noisy sines of a few frequencies.")
    n: PositiveInt = Field(default=2000, description="Number of windows.")
    length: PositiveInt = Field(default=32, ge=8, description="Samples in a window.")
    frequencies: PositiveInt = Field(default=4, ge=2, description="Number of classes; below half the length.")
    noise: NonNegativeFloat = Field(default=0.2, description="Standard deviation of the noise.")
    generator_seed: int = Field(default=0, ge=0, description="Seed of the windows.")

    def load(self) -> RawData:
        """Windows (n, length, 1) float32; classes 0 … frequencies − 1."""
        rng = np.random.default_rng(self.generator_seed)
        classes = rng.integers(0, self.frequencies, self.n)
        time = np.arange(self.length) / self.length
        angle = 2 * np.pi * ((classes[:, None] + 1) * time + rng.random((self.n, 1)))
        waves = rng.uniform(0.5, 1.5, (self.n, 1)) * np.sin(angle) + rng.normal(0, self.noise, (self.n, self.length))
        return RawData(
            examples=ArrayExamples(waves[..., None].astype(np.float32), classes.astype(np.int64)),
            task="classification",
            input=InputContract("signal", (self.length, 1)),
            normalize="none",
            labels=tuple(f"{k + 1} periods" for k in range(self.frequencies)),
        )
