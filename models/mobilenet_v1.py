"""MobileNet V1 (Howard et al. 2017, "MobileNets", arXiv:1704.04861, table 1)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgedl.models.base import Family, Head, KerasModel
from edgedl.models.blocks import conv_bn, depthwise_bn, finish, is_small, require_image

BLOCKS: tuple[tuple[int, int], ...] = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1),
)  # fmt: skip
"""(filters, stride) of each depthwise-separable block."""


class MobileNetV1(Family):
    """A convolution and 13 depthwise-separable blocks: (b, h, w, c) → (b, units)."""

    family: Literal["mobilenet-v1"] = "mobilenet-v1"
    alpha: float = Field(default=1.0, gt=0.0, le=2.0, description="Width multiplier α.")
    dropout: float = Field(default=0.001, ge=0.0, lt=1.0, description="Dropout before the head, during training.")

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes at 224×224: 112×112×32·α → … → 7×7×1024·α → units. Below 96 pixels the stem keeps the sides."""
        import tf_keras

        require_image(input_shape, smallest=4, family="mobilenet-v1")
        x = inputs = tf_keras.Input(input_shape, name=input_name)
        x = conv_bn(
            x, int(32 * self.alpha), 3, strides=1 if is_small(input_shape) else 2, activation="relu6", name="conv"
        )
        for i, (filters, strides) in enumerate(BLOCKS, start=1):
            x = depthwise_bn(x, 3, strides=strides, activation="relu6", name=f"block{i}_depthwise")
            x = conv_bn(x, int(filters * self.alpha), 1, activation="relu6", name=f"block{i}_pointwise")
        return tf_keras.Model(inputs, head.attach(finish(x, self.dropout)), name="mobilenet_v1")
