"""Activations that Keras 3 has and Keras 2 lacks, or computes otherwise; called by name in saved files.

`hard_sigmoid` is relu6(x + 3) / 6 in Keras 3 and clip(0.2 x + 0.5, 0, 1) in Keras 2 (Howard et al. 2019,
arXiv:1905.02244 has the former).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

Activation = Callable[[Any], Any]

KERAS_3: dict[str, Activation] = {}
"""By Keras 3's name."""


def _register(function: Activation) -> Activation:
    name = function.__name__
    KERAS_3[name] = tf_keras.utils.register_keras_serializable("edgedl", name)(function)
    return KERAS_3[name]


@_register
def hard_sigmoid(x: Any) -> Any:
    """relu6(x + 3) / 6."""
    return tf.nn.relu6(x + 3.0) * (1.0 / 6.0)


@_register
def hard_silu(x: Any) -> Any:
    """x · hard_sigmoid(x), also called hard swish."""
    return x * (tf.nn.relu6(x + 3.0) * (1.0 / 6.0))


@_register
def leaky_relu(x: Any) -> Any:
    """max(x, 0.2 x)."""
    return tf.nn.leaky_relu(x, 0.2)


@_register
def relu6(x: Any) -> Any:
    """min(max(x, 0), 6)."""
    return tf.nn.relu6(x)


@_register
def silu(x: Any) -> Any:
    """x · sigmoid(x), also called swish; as two ops, which every converter knows."""
    return x * tf.sigmoid(x)


@_register
def log_softmax(x: Any) -> Any:
    """x − log Σ exp x along the last axis."""
    return tf.nn.log_softmax(x)


@_register
def log_sigmoid(x: Any) -> Any:
    """−softplus(−x)."""
    return -tf.nn.softplus(-x)


@_register
def hard_tanh(x: Any) -> Any:
    """x clipped to [−1, 1]."""
    return tf.clip_by_value(x, -1.0, 1.0)


@_register
def celu(x: Any) -> Any:
    """max(x, 0) + min(exp(x) − 1, 0), with α = 1."""
    return tf.maximum(x, 0.0) + tf.minimum(tf.exp(tf.minimum(x, 0.0)) - 1.0, 0.0)


@_register
def tanh_shrink(x: Any) -> Any:
    """x − tanh x."""
    return x - tf.tanh(x)


@_register
def squareplus(x: Any) -> Any:
    """(x + √(x² + 4)) / 2."""
    return (x + tf.sqrt(x * x + 4.0)) * 0.5


KERAS_3["hard_swish"] = KERAS_3["hard_silu"]
