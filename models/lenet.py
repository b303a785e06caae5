"""LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B)."""

from __future__ import annotations

from typing import Literal

from edgedl.models.base import Family, Head, KerasModel
from edgedl.models.blocks import require_image

SIDE = 32
"""The paper's input; smaller images are padded to it, as MNIST was."""


class LeNet(Family):
    """LeNet-5: three convolutions, two poolings, two dense layers: (b, h, w, c) → (b, units)."""

    family: Literal["lenet"] = "lenet"
    activation: Literal["tanh", "relu"] = "tanh"
    """The paper squashes with tanh."""

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes at 32×32: C1 28×28×6 → S2 14×14×6 → C3 10×10×16 → S4 5×5×16 → C5 1×1×120 → F6 84 → units."""
        import tf_keras
        from tf_keras import layers

        require_image(input_shape, smallest=4, family="lenet")
        x = inputs = tf_keras.Input(input_shape, name=input_name)
        missing = [max(0, SIDE - side) for side in input_shape[:2]]
        if any(missing):
            x = layers.ZeroPadding2D([(n // 2, n - n // 2) for n in missing], name="pad")(x)
        x = layers.Conv2D(6, 5, activation=self.activation, name="C1")(x)
        x = layers.AveragePooling2D(name="S2")(x)
        x = layers.Conv2D(16, 5, activation=self.activation, name="C3")(x)
        x = layers.AveragePooling2D(name="S4")(x)
        x = layers.Conv2D(120, 5, activation=self.activation, name="C5")(x)
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(84, activation=self.activation, name="F6")(x)
        return tf_keras.Model(inputs, head.attach(x), name="lenet")
