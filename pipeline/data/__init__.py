"""Data: one source a file. `SOURCES` is the one list where a new source adds its line."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Discriminator

from edgedl.pipeline.data.base import ArrayExamples, Examples, RawData, Source, Splits
from edgedl.pipeline.data.digits import Digits

SourceConfig: TypeAlias = Annotated[
    Digits,
    Discriminator("source"),
]

__all__ = ["ArrayExamples", "Digits", "Examples", "RawData", "Source", "SourceConfig", "Splits"]
