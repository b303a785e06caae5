"""`copy-sequence`: token sequences whose second half repeats the first: what a language model has to remember."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt

from edgedl.core.contract import InputContract
from edgedl.pipeline.data.base import ArrayExamples, RawData, Source


class CopySequence(Source):
    """The best perplexity is vocabulary^((half − 1) / (2 · half − 1)): half is chance, half is known."""

    source: Literal["copy-sequence"] = Field(description="Generated tokens whose second half repeats the first.")
    n: PositiveInt = Field(default=4000, description="Number of sequences.")
    half: PositiveInt = Field(default=6, ge=2, description="Tokens in each half.")
    vocabulary: PositiveInt = Field(default=8, ge=2, description="Number of different tokens.")
    generator_seed: int = Field(default=0, ge=0, description="Seed of the sequences.")

    def load(self) -> RawData:
        """Tokens (n, 2 · half − 1) int32; targets are the same, one token on."""
        rng = np.random.default_rng(self.generator_seed)
        first = rng.integers(0, self.vocabulary, (self.n, self.half))
        tokens = np.concatenate([first, first], axis=1)
        return RawData(
            examples=ArrayExamples(tokens[:, :-1].astype(np.int32), tokens[:, 1:].astype(np.int64)),
            task="next-token",
            input=InputContract("tokens", (2 * self.half - 1,), "int32"),
            normalize="none",
            labels=tuple(str(token) for token in range(self.vocabulary)),
        )
