"""Depthwise-separable CNN, DS-CNN (Zhang et al. 2017, "Hello Edge", arXiv:1711.07128; blocks of MobileNet,
Howard et al. 2017, arXiv:1704.04861).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from edgedl.models.base import BN_MOMENTUM, Family, Head, KerasModel, KerasTensor
from edgedl.models.cnn import require_image


class DsCnn(Family):
    """One full convolution, then blocks of depthwise 3×3 and pointwise 1×1: (b, h, w, c) → (b, units)."""

    family: Literal["ds-cnn"] = "ds-cnn"
    width: float = Field(default=1.0, gt=0.0, le=8.0, description="Width multiplier α on the 64 channels.")
    blocks: PositiveInt = Field(default=4, description="Number of depthwise-separable blocks.")
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0, description="Dropout before the head, during training.")

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes: (b, h, w, c) → (b, ⌈h/2⌉, ⌈w/2⌉, 64·α) through all blocks → (b, 64·α) → (b, head.units)."""
        import tf_keras
        from tf_keras import layers

        require_image(input_shape, smallest=4, family="ds-cnn")
        channels = max(4, int(64 * self.width + 0.5))
        inputs = tf_keras.Input(input_shape, name=input_name)
        x = layers.Conv2D(channels, 3, strides=2, padding="same", use_bias=False, name="conv")(inputs)
        x = bn_relu(x, name="conv")
        for block in range(1, self.blocks + 1):
            name = f"block{block}_depthwise"
            x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=name)(x)
            x = bn_relu(x, name=name)
            name = f"block{block}_pointwise"
            x = layers.Conv2D(channels, 1, use_bias=False, name=name)(x)
            x = bn_relu(x, name=name)
        x = layers.GlobalAveragePooling2D(name="average")(x)
        if self.dropout:
            x = layers.Dropout(self.dropout, name="dropout")(x)
        return tf_keras.Model(inputs, head.attach(x), name="ds_cnn")


def bn_relu(x: KerasTensor, *, name: str) -> KerasTensor:
    """BatchNorm and ReLU, named after the layer before them; shape unchanged."""
    from tf_keras import layers

    x = layers.BatchNormalization(momentum=BN_MOMENTUM, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
