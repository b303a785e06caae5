"""U-Net (Ronneberger, Fischer, Brox 2015, arXiv:1505.04597), with padding, so that the map is as large as the image."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from edgedl.core.contract import Task
from edgedl.core.errors import ModelError
from edgedl.models.base import Family, Head, KerasModel, KerasTensor
from edgedl.models.blocks import conv_bn, require_image


class UNet(Family):
    """A contracting and an expanding path with shortcuts: (b, h, w, c) → (b, h, w, units)."""

    family: Literal["u-net"] = "u-net"
    filters: PositiveInt = Field(default=64, description="Channels at full resolution; doubled with each halving.")
    depth: PositiveInt = Field(default=4, description="Halvings of the sides.")

    tasks: ClassVar[tuple[Task, ...]] = ("segmentation",)

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes: (h, w, f) → … → (h/2ᵈ, w/2ᵈ, 2ᵈ f) → … → (h, w, f) → (h, w, units)."""
        import tf_keras
        from tf_keras import layers

        require_image(input_shape, smallest=4, family="u-net")
        if any(side % 2**self.depth for side in input_shape[:2]):
            raise ModelError(
                "family u-net cannot take this data",
                required=f"sides that are multiples of {2**self.depth} (2 to the depth)",
                received=f"shape {input_shape}",
                advice="Set another `depth`, or another size of the data",
            )
        x = inputs = tf_keras.Input(input_shape, name=input_name)
        across: list[KerasTensor] = []
        for level in range(self.depth):
            x = _two(x, self.filters * 2**level, name=f"down{level + 1}")
            across.append(x)
            x = layers.MaxPooling2D(name=f"down{level + 1}_pool")(x)
        x = _two(x, self.filters * 2**self.depth, name="bottom")
        for level in reversed(range(self.depth)):
            name, filters = f"up{level + 1}", self.filters * 2**level
            x = layers.Conv2DTranspose(filters, 2, strides=2, name=f"{name}_conv_transpose")(x)
            x = layers.Concatenate(name=f"{name}_concatenate")([across[level], x])
            x = _two(x, filters, name=name)
        return tf_keras.Model(inputs, head.attach_map(x), name="u_net")


def _two(x: KerasTensor, filters: int, *, name: str) -> KerasTensor:
    x = conv_bn(x, filters, 3, name=f"{name}_conv1")
    return conv_bn(x, filters, 3, name=f"{name}_conv2")
