"""Small convolutional network in the manner of VGG (Simonyan & Zisserman 2015, arXiv:1409.1556), with BatchNorm.

Each stage is two 3×3 convolutions and a 2×2 max-pool; global average pooling before the head keeps it small
(Lin et al. 2014, arXiv:1312.4400).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from edgedl.models.base import Family, Head, KerasModel
from edgedl.models.blocks import conv_bn, require_image


class Cnn(Family):
    """Convolutional classifier or regressor for images: (batch, height, width, channels) → (batch, units)."""

    family: Literal["cnn"] = "cnn"
    filters: tuple[PositiveInt, ...] = Field(default=(32, 64), min_length=1, description="Filters of each stage.")
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0, description="Dropout before the head, during training.")

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes: (b, h, w, c) → stage i: (b, h/2^i, w/2^i, filters[i]) → (b, filters[-1]) → (b, head.units)."""
        import tf_keras
        from tf_keras import layers

        require_image(input_shape, smallest=2 ** len(self.filters), family="cnn")
        inputs = tf_keras.Input(input_shape, name=input_name)
        x = inputs
        for stage, filters in enumerate(self.filters, start=1):
            for i in (1, 2):
                x = conv_bn(x, filters, 3, name=f"stage{stage}_conv{i}")
            x = layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
        x = layers.GlobalAveragePooling2D(name="average")(x)
        if self.dropout:
            x = layers.Dropout(self.dropout, name="dropout")(x)
        return tf_keras.Model(inputs, head.attach(x), name="cnn")
