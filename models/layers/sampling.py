"""The random step of a variational autoencoder."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

_RandomLayer: Any = tf_keras.__internal__.layers.BaseRandomLayer
"""What Dropout is: its generator's state is in the checkpoints."""


@tf_keras.utils.register_keras_serializable("edgedl")
class Sampling(_RandomLayer):
    """z = μ + σ ε in training, where it also adds β · KL(N(μ, σ²) ‖ N(0, 1)); z = μ at inference.

    Kingma and Welling 2013 (arXiv:1312.6114), §2.4 and appendix B: KL = −½ Σ (1 + log σ² − μ² − σ²), here divided by
    `values`, the number of values that a reconstruction's mean squared error averages over.
    Inputs: [μ (b, n), log σ² (b, n)] → (b, n). The exported file is deterministic.
    """

    def __init__(self, beta: float, values: int, **options: Any) -> None:
        super().__init__(**options)
        self.beta, self.values = beta, values

    def call(self, inputs: Any, training: Any = None) -> Any:
        """In training the noise is another at each call."""
        mean, log_variance = inputs
        if not training:
            return mean
        divergence = -0.5 * tf.reduce_sum(1.0 + log_variance - mean**2 - tf.exp(log_variance), axis=-1)
        self.add_loss(self.beta * tf.reduce_mean(divergence) / self.values)
        noise = self._random_generator.random_normal(tf.shape(mean), dtype=mean.dtype)
        return mean + tf.exp(0.5 * log_variance) * noise

    def get_config(self) -> dict[str, Any]:
        """As Keras saves layers."""
        return super().get_config() | {"beta": self.beta, "values": self.values}
