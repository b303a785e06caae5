"""Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, eq. 1) of what integer kernels know."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

SCORE_LIMIT = 8.0
MASKED = -24.0


@tf_keras.utils.register_keras_serializable("edgedl")
class Attention(tf_keras.layers.Layer):
    """softmax(q kᵀ / √d) v over `heads` parts of the channels; projections are layers of their own.

    Inputs: [q, k, v], each (b, t, heads · d) → (b, t, heads · d). causal: a position sees itself and those before it.

    The usual mask of −1e9 would stretch the scale of int8 scores until nothing is left of them, so causal scores are
    clipped to ±8 (soft capping serves the same end in Gemma 2, arXiv:2408.00118, eq. in §2) and masked ones lie at
    −24: a share below e⁻¹⁶ of the attention, whatever the scores are.
    """

    def __init__(self, heads: int, causal: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.heads, self.causal = heads, causal

    def build(self, input_shape: Any) -> None:
        """Lengths are fixed, as devices want them."""
        _, self.length, self.channels = input_shape[0]
        super().build(input_shape)

    @property
    def macs(self) -> int:
        """Of q kᵀ and of its product with v."""
        return 2 * self.length**2 * self.channels

    def call(self, inputs: Any) -> Any:
        """Shapes: (b, t, h·d) ×3 → (b, h, t, d) → scores (b, h, t, t) → (b, t, h·d)."""
        q, k, v = (self._split(one) for one in inputs)
        size = self.channels // self.heads
        scores = tf.matmul(q * size**-0.5, k, transpose_b=True)
        if self.causal:
            visible = np.tril(np.ones((self.length, self.length), np.float32))
            scores = tf.clip_by_value(scores, -SCORE_LIMIT, SCORE_LIMIT) * visible + MASKED * (1.0 - visible)
        mixed = tf.matmul(tf.nn.softmax(scores), v)
        return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, self.length, self.channels])

    def _split(self, x: Any) -> Any:
        x = tf.reshape(x, [-1, self.length, self.heads, self.channels // self.heads])
        return tf.transpose(x, [0, 2, 1, 3])

    def get_config(self) -> dict[str, Any]:
        """As Keras saves layers."""
        return super().get_config() | {"heads": self.heads, "causal": self.causal}


@tf_keras.utils.register_keras_serializable("edgedl")
class PositionEmbedding(tf_keras.layers.Layer):
    """Adds a learnt vector for each position (Devlin et al. 2018, arXiv:1810.04805, §3): (b, t, c) → (b, t, c)."""

    def build(self, input_shape: Any) -> None:
        """One vector for each of the t positions."""
        initializer = tf_keras.initializers.TruncatedNormal(stddev=0.02)
        self.embedding = self.add_weight(name="embedding", shape=input_shape[1:], initializer=initializer)
        super().build(input_shape)

    def call(self, x: Any) -> Any:
        """x + embedding."""
        return x + self.embedding


@tf_keras.utils.register_keras_serializable("edgedl")
class Gelu(tf_keras.layers.Layer):
    """x · Φ(x) by its tanh approximation (Hendrycks and Gimpel 2016, arXiv:1606.08415, §2).

    Written out in operations that every runtime has in float and integers: the exact form becomes an `Erfc` in ONNX,
    which no runtime has.
    """

    def call(self, x: Any) -> Any:
        """0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))."""
        return 0.5 * x * (1.0 + tf.tanh(0.7978845608 * x * (1.0 + 0.044715 * x * x)))


@tf_keras.utils.register_keras_serializable("edgedl")
class LayerNorm(tf_keras.layers.Layer):
    """Layer normalisation (Ba et al. 2016, arXiv:1607.06450, eq. 4) over the last axis, of plain operations.

    tf_keras's own becomes a chain around a fused BatchNorm with two reshapes.
    """

    def __init__(self, epsilon: float = 1e-3, **options: Any) -> None:
        super().__init__(**options)
        self.epsilon = epsilon

    def build(self, input_shape: Any) -> None:
        """gamma and beta of shape (c,)."""
        self.gamma = self.add_weight(name="gamma", shape=input_shape[-1:], initializer="ones")
        self.beta = self.add_weight(name="beta", shape=input_shape[-1:], initializer="zeros")
        super().build(input_shape)

    def call(self, x: Any) -> Any:
        """(x − mean) / √(variance + ε) · γ + β."""
        centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(centred * centred, axis=-1, keepdims=True)
        return centred * tf.math.rsqrt(variance + self.epsilon) * self.gamma + self.beta

    def get_config(self) -> dict[str, Any]:
        """As Keras saves layers."""
        return super().get_config() | {"epsilon": self.epsilon}
