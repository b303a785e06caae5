"""Depthwise-separable CNN, DS-CNN (Zhang et al. 2017, "Hello Edge", arXiv:1711.07128; blocks of MobileNet,
Howard et al. 2017, arXiv:1704.04861).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from edgedl.models.base import Family, Head, KerasModel
from edgedl.models.blocks import conv_bn, depthwise_bn, finish, require_image


class DsCnn(Family):
    """One full convolution, then blocks of depthwise 3×3 and pointwise 1×1: (b, h, w, c) → (b, units)."""

    family: Literal["ds-cnn"] = "ds-cnn"
    width: float = Field(default=1.0, gt=0.0, le=8.0, description="Width multiplier α on the 64 channels.")
    blocks: PositiveInt = Field(default=4, description="Number of depthwise-separable blocks.")
    first_kernel: tuple[PositiveInt, PositiveInt] = Field(
        default=(3, 3), description="Kernel of the first convolution; (10, 4) for speech, as in the paper."
    )
    first_stride: tuple[PositiveInt, PositiveInt] = Field(default=(2, 2), description="Stride of it.")
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0, description="Dropout before the head, during training.")

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes: (b, h, w, c) → (b, ⌈h/2⌉, ⌈w/2⌉, 64·α) through all blocks → (b, 64·α) → (b, head.units)."""
        import tf_keras

        require_image(input_shape, smallest=4, family="ds-cnn")
        channels = max(4, int(64 * self.width + 0.5))
        inputs = tf_keras.Input(input_shape, name=input_name)
        x = conv_bn(inputs, channels, self.first_kernel, strides=self.first_stride, name="conv")
        for block in range(1, self.blocks + 1):
            x = depthwise_bn(x, 3, name=f"block{block}_depthwise")
            x = conv_bn(x, channels, 1, name=f"block{block}_pointwise")
        return tf_keras.Model(inputs, head.attach(finish(x, self.dropout)), name="ds_cnn")
