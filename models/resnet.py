"""Residual networks (He et al. 2015, "Deep residual learning for image recognition", arXiv:1512.03385).

Depths 18 to 152 are the ImageNet networks of table 1, with the stride in the 3×3 convolution of a bottleneck; depths
6n + 2 are the CIFAR networks of section 4.2, of which 8 is the one of MLPerf Tiny (Banbury et al. 2021,
arXiv:2106.07597), with 1×1 convolutions where the sides change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgedl.models.base import Family, Head, KerasModel, KerasTensor
from edgedl.models.blocks import conv_bn, finish, is_small, require_image

IMAGENET: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Blocks per stage; from 50 on they are bottlenecks."""


class ResNet(Family):
    """A stem and stages of residual blocks: (b, h, w, c) → (b, units)."""

    family: Literal["resnet"] = "resnet"
    depth: Literal[8, 14, 20, 32, 44, 56, 110, 18, 34, 50, 101, 152] = Field(
        default=8, description="Layers with weights: 8 … 110 for CIFAR-like images, 18 … 152 as for ImageNet."
    )
    width: float = Field(default=1.0, gt=0.0, le=4.0, description="Width multiplier on all channels.")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Dropout before the head, during training.")

    presets: ClassVar[tuple[Mapping[str, Any], ...]] = tuple({"depth": depth} for depth in (8, 18, 34, 50, 101, 152))

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes, depth 50 at 224×224: stem 56×56×64 → 56×56×256 → 28×28×512 → 14×14×1024 → 7×7×2048 → units.

        Depth 8 at 32×32: 32×32×16 → 16×16×32 → 8×8×64 → units. ImageNet depths keep the sides in the stem for images
        below 96 pixels.
        """
        import tf_keras
        from tf_keras import layers

        require_image(input_shape, smallest=4, family="resnet")
        x = inputs = tf_keras.Input(input_shape, name=input_name)
        if self.depth in IMAGENET:
            if is_small(input_shape):
                x = conv_bn(x, self._channels(64), 3, name="stem")
            else:
                x = conv_bn(x, self._channels(64), 7, strides=2, name="stem")
                x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
            stages, base = IMAGENET[self.depth], 64
        else:
            x = conv_bn(x, self._channels(16), 3, name="stem")
            stages, base = ((self.depth - 2) // 6,) * 3, 16
        block = _bottleneck if self.depth >= 50 and self.depth in IMAGENET else _basic
        for stage, count in enumerate(stages):
            for i in range(count):
                strides = 2 if stage and not i else 1
                x = block(x, self._channels(base * 2**stage), strides, name=f"stage{stage + 1}_block{i + 1}")
        return tf_keras.Model(inputs, head.attach(finish(x, self.dropout)), name=f"resnet{self.depth}")

    def _channels(self, paper: int) -> int:
        return max(4, round(paper * self.width))


def _basic(x: KerasTensor, filters: int, strides: int, *, name: str) -> KerasTensor:
    """Two 3×3 convolutions (figure 5, left)."""
    y = conv_bn(x, filters, 3, strides=strides, name=f"{name}_conv1")
    y = conv_bn(y, filters, 3, activation="linear", name=f"{name}_conv2")
    return _add(x, y, strides, name=name)


def _bottleneck(x: KerasTensor, filters: int, strides: int, *, name: str) -> KerasTensor:
    """1×1, 3×3, 1×1 to four times the filters (figure 5, right)."""
    y = conv_bn(x, filters, 1, name=f"{name}_conv1")
    y = conv_bn(y, filters, 3, strides=strides, name=f"{name}_conv2")
    y = conv_bn(y, 4 * filters, 1, activation="linear", name=f"{name}_conv3")
    return _add(x, y, strides, name=name)


def _add(x: KerasTensor, y: KerasTensor, strides: int, *, name: str) -> KerasTensor:
    """The shortcut: identity, or a 1×1 convolution where the shape changes (option B)."""
    from tf_keras import layers

    if x.shape[-1] != y.shape[-1] or strides != 1:
        x = conv_bn(x, y.shape[-1], 1, strides=strides, activation="linear", name=f"{name}_shortcut")
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_relu")(x)
