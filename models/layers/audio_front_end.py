"""The sound features of `core.audio` as a layer of convolutions and products, which every format has."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import tf_keras

from edgedl.core import audio
from edgedl.core.contract import AudioFrontEnd


@tf_keras.utils.register_keras_serializable("edgedl")
class AudioFeatures(tf_keras.layers.Layer):
    """Waveform (b, samples) → standardised features (b, frames, bins), or (b, frames, bins, 1) as a map.

    Windows and Fourier transform are one convolution, whose kernels are the windowed cosines and sines.
    front_end: fields of `AudioFrontEnd`. mean, std: one value, or one for each bin. All of it is constant.
    """

    def __init__(
        self,
        front_end: dict[str, Any],
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
        as_map: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**{**options, "trainable": False, "dtype": "float32"})
        self.front_end, self.as_map = AudioFrontEnd(**front_end), as_map
        self.mean, self.std = tuple(mean), tuple(std)
        self._mean, self._one_over_std = np.array(self.mean, np.float32), (1 / np.array(self.std)).astype(np.float32)
        coefficients = audio.tables(self.front_end)
        n, f = np.arange(self.front_end.window)[:, None], np.arange(self.front_end.fft_length // 2 + 1)[None]
        turn = 2 * np.pi * (n * f % self.front_end.fft_length) / self.front_end.fft_length
        waves = np.stack([np.cos(turn), np.sin(turn)]) * coefficients.window[:, None]
        self._kernels = waves[:, :, None].astype(np.float32)  # (2, window, 1, frequencies)
        self._mel, self._dct = coefficients.mel.astype(np.float32), coefficients.dct.astype(np.float32)

    def call(self, waveform: Any) -> Any:
        """The features."""
        import tensorflow as tf

        x = waveform[..., None]
        real, imaginary = (tf.nn.conv1d(x, kernel, self.front_end.hop, "VALID") for kernel in self._kernels)
        power = tf.square(real) + tf.square(imaginary)
        found = tf.math.log(tf.matmul(power, self._mel) + self.front_end.log_offset)
        if self.front_end.features == "mfcc":
            found = tf.matmul(found, self._dct)
        found = (found - self._mean) * self._one_over_std
        return tf.expand_dims(found, -1) if self.as_map else found

    def get_config(self) -> dict[str, Any]:
        """All that makes it again."""
        own = {"front_end": asdict(self.front_end), "mean": self.mean, "std": self.std, "as_map": self.as_map}
        return super().get_config() | own
