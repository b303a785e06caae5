"""Dynamic-range quantization: int8 weights; activations are quantized on the fly, by the range of each inference.

Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference", arXiv:1806.08342, §3.1
(weight-only storage) with the runtime's hybrid kernels. Needs no data. Tensors of fewer than 1,024 elements stay
float32.
"""

from __future__ import annotations

from typing import Literal

from edgedl.core.artifacts import Quantization
from edgedl.pipeline.compress.base import Scheme


class DynamicRange(Scheme):
    """About a quarter of the size; float inputs and outputs."""

    method: Literal["dynamic-range"] = "dynamic-range"

    def quantization(self) -> Quantization:
        """int8 weights, float32 activations."""
        return Quantization(method="dynamic-range", weights="int8", activations="float32")
