"""The selective state space recurrence of Mamba (Gu and Dao 2023, arXiv:2312.00752, eq. 2 and algorithm 2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras


@tf_keras.utils.register_keras_serializable("edgedl")
class SelectiveScan(tf_keras.layers.Layer):
    """h_t = exp(Δ_t A) h_{t−1} + Δ_t B_t u_t;  y_t = C_t h_t + D u_t, for each channel its own state of size n.

    Inputs: [u (b, t, d), Δ before its softplus (b, t, d), B (b, t, n), C (b, t, n)] → (b, t, d). A = −exp(A_log), begun
    at −1 … −n (S4D-Real, Gu et al. 2022). The recurrence is solved in ⌈log₂ t⌉ doubling steps (Hillis and Steele 1986,
    CACM 29, 1170–1183), so that a file holds plain operations and no loop: the pair (a, b) of a step takes in the one k
    steps before, (a a′, b + a b′). All a lie in (0, 1]: nothing overflows.
    """

    def build(self, input_shape: Any) -> None:
        """A_log (d, n) and D (d,)."""
        _, self.length, channels = input_shape[0]
        states = input_shape[2][-1]
        first = np.log(np.tile(np.arange(1, states + 1, dtype=np.float32), (channels, 1)))
        constant: Any = tf_keras.initializers.Constant
        self.a_log = self.add_weight(name="A_log", shape=(channels, states), initializer=constant(first))
        self.d = self.add_weight(name="D", shape=(channels,), initializer="ones")
        super().build(input_shape)

    @property
    def macs(self) -> int:
        """Of the recurrence as it is written: three products a step, channel and state."""
        return 3 * self.length * int(self.a_log.shape[0] * self.a_log.shape[1])

    def call(self, inputs: Any) -> Any:
        """The states are (b, t, d, n).

        Softplus is max(x, 0) + ln(1 + exp(−|x|)), whose curved part fits into 8 bits, with −|x| as x − 2 max(x, 0):
        TFLite has no integer NEG.
        """
        u, delta, b, c = inputs
        positive = tf.nn.relu(delta)
        delta = positive + tf.math.log(1.0 + tf.exp(delta - 2.0 * positive))
        kept = tf.exp(delta[..., None] * -tf.exp(self.a_log))
        state = (delta * u)[..., None] * b[:, :, None, :]
        k = 1
        while k < self.length:
            state += kept * tf.pad(state[:, :-k], [[0, 0], [k, 0], [0, 0], [0, 0]])
            if 2 * k < self.length:
                kept *= tf.pad(kept[:, :-k], [[0, 0], [k, 0], [0, 0], [0, 0]])
            k *= 2
        return tf.reduce_sum(state * c[:, :, None, :], axis=-1) + u * self.d
