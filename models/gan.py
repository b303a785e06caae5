"""Generative adversarial networks: DCGAN (Radford, Metz, Chintala 2015, arXiv:1511.06434), dense for vectors.

Trained as Goodfellow et al. 2014 (arXiv:1406.2661) by pipeline/tasks/generation.py; what is exported is the generator.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from edgedl.core.contract import Task
from edgedl.models.base import BN_MOMENTUM, Family, Head, KerasModel, KerasTensor
from edgedl.models.blocks import require_image


class Gan(Family):
    """Generator: z (b, latent) → sample (b, *shape), in the data's normalised units."""

    family: Literal["gan"] = "gan"
    latent: PositiveInt = Field(default=16, description="Values of the noise z.")
    filters: PositiveInt = Field(default=32, description="Channels next to the image; units, where data are vectors.")
    steps: PositiveInt = Field(default=2, description="Doublings of the sides; hidden layers, where they are vectors.")

    tasks: ClassVar[tuple[Task, ...]] = ("generation",)
    any_data: ClassVar[Task | None] = "generation"

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes, images: (b, latent) → (b, h/2ˢ, w/2ˢ, f·2ˢ⁻¹) → … → (b, h, w, c)."""
        import tf_keras
        from tf_keras import layers

        x = inputs = tf_keras.Input((self.latent,), name="z")
        if len(input_shape) == 1:
            for i in range(1, self.steps + 1):
                x = layers.Dense(self.filters, activation="relu", name=f"dense{i}")(x)
            x = layers.Dense(input_shape[0], dtype="float32", name="sample")(x)
            return tf_keras.Model(inputs, x, name="generator")
        require_image(input_shape, smallest=2**self.steps, family="gan")
        # padded up to whole doublings, and cropped at the end
        height, width = (-(-side // 2**self.steps) for side in input_shape[:2])
        channels = self.filters * 2 ** (self.steps - 1)
        x = layers.Dense(height * width * channels, use_bias=False, name="project")(x)
        x = _bn_relu(layers.Reshape((height, width, channels), name="map")(x), "project")
        for i in range(1, self.steps):
            channels //= 2
            x = layers.Conv2DTranspose(channels, 4, 2, padding="same", use_bias=False, name=f"up{i}")(x)
            x = _bn_relu(x, f"up{i}")
        last = "sample" if all(side % 2**self.steps == 0 for side in input_shape[:2]) else "padded"
        x = layers.Conv2DTranspose(input_shape[2], 4, 2, padding="same", dtype="float32", name=last)(x)
        if last == "padded":
            extra = [(0, have - want) for have, want in zip(x.shape[1:3], input_shape[:2], strict=True)]
            x = layers.Cropping2D(extra, dtype="float32", name="sample")(x)
        return tf_keras.Model(inputs, x, name="generator")

    def build_discriminator(self, shape: tuple[int, ...]) -> KerasModel:
        """Shapes: (b, *shape) → logit (b, 1), higher where an example looks real."""
        import tf_keras
        from tf_keras import layers

        x = inputs = tf_keras.Input(shape)
        if len(shape) == 1:
            for _ in range(self.steps):
                x = layers.LeakyReLU(0.2)(layers.Dense(self.filters)(x))
        else:
            for i in range(self.steps):
                x = layers.Conv2D(self.filters * 2**i, 4, 2, padding="same")(x)
                x = layers.Dropout(0.2)(layers.LeakyReLU(0.2)(x))
            x = layers.Flatten()(x)
        return tf_keras.Model(inputs, layers.Dense(1, dtype="float32")(x), name="discriminator")


def _bn_relu(x: KerasTensor, name: str) -> KerasTensor:
    from tf_keras import layers

    x = layers.BatchNormalization(momentum=BN_MOMENTUM, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
