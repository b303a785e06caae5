"""Autoencoders: dense as MLPerf Tiny's anomaly detector (Banbury et al. 2021, arXiv:2106.07597), and convolutional."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from edgedl.core.contract import Task
from edgedl.models.base import BN_MOMENTUM, Family, Head, KerasModel, KerasTensor
from edgedl.models.blocks import conv_bn, require_image


class Autoencoder(Family):
    """Through a bottleneck and back: (b, *shape) → (b, *shape). What it cannot give back is an anomaly."""

    family: Literal["autoencoder"] = "autoencoder"
    kind: Literal["dense", "conv"] = Field(default="dense", description="Dense layers, or convolutions for images.")
    hidden: tuple[PositiveInt, ...] = Field(
        default=(128, 128, 128, 128), min_length=1, description="Units (dense) or channels (conv) on the way down."
    )
    bottleneck: PositiveInt = Field(default=8, description="Values that are left in the middle.")

    tasks: ClassVar[tuple[Task, ...]] = ("anomaly-detection", "reconstruction")
    any_data: ClassVar[Task | None] = "reconstruction"

    presets: ClassVar[tuple[Mapping[str, Any], ...]] = ({"kind": "dense"}, {"kind": "conv", "hidden": (16, 32)})

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes, dense: (b, n) → hidden … → bottleneck → … hidden → (b, n); conv: sides are halved at each step."""
        import tf_keras
        from tf_keras import layers

        x = inputs = tf_keras.Input(input_shape, name=input_name)
        if self.kind == "conv":
            return tf_keras.Model(inputs, self._convolve(x, input_shape), name="autoencoder")
        x = layers.Flatten(name="flatten")(x) if len(input_shape) > 1 else x
        for i, units in enumerate((*self.hidden, self.bottleneck, *reversed(self.hidden)), start=1):
            x = layers.Dense(units, use_bias=False, name=f"dense{i}")(x)
            x = layers.BatchNormalization(momentum=BN_MOMENTUM, name=f"dense{i}_bn")(x)
            x = layers.ReLU(name=f"dense{i}_relu")(x)
        plain = len(input_shape) == 1
        name = "reconstruction" if plain else "values"
        x = layers.Dense(math.prod(input_shape), dtype="float32", name=name)(x)
        if not plain:
            x = layers.Reshape(input_shape, dtype="float32", name="reconstruction")(x)
        return tf_keras.Model(inputs, x, name="autoencoder")

    def _convolve(self, x: KerasTensor, shape: tuple[int, ...]) -> KerasTensor:
        from tf_keras import layers

        steps = len(self.hidden)
        require_image(shape, smallest=2**steps, family="autoencoder")
        sides = [tuple(shape[:2])]
        for i, channels in enumerate(self.hidden, start=1):
            x = conv_bn(x, channels, 3, strides=2, name=f"down{i}")
            sides.append((x.shape[1], x.shape[2]))
        x = layers.Conv2D(self.bottleneck, 1, name="bottleneck")(x)
        for i, channels in enumerate(reversed(self.hidden), start=1):
            x = layers.Conv2DTranspose(channels, 3, strides=2, padding="same", use_bias=False, name=f"up{i}")(x)
            x = layers.BatchNormalization(momentum=BN_MOMENTUM, name=f"up{i}_bn")(x)
            x = layers.ReLU(name=f"up{i}_relu")(x)
            height, width = sides[steps - i]
            if (x.shape[1], x.shape[2]) != (height, width):
                x = layers.Cropping2D(((0, x.shape[1] - height), (0, x.shape[2] - width)), name=f"up{i}_crop")(x)
        return layers.Conv2D(shape[2], 3, padding="same", dtype="float32", name="reconstruction")(x)
