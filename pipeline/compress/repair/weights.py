"""Integer weights and activations as the TFLite converter makes them, in float arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.pipeline.compress.repair.graph import by_output

LARGEST = 127


def scales_of(layer: Any, kernel: NDArray[np.float32]) -> NDArray[np.float64]:
    """max|w| / 127 of each output channel (TFLite's 8-bit specification); 1 for a channel of zeros."""
    largest = np.abs(by_output(layer, kernel)).max(axis=0).astype(np.float64)
    return np.where(largest > 0, largest / LARGEST, 1.0)


def nearest(layer: Any, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """The kernel after rounding to the nearest integers."""
    flat, scales = by_output(layer, kernel).astype(np.float64), scales_of(layer, kernel)
    integers = np.clip(np.round(flat / scales), -LARGEST, LARGEST)
    return (integers * scales).reshape(kernel.shape).astype(np.float32)


def rounded_activations(values: Any) -> Any:
    """A tensor through int8 and back, its range being that of the values themselves and 0."""
    import tensorflow as tf

    low, high = tf.minimum(tf.reduce_min(values), 0.0), tf.maximum(tf.reduce_max(values), 0.0)
    if float(low) == float(high):
        return values
    return tf.quantization.fake_quant_with_min_max_vars(values, low, high)
