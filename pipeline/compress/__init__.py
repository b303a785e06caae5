"""Compression: one technique a file. `TechniqueConfig` is the one list where a new technique adds its line."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Discriminator

from edgedl.pipeline.compress.base import Calibration, Technique
from edgedl.pipeline.compress.dynamic_range import DynamicRange
from edgedl.pipeline.compress.float16 import Float16
from edgedl.pipeline.compress.int8 import Int8
from edgedl.pipeline.compress.int16x8 import Int16x8

TechniqueConfig: TypeAlias = Annotated[DynamicRange | Float16 | Int8 | Int16x8, Discriminator("method")]

__all__ = ["Calibration", "Technique", "TechniqueConfig"]
