"""Numbers as sines and cosines."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras


@tf_keras.utils.register_keras_serializable("edgedl")
class TimeEmbedding(tf_keras.layers.Layer):
    """(b, 1) → (b, size): sin and cos of t · 10000^(−i/(size/2 − 1)) (Vaswani et al. 2017, §3.5)."""

    def __init__(self, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.size = size

    def call(self, t: Any) -> Any:
        """Both halves beside each other."""
        half = self.size // 2
        angles = t * np.exp(-np.log(10_000.0) * np.arange(half) / (half - 1)).astype(np.float32)[None]
        return tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """As Keras saves layers."""
        return super().get_config() | {"size": self.size}
