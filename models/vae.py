"""Variational autoencoder (Kingma and Welling 2013, "Auto-encoding variational Bayes", arXiv:1312.6114)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from edgedl.core.contract import Task
from edgedl.models.base import Family, Head, KerasModel


class Vae(Family):
    """Encoder to a distribution, sample, decoder: (b, *shape) → (b, *shape)."""

    family: Literal["vae"] = "vae"
    hidden: tuple[PositiveInt, ...] = Field(default=(128, 64), min_length=1, description="Units on the way down.")
    latent: PositiveInt = Field(default=8, description="Values of the latent variable z.")
    beta: PositiveFloat = Field(
        default=1.0,
        description="Weight of the divergence in units of the data's variance (β-VAE, Higgins et al. 2017).",
    )

    tasks: ClassVar[tuple[Task, ...]] = ("anomaly-detection", "reconstruction")
    any_data: ClassVar[Task | None] = "reconstruction"

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes: (b, n) → hidden … → μ, log σ² (b, latent) → z (b, latent) → … hidden → (b, n)."""
        import tf_keras
        from tf_keras import layers

        from edgedl.models.layers.sampling import Sampling

        values = math.prod(input_shape)
        inputs = tf_keras.Input(input_shape, name=input_name)
        x = layers.Flatten(name="flatten")(inputs) if len(input_shape) > 1 else inputs
        for i, units in enumerate(self.hidden, start=1):
            x = layers.Dense(units, activation="relu", name=f"encoder{i}")(x)
        mean = layers.Dense(self.latent, name="z_mean")(x)
        log_variance = layers.Dense(self.latent, name="z_log_variance")(x)
        x = Sampling(self.beta, values, dtype="float32", name="z")([mean, log_variance])
        for i, units in enumerate(reversed(self.hidden), start=1):
            x = layers.Dense(units, activation="relu", name=f"decoder{i}")(x)
        plain = len(input_shape) == 1
        x = layers.Dense(values, dtype="float32", name="reconstruction" if plain else "values")(x)
        if not plain:
            x = layers.Reshape(input_shape, dtype="float32", name="reconstruction")(x)
        return tf_keras.Model(inputs, x, name="vae")
