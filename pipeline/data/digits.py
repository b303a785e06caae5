"""`digits`: 1,797 handwritten digits, 8×8, 17 grey levels, embedded in scikit-learn (UCI ML hand-written digits)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from edgedl.core.contract import InputContract
from edgedl.pipeline.data.base import ArrayExamples, Normalize, RawData, Source


class Digits(Source):
    """The embedded default: needs no file and no network."""

    source: Literal["digits"] = Field(
        default="digits", description="1,797 handwritten digits of 8×8 pixels; nothing to fetch."
    )
    normalize: Normalize = Field(default="0..1", description="How the pixels (0 to 16) become the model's input.")

    def load(self) -> RawData:
        """Images of shape (1797, 8, 8, 1), values 0 to 16; ten classes."""
        from sklearn.datasets import load_digits

        pixels, targets = load_digits(return_X_y=True)
        images = np.asarray(pixels, dtype=np.uint8).reshape(-1, 8, 8, 1)
        return RawData(
            examples=ArrayExamples(images, np.asarray(targets, dtype=np.int64)),
            task="classification",
            input=InputContract(
                name="image",
                shape=(8, 8, 1),
                content="image",
                color_space="grayscale",
                raw_range=(0.0, 16.0),
            ),
            normalize=self.normalize,
            labels=tuple(str(digit) for digit in range(10)),
        )
