"""Half-precision weights: IEEE 754-2019 binary16 (§3.6), rounded to nearest even from float32.

Halves the size and needs no data; CPUs convert the weights back to float32 when the model is loaded, GPUs compute in
float16. |w| > 65,504 would overflow, and is refused.
"""

from __future__ import annotations

from typing import Literal

from edgedl.core.artifacts import Quantization
from edgedl.pipeline.compress.base import Scheme


class Float16(Scheme):
    """Half the size; float inputs and outputs."""

    method: Literal["float16"] = "float16"

    def quantization(self) -> Quantization:
        """float16 weights, float32 activations."""
        return Quantization(method="float16", weights="float16", activations="float32")
