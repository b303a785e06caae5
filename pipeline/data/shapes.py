"""`shapes`: circles, squares and triangles on noise with the class of every pixel, for segmentation."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt

from edgedl.core.contract import InputContract
from edgedl.pipeline.data.base import ArrayExamples, RawData, Source

LABELS = ("background", "circle", "square", "triangle")


class Shapes(Source):
    """Two shapes in each image, the later one over the former, brighter than the background by 0.4."""

    source: Literal["shapes"] = Field(description="Generated images of shapes with a class for each pixel.")
    n: PositiveInt = Field(default=1000, description="Number of images.")
    side: PositiveInt = Field(default=32, ge=16, description="Pixels in height and width.")
    noise: NonNegativeFloat = Field(default=0.1, description="Standard deviation of the noise.")
    generator_seed: int = Field(default=0, ge=0, description="Seed of the images.")

    def load(self) -> RawData:
        """Images (n, side, side, 1) float32 in 0 … 1; classes (n, side, side) int64."""
        rng = np.random.default_rng(self.generator_seed)
        images = np.full((self.n, self.side, self.side), 0.3)
        masks = np.zeros((self.n, self.side, self.side), np.int64)
        for image, mask in zip(images, masks, strict=True):
            for _ in range(2):
                kind = int(rng.integers(1, len(LABELS)))
                size = rng.uniform(0.15, 0.3) * self.side
                inside = _inside(kind, self.side, rng.uniform(size, self.side - size, 2), size)
                mask[inside], image[inside] = kind, 0.7
        images = np.clip(images + rng.normal(0, self.noise, images.shape), 0, 1)
        return RawData(
            examples=ArrayExamples(images[..., None].astype(np.float32), masks),
            task="segmentation",
            input=InputContract(
                "image", (self.side, self.side, 1), content="image", color_space="grayscale", raw_range=(0.0, 1.0)
            ),
            normalize="none",
            labels=LABELS,
        )


def _inside(kind: int, side: int, centre: NDArray[np.float64], size: float) -> NDArray[Any]:
    """Which pixels a shape covers; size: radius, or half of its side."""
    y, x = np.mgrid[:side, :side] + 0.5 - centre[:, None, None]
    if kind == 1:
        return x**2 + y**2 <= size**2
    if kind == 2:
        return np.maximum(abs(x), abs(y)) <= size
    return (abs(y) <= size) & (abs(x) <= (y + size) / 2)
