"""What a new file may cost more than the old one: the same keys in Python, in a recipe and in latency.yaml."""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, NonNegativeInt

from edgedl.core.config import Section, sentence

TIMED, COUNTED = 0.05, 0.01
"""What "auto" allows of slowdown: where times are measured, and where instructions are counted (or times computed)."""


def _share(value: object) -> object:
    """ "5%" as 0.05; "none" as None."""
    if not isinstance(value, str) or value == "auto":
        return value
    if value == "none":
        return None
    try:
        number = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        number = math.nan
    if not 0 <= number < 100:
        raise sentence(f"required a share such as 5% or 0.05, or none, received {value!r}")
    return number


Share: TypeAlias = Annotated[Annotated[float, Field(ge=0, lt=100)] | None, BeforeValidator(_share)]
Slowdown: TypeAlias = Annotated[Literal["auto"] | Annotated[float, Field(ge=0, lt=100)] | None, BeforeValidator(_share)]


class Limits(Section):
    """What is allowed; null (in words: none) asks nothing, and the figure is only told."""

    max_slowdown: Slowdown = Field(
        default="auto",
        description="Share by which an inference may take longer, as 5% or 0.05; auto: 5 % where it is timed, 1 % "
        "where instructions are counted.",
    )
    max_size_growth: Share = Field(default=None, description="Share by which the file may grow.")
    max_memory_growth: Share = Field(
        default=None, description="Share by which peak memory (on a microcontroller: the arena) may grow."
    )
    max_macs_growth: Share = Field(default=None, description="Share by which the multiply–accumulates may grow.")
    max_added_ops: NonNegativeInt | None = Field(default=None, description="Ops that may be added.")
    max_added_boundaries: NonNegativeInt | None = Field(
        default=None, description="QUANTIZE and DEQUANTIZE ops that may be added."
    )
    max_added_cpu_ops: NonNegativeInt | None = Field(
        default=0, description="Ops that may fall back to the CPU, on a device with an accelerator beside it."
    )
    max_accuracy_drop: float | None = Field(
        default=None, ge=0, description="Points of accuracy (or units of mae) that may be lost; needs data."
    )
    max_output_change: Share = Field(
        default=None,
        description="How far an output may move on random inputs, as a share of the largest old output.",
    )
