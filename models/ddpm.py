"""Denoising diffusion (DDPM: Ho, Jain, Abbeel 2020, arXiv:2006.11239): the network that tells the noise in an example.

Trained by pipeline/tasks/denoising.py; export/sampling.py makes new examples with the exported file.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from edgedl.core.contract import NoiseSchedule, Task
from edgedl.models.base import Family, Head, KerasModel, KerasTensor
from edgedl.models.blocks import require_image


class Ddpm(Family):
    """Noisy example and time: (b, *shape), t (b, 1) → noise (b, *shape). A U-Net for images, dense for vectors."""

    family: Literal["ddpm"] = "ddpm"
    steps: PositiveInt = Field(default=100, description="Steps T from the data to pure noise.")
    last: float = Field(default=0.2, gt=0.0, lt=1.0, description="Variance β_T that the last step adds.")
    filters: PositiveInt = Field(default=64, description="Channels at full resolution; units, where data are vectors.")
    depth: PositiveInt = Field(default=2, description="Halvings of the sides; hidden layers, where they are vectors.")

    tasks: ClassVar[tuple[Task, ...]] = ("denoising",)
    any_data: ClassVar[Task | None] = "denoising"

    def noise_schedule(self) -> NoiseSchedule:
        """Linear, as in §4."""
        return NoiseSchedule(steps=self.steps, last=self.last)

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """The time is embedded as sines and cosines (Vaswani et al. 2017, §3.5) and added at every level."""
        import tf_keras
        from tf_keras import layers

        from edgedl.models.layers.time_embedding import TimeEmbedding

        x = inputs = tf_keras.Input(input_shape, name=input_name)
        when = tf_keras.Input((1,), name="t")
        time = TimeEmbedding(32, name="time")(when)
        time = layers.Dense(self.filters, activation="relu", name="time1")(time)
        if len(input_shape) == 1:
            for i in range(1, self.depth + 2):
                x = layers.Dense(self.filters, name=f"dense{i}")(x)
                x = layers.Add(name=f"dense{i}_time_add")([x, layers.Dense(self.filters, name=f"dense{i}_time")(time)])
                x = layers.ReLU(name=f"dense{i}_relu")(x)
            x = layers.Dense(input_shape[0], dtype="float32", name="noise")(x)
            return tf_keras.Model([inputs, when], x, name="ddpm")
        require_image(input_shape, smallest=2**self.depth, family="ddpm")
        sides = [-(-side // 2**self.depth) * 2**self.depth for side in input_shape[:2]]
        extra = [(0, have - want) for have, want in zip(sides, input_shape[:2], strict=True)]
        if any(one for _, one in extra):
            x = layers.ZeroPadding2D(extra, name="pad")(x)
        across: list[KerasTensor] = []
        for level in range(self.depth):
            x = self._level(x, time, level, f"down{level + 1}")
            across.append(x)
            x = layers.MaxPooling2D(name=f"down{level + 1}_pool")(x)
        x = self._level(x, time, self.depth, "bottom")
        for level in reversed(range(self.depth)):
            x = layers.UpSampling2D(name=f"up{level + 1}_double")(x)
            x = layers.Concatenate(name=f"up{level + 1}_concatenate")([across[level], x])
            x = self._level(x, time, level, f"up{level + 1}")
        if any(one for _, one in extra):
            x = layers.Cropping2D(extra, name="crop")(x)
        x = layers.Conv2D(input_shape[2], 3, padding="same", dtype="float32", name="noise")(x)
        return tf_keras.Model([inputs, when], x, name="ddpm")

    def _level(self, x: KerasTensor, time: KerasTensor, level: int, name: str) -> KerasTensor:
        """Two 3×3 convolutions with the time between them."""
        from tf_keras import layers

        channels = self.filters * 2**level
        x = layers.Conv2D(channels, 3, padding="same", activation="relu", name=f"{name}_conv1")(x)
        shift = layers.Reshape((1, 1, channels), name=f"{name}_shift")(
            layers.Dense(channels, name=f"{name}_time")(time)
        )
        x = layers.Add(name=f"{name}_time_add")([x, shift])
        return layers.Conv2D(channels, 3, padding="same", activation="relu", name=f"{name}_conv2")(x)
