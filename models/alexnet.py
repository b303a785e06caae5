"""AlexNet (Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep convolutional neural networks").

As one column, without local response normalisation, which later work found to bring nothing (Simonyan and Zisserman
2014, section 4.1); BatchNorm in its place is an option.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgedl.models.base import BN_MOMENTUM, Family, Head, KerasModel, KerasTensor
from edgedl.models.blocks import is_small, require_image


class AlexNet(Family):
    """Five convolutions, three poolings, two dense layers: (b, h, w, c) → (b, units)."""

    family: Literal["alexnet"] = "alexnet"
    width: float = Field(default=1.0, gt=0.0, le=2.0, description="Width multiplier on all channels and units.")
    batch_norm: bool = Field(default=True, description="BatchNorm after each convolution.")
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0, description="Dropout in the dense layers, during training.")

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes at 227×227: 55×55×96 → 27×27×256 → 13×13×384 → 13×13×384 → 6×6×256 → 4096 → 4096 → units.

        Images below 96 pixels begin with a 5×5 convolution without stride.
        """
        import tf_keras
        from tf_keras import layers

        require_image(input_shape, smallest=8, family="alexnet")
        small = is_small(input_shape)
        padding = "same" if small else "valid"
        x = inputs = tf_keras.Input(input_shape, name=input_name)
        x = self._conv(x, 96, 5 if small else 11, strides=1 if small else 4, name="conv1", padding=padding)
        x = layers.MaxPooling2D(3, 2, padding=padding, name="pool1")(x)
        x = self._conv(x, 256, 5, name="conv2")
        x = layers.MaxPooling2D(3, 2, padding=padding, name="pool2")(x)
        for i, filters in enumerate((384, 384, 256), start=3):
            x = self._conv(x, filters, 3, name=f"conv{i}")
        x = layers.MaxPooling2D(3, 2, padding=padding, name="pool5")(x)
        x = layers.Flatten(name="flatten")(x)
        for i in (6, 7):
            x = layers.Dense(self._channels(4096), activation="relu", name=f"fc{i}")(x)
            if self.dropout:
                x = layers.Dropout(self.dropout, name=f"dropout{i}")(x)
        return tf_keras.Model(inputs, head.attach(x), name="alexnet")

    def _channels(self, paper: int) -> int:
        return max(4, round(paper * self.width))

    def _conv(
        self, x: KerasTensor, filters: int, kernel: int, *, name: str, strides: int = 1, padding: str = "same"
    ) -> KerasTensor:
        from tf_keras import layers

        x = layers.Conv2D(self._channels(filters), kernel, strides=strides, padding=padding, name=name)(x)
        if self.batch_norm:
            x = layers.BatchNormalization(momentum=BN_MOMENTUM, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)
