"""A layer that one of the published models names and Keras does not have, written again from what its author's own
script does with it (github.com/albertraviss2023/anti-malarial-demand-forecast, MIT): a district's number, one of
`num_districts`, is cut off to an integer. The file says the same of it: 118 districts, float32 in, int32 out.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tf_keras


class CastAndClipLayer(tf_keras.layers.Layer):
    """For tf_keras, in which edgedl works: clip to 0 … num_districts - 1, cast; (b,) float32 → (b,) int32."""

    def __init__(self, num_districts: int = 118, **options: Any) -> None:
        super().__init__(**options)
        self.num_districts = num_districts

    def call(self, inputs: Any) -> Any:
        """Clip, then cast."""
        return tf.cast(tf.clip_by_value(inputs, 0.0, self.num_districts - 1.0), tf.int32)

    def get_config(self) -> dict[str, Any]:
        """With the number of districts."""
        return {**super().get_config(), "num_districts": self.num_districts}


class CastAndClipLayer3(keras.layers.Layer):
    """The same for Keras 3, in which the file was written and the peers read it."""

    def __init__(self, num_districts: int = 118, **options: Any) -> None:
        super().__init__(**options)
        self.num_districts = num_districts

    def call(self, inputs: Any) -> Any:
        """Clip, then cast."""
        return keras.ops.cast(keras.ops.clip(inputs, 0, self.num_districts - 1), "int32")

    def compute_output_spec(self, inputs: Any) -> Any:
        """Of the same shape."""
        return keras.KerasTensor(inputs.shape, dtype="int32")

    def get_config(self) -> dict[str, Any]:
        """With the number of districts."""
        return {**super().get_config(), "num_districts": self.num_districts}
