"""MobileNet V3 (Howard et al. 2019, "Searching for MobileNetV3", arXiv:1905.02244, tables 1 and 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from edgedl.models.base import Family, Head, KerasModel, KerasTensor
from edgedl.models.blocks import Activation, activate, conv_bn, depthwise_bn, divisible, is_small, require_image


class Block(NamedTuple):
    """A row of the paper's tables: expansion (of the channels before), output channels, kernel, stride …"""

    expansion: float
    channels: int
    kernel: int
    stride: int
    squeeze: bool
    activation: Activation


SMALL = (
    Block(1, 16, 3, 2, True, "relu"),
    Block(72 / 16, 24, 3, 2, False, "relu"),
    Block(88 / 24, 24, 3, 1, False, "relu"),
    Block(4, 40, 5, 2, True, "hard-swish"),
    Block(6, 40, 5, 1, True, "hard-swish"),
    Block(6, 40, 5, 1, True, "hard-swish"),
    Block(3, 48, 5, 1, True, "hard-swish"),
    Block(3, 48, 5, 1, True, "hard-swish"),
    Block(6, 96, 5, 2, True, "hard-swish"),
    Block(6, 96, 5, 1, True, "hard-swish"),
    Block(6, 96, 5, 1, True, "hard-swish"),
)
LARGE = (
    Block(1, 16, 3, 1, False, "relu"),
    Block(4, 24, 3, 2, False, "relu"),
    Block(3, 24, 3, 1, False, "relu"),
    Block(3, 40, 5, 2, True, "relu"),
    Block(3, 40, 5, 1, True, "relu"),
    Block(3, 40, 5, 1, True, "relu"),
    Block(6, 80, 3, 2, False, "hard-swish"),
    Block(2.5, 80, 3, 1, False, "hard-swish"),
    Block(2.3, 80, 3, 1, False, "hard-swish"),
    Block(2.3, 80, 3, 1, False, "hard-swish"),
    Block(6, 112, 3, 1, True, "hard-swish"),
    Block(6, 112, 3, 1, True, "hard-swish"),
    Block(6, 160, 5, 2, True, "hard-swish"),
    Block(6, 160, 5, 1, True, "hard-swish"),
    Block(6, 160, 5, 1, True, "hard-swish"),
)


class MobileNetV3(Family):
    """Inverted residuals with squeeze-and-excite and hard swish: (b, h, w, c) → (b, units)."""

    family: Literal["mobilenet-v3"] = "mobilenet-v3"
    size: Literal["small", "large"] = Field(default="small", description="Which of the paper's two networks.")
    alpha: float = Field(default=1.0, gt=0.0, le=2.0, description="Width multiplier α.")
    squeeze: bool = Field(default=True, description="Squeeze-and-excite; without it accelerators are happier.")
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0, description="Dropout before the head, during training.")

    presets: ClassVar[tuple[Mapping[str, Any], ...]] = ({"size": "small"}, {"size": "large"})

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes, small at 224×224: 112×112×16 → … → 7×7×96 → 7×7×576 → 1024 → units."""
        import tf_keras
        from tf_keras import layers

        require_image(input_shape, smallest=4, family="mobilenet-v3")
        x = inputs = tf_keras.Input(input_shape, name=input_name)
        x = conv_bn(x, 16, 3, strides=1 if is_small(input_shape) else 2, activation="hard-swish", name="conv")
        for i, row in enumerate(SMALL if self.size == "small" else LARGE, start=1):
            x = self._block(x, row, name=f"block{i}")
        x = conv_bn(x, divisible(x.shape[-1] * 6), 1, activation="hard-swish", name="last")
        x = layers.GlobalAveragePooling2D(keepdims=True, name="average")(x)
        units = 1024 if self.size == "small" else 1280
        x = layers.Conv2D(divisible(units * self.alpha) if self.alpha > 1 else units, 1, name="features")(x)
        x = activate(x, "hard-swish", name="features")
        x = layers.Flatten(name="flatten")(x)
        if self.dropout:
            x = layers.Dropout(self.dropout, name="dropout")(x)
        return tf_keras.Model(inputs, head.attach(x), name=f"mobilenet_v3_{self.size}")

    def _block(self, x: KerasTensor, row: Block, *, name: str) -> KerasTensor:
        """Expand, depthwise, squeeze-and-excite, project (figure 4)."""
        from tf_keras import layers

        filters, y = divisible(row.channels * self.alpha), x
        if row.expansion != 1:
            width = divisible(x.shape[-1] * row.expansion)
            y = conv_bn(y, width, 1, activation=row.activation, name=f"{name}_expand")
        y = depthwise_bn(y, row.kernel, strides=row.stride, activation=row.activation, name=f"{name}_depthwise")
        if self.squeeze and row.squeeze:
            y = _squeeze(y, name=f"{name}_squeeze")
        y = conv_bn(y, filters, 1, activation="linear", name=f"{name}_project")
        return layers.Add(name=f"{name}_add")([x, y]) if row.stride == 1 and x.shape[-1] == filters else y


def _squeeze(x: KerasTensor, *, name: str) -> KerasTensor:
    """Squeeze-and-excite (Hu et al. 2017, arXiv:1709.01507) at a quarter of the channels, with a hard sigmoid."""
    from tf_keras import layers

    from edgedl.models.layers.activations import hard_sigmoid

    channels = x.shape[-1]
    y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_average")(x)
    y = layers.Conv2D(divisible(channels * 0.25), 1, activation="relu", name=f"{name}_reduce")(y)
    y = layers.Conv2D(channels, 1, activation=hard_sigmoid, name=f"{name}_expand")(y)
    return layers.Multiply(name=f"{name}_scale")([x, y])
