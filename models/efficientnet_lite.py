"""EfficientNet-Lite (Google 2020; EfficientNet by Tan and Le 2019, arXiv:1905.11946): made for integer hardware.

Against EfficientNet: no squeeze-and-excite, ReLU6 for swish, and stem, head and the depth of the first and last stages
are not scaled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgedl.models.base import Family, Head, KerasModel, KerasTensor
from edgedl.models.blocks import conv_bn, depthwise_bn, divisible, finish, is_small, require_image

SCALES: dict[int, tuple[float, float]] = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2), 3: (1.2, 1.4), 4: (1.4, 1.8)}
"""(width, depth) of Lite0 … Lite4; their input sides are 224, 240, 260, 280, 300."""

STAGES: tuple[tuple[int, int, int, int, int], ...] = (
    (1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)  # fmt: skip
"""(expansion, channels, blocks, kernel, stride of the first)."""


class EfficientNetLite(Family):
    """Inverted residual blocks with compound scaling: (b, h, w, c) → (b, units)."""

    family: Literal["efficientnet-lite"] = "efficientnet-lite"
    version: Literal[0, 1, 2, 3, 4] = Field(default=0, description="Lite0 … Lite4.")
    width: float = Field(default=1.0, gt=0.0, le=2.0, description="A further width multiplier, for small devices.")
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0, description="Dropout before the head, during training.")

    presets: ClassVar[tuple[Mapping[str, Any], ...]] = tuple({"version": version} for version in SCALES)

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes, Lite0 at 224×224: 112×112×32 → … → 7×7×320 → 7×7×1280 → units."""
        import tf_keras

        require_image(input_shape, smallest=4, family="efficientnet-lite")
        wide, deep = SCALES[self.version]
        x = inputs = tf_keras.Input(input_shape, name=input_name)
        strides = 1 if is_small(input_shape) else 2
        x = conv_bn(x, divisible(32 * self.width), 3, strides=strides, activation="relu6", name="stem")
        number = 0
        for stage, (expansion, channels, count, kernel, first) in enumerate(STAGES):
            fixed = stage in (0, len(STAGES) - 1)
            for i in range(count if fixed else math.ceil(count * deep)):
                number += 1
                filters = divisible(channels * wide * self.width)
                x = _block(x, expansion, filters, kernel, 1 if i else first, name=f"block{number}")
        x = conv_bn(x, divisible(1280 * self.width), 1, activation="relu6", name="head")
        name = f"efficientnet_lite{self.version}"
        return tf_keras.Model(inputs, head.attach(finish(x, self.dropout)), name=name)


def _block(x: KerasTensor, expansion: int, filters: int, kernel: int, strides: int, *, name: str) -> KerasTensor:
    """MBConv without squeeze-and-excite."""
    from tf_keras import layers

    y = x
    if expansion != 1:
        y = conv_bn(y, expansion * x.shape[-1], 1, activation="relu6", name=f"{name}_expand")
    y = depthwise_bn(y, kernel, strides=strides, activation="relu6", name=f"{name}_depthwise")
    y = conv_bn(y, filters, 1, activation="linear", name=f"{name}_project")
    return layers.Add(name=f"{name}_add")([x, y]) if strides == 1 and x.shape[-1] == filters else y
