"""MobileNet V2 (Sandler et al. 2018, "Inverted residuals and linear bottlenecks", arXiv:1801.04381, table 2)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgedl.models.base import Family, Head, KerasModel, KerasTensor
from edgedl.models.blocks import conv_bn, depthwise_bn, divisible, finish, is_small, require_image

STAGES: tuple[tuple[int, int, int, int], ...] = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
"""(expansion t, channels c, blocks n, stride s of the first)."""


class MobileNetV2(Family):
    """A convolution, 17 inverted residual blocks, a last 1×1 convolution: (b, h, w, c) → (b, units)."""

    family: Literal["mobilenet-v2"] = "mobilenet-v2"
    alpha: float = Field(default=1.0, gt=0.0, le=2.0, description="Width multiplier α; the last layer never shrinks.")
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0, description="Dropout before the head, during training.")

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes at 224×224: 112×112×32·α → … → 7×7×320·α → 7×7×1280 → units. Small images keep their sides first."""
        import tf_keras

        require_image(input_shape, smallest=4, family="mobilenet-v2")
        x = inputs = tf_keras.Input(input_shape, name=input_name)
        strides = 1 if is_small(input_shape) else 2
        x = conv_bn(x, divisible(32 * self.alpha), 3, strides=strides, activation="relu6", name="conv")
        number = 0
        for expansion, channels, count, first in STAGES:
            for i in range(count):
                number += 1
                filters = divisible(channels * self.alpha)
                x = _inverted(x, expansion, filters, 1 if i else first, name=f"block{number}")
        x = conv_bn(x, divisible(1280 * max(1.0, self.alpha)), 1, activation="relu6", name="last")
        return tf_keras.Model(inputs, head.attach(finish(x, self.dropout)), name="mobilenet_v2")


def _inverted(x: KerasTensor, expansion: int, filters: int, strides: int, *, name: str) -> KerasTensor:
    """Expand 1×1, depthwise 3×3, project 1×1 without activation; a shortcut where the shape stays (figure 3b)."""
    from tf_keras import layers

    y = x
    if expansion != 1:
        y = conv_bn(y, expansion * x.shape[-1], 1, activation="relu6", name=f"{name}_expand")
    y = depthwise_bn(y, 3, strides=strides, activation="relu6", name=f"{name}_depthwise")
    y = conv_bn(y, filters, 1, activation="linear", name=f"{name}_project")
    return layers.Add(name=f"{name}_add")([x, y]) if strides == 1 and x.shape[-1] == filters else y
