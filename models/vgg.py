"""VGG (Simonyan and Zisserman 2014, "Very deep convolutional networks", arXiv:1409.1556, table 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from edgedl.models.base import BN_MOMENTUM, Family, Head, KerasModel
from edgedl.models.blocks import require_image

CONVOLUTIONS: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Per block, for the paper's configurations A, B, D and E."""


class Vgg(Family):
    """Five blocks of 3×3 convolutions, each halving the sides, then two dense layers: (b, h, w, c) → (b, units)."""

    family: Literal["vgg"] = "vgg"
    depth: Literal[11, 13, 16, 19] = Field(default=16, description="Layers with weights: the paper's A, B, D, E.")
    width: float = Field(default=1.0, gt=0.0, le=2.0, description="Width multiplier on all channels.")
    dense: PositiveInt = Field(default=4096, description="Units of the two dense layers.")
    batch_norm: bool = Field(default=True, description="BatchNorm after each convolution; the paper has none.")
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0, description="Dropout in the dense layers, during training.")

    presets: ClassVar[tuple[Mapping[str, Any], ...]] = tuple({"depth": depth} for depth in CONVOLUTIONS)

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes at 224×224: 112×112×64 → 56×56×128 → 28×28×256 → 14×14×512 → 7×7×512 → dense → dense → units."""
        import tf_keras
        from tf_keras import layers

        require_image(input_shape, smallest=4, family="vgg")
        x = inputs = tf_keras.Input(input_shape, name=input_name)
        for block, count in enumerate(CONVOLUTIONS[self.depth], start=1):
            filters = min(64 * 2 ** (block - 1), 512)
            for i in range(1, count + 1):
                name = f"block{block}_conv{i}"
                x = layers.Conv2D(max(4, round(filters * self.width)), 3, padding="same", name=name)(x)
                if self.batch_norm:
                    x = layers.BatchNormalization(momentum=BN_MOMENTUM, name=f"{name}_bn")(x)
                x = layers.ReLU(name=f"{name}_relu")(x)
            x = layers.MaxPooling2D(padding="same", name=f"block{block}_pool")(x)
        x = layers.Flatten(name="flatten")(x)
        for i in (1, 2):
            x = layers.Dense(self.dense, activation="relu", name=f"fc{i}")(x)
            if self.dropout:
                x = layers.Dropout(self.dropout, name=f"dropout{i}")(x)
        return tf_keras.Model(inputs, head.attach(x), name=f"vgg{self.depth}")
