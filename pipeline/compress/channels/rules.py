"""What each kind of layer does to channels: one rule a kind. What has no rule keeps its channels as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgedl.pipeline.compress.channels.graph import Atoms, Call, NotUnderstoodError, Rule

ELEMENTWISE = {
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish", "mish", "sigmoid"),
    *("tanh", "softplus", "softsign", "exponential", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh"),
    *("log_sigmoid", "tanh_shrink", "squareplus"),
}
"""Activations, by name, whose output at a channel depends on that channel alone."""

UNARY_OPS = {
    *("nn.relu", "nn.relu6", "nn.leaky_relu", "nn.elu", "nn.selu", "nn.silu", "nn.swish", "nn.gelu", "nn.softplus"),
    *("math.sigmoid", "math.tanh", "math.exp", "math.negative", "math.abs", "math.square", "math.sqrt", "math.rsqrt"),
    *("identity", "cast", "clip_by_value", "sigmoid", "nn.sigmoid", "nn.tanh", "tanh", "keras.backend.relu"),
}
BINARY_OPS = {
    *("__operators__.add", "math.add", "add", "math.subtract", "subtract", "math.multiply", "multiply"),
    *("math.maximum", "maximum", "math.minimum", "minimum"),
}
WITH_NUMBER = BINARY_OPS | {"math.truediv", "truediv", "math.divide", "divide", "math.pow", "pow"}


def rule_for(layer: Any) -> Rule:
    """The rule of a layer, by its exact class: a subclass may do anything."""
    kind = type(layer)
    if kind.__module__.split(".")[0] in ("tf_keras", "edgedl"):
        return RULES.get(kind.__name__, _unknown)
    return _unknown


def _unknown(call: Call) -> Atoms:
    raise NotUnderstoodError("how its channels depend on one another is not known")


# ── each channel for itself ───────────────────────────────────────────────────────────────────────────────────────


def _pass(call: Call) -> Atoms:
    _channels_last(call)
    return call.given


def _activation(call: Call) -> Atoms:
    _elementwise(call.layer)
    return call.given


def _rescaling(call: Call) -> Atoms:
    if np.ndim(call.layer.scale) or np.ndim(call.layer.offset):
        raise NotUnderstoodError("it has a constant for each channel")
    return call.given


def _permute(call: Call) -> Atoms:
    if call.layer.dims[-1] != len(call.layer.dims):
        raise NotUnderstoodError("it moves the channels to another axis")
    return call.given


def _batch_normalization(call: Call) -> Atoms:
    axes = call.layer.axis if isinstance(call.layer.axis, (list, tuple)) else [call.layer.axis]
    if [axis % (len(call.shapes[0]) + 1) for axis in axes] != [len(call.shapes[0])]:
        raise NotUnderstoodError("it normalises another axis than the last")
    given = call.given
    for weight in call.layer.weights:
        call.axis(weight, 0, given)
    return given


def _prelu(call: Call) -> Atoms:
    given = call.given
    if call.layer.alpha.shape[-1] == len(given):
        call.axis(call.layer.alpha, -1, given)
    return given


# ── layers that make channels ─────────────────────────────────────────────────────────────────────────────────────


def _dense(call: Call) -> Atoms:
    given, layer = call.given, call.layer
    made = call.made("units", call.output_shape[-1])
    call.axis(layer.kernel, 0, given)
    call.axis(layer.kernel, 1, made)
    call.axis(layer.bias, 0, made)
    return _activated(call, made)


def _convolution(call: Call) -> Atoms:
    given, layer = call.given, call.layer
    _channels_last(call)
    if layer.groups != 1:
        raise NotUnderstoodError("its convolution is in groups")
    transposed = "Transpose" in type(layer).__name__
    made = call.made("filters", call.output_shape[-1])
    call.axis(layer.kernel, -1 if transposed else -2, given)
    call.axis(layer.kernel, -2 if transposed else -1, made)
    call.axis(layer.bias, 0, made)
    return _activated(call, made)


def _depthwise(call: Call) -> Atoms:
    """Kernel (…, channels, multiplier); output channel c·multiplier + m is of input channel c."""
    given, layer = call.given, call.layer
    _channels_last(call)
    made = np.repeat(given, layer.depth_multiplier)
    call.axis(layer.depthwise_kernel, -2, given)
    call.axis(layer.bias, 0, made)
    return _activated(call, made)


def _separable(call: Call) -> Atoms:
    given, layer = call.given, call.layer
    _channels_last(call)
    made = call.made("filters", call.output_shape[-1])
    call.axis(layer.depthwise_kernel, -2, given)
    call.axis(layer.pointwise_kernel, -2, np.repeat(given, layer.depth_multiplier))
    call.axis(layer.pointwise_kernel, -1, made)
    call.axis(layer.bias, 0, made)
    return _activated(call, made)


def _embedding(call: Call) -> Atoms:
    _ = call.given  # token numbers: (b, n) or (b,)
    made = call.made("output_dim", call.output_shape[-1])
    call.axis(call.layer.embeddings, 1, made)
    return made


# ── several inputs ────────────────────────────────────────────────────────────────────────────────────────────────


def _merge(call: Call) -> Atoms:
    """Element by element: what meets is one class. A single channel that is spread over many stays."""
    widest = max(call.inputs, key=len)
    if any(len(one) not in (1, len(widest)) for one in call.inputs):
        raise NotUnderstoodError("its inputs have different numbers of channels")
    for one in call.inputs:
        if len(one) == len(widest):
            call.tracer.unite(widest, one)
        else:
            call.tracer.freeze(one, f"{call.layer.name} spreads its only channel over others")
    return widest


def _concatenate(call: Call) -> Atoms:
    rank = len(call.output_shape) + 1
    if call.layer.axis % rank == rank - 1:
        return np.concatenate(call.inputs)
    return _merge(call)


# ── shapes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _reshape(call: Call) -> Atoms:
    """Row-major order stays, so the elements of a removed channel are simply left out.

    Positions of the new last axis are removed as a whole: all atoms that meet there are one class.
    """
    _channels_last(call)
    given, (before,), after = call.given, call.shapes, call.output_shape
    if len(given) == after[-1]:
        found = given
    elif None in before or None in after:
        raise NotUnderstoodError("it moves elements between channels and an axis of unknown length")
    else:
        elements = np.tile(given, math.prod(side or 1 for side in before[:-1])).reshape(-1, after[-1] or 1)
        found = elements[0]
        for row in np.unique(elements, axis=0):
            call.tracer.unite(found, row)
    return call.sized("target_shape", found) if hasattr(call.layer, "target_shape") else found


# ── TensorFlow's operations on Keras tensors ──────────────────────────────────────────────────────────────────────


def _operation(call: Call) -> Atoms:
    """`tf.nn.relu(x)`, `x + 3`, `x * y`: those of the lists above, with plain numbers or Keras tensors."""
    name = call.layer.symbol
    others = [one for one in call.arguments if not hasattr(one, "_keras_history")]
    plain = all(one is None or isinstance(one, (int, float, bool, str)) or _is_dtype(one) for one in others)
    if not plain or any(len(shape) < 1 for shape in call.shapes):
        raise NotUnderstoodError(f"tf.{name} has a constant for each channel")
    if len(call.inputs) == 1 and (name in UNARY_OPS or name in WITH_NUMBER):
        return call.given
    if len(call.inputs) == 2 and name in BINARY_OPS and len(set(map(len, call.shapes))) == 1:
        return _merge(call)
    return _unknown(call)


def _is_dtype(value: object) -> bool:
    return type(value).__name__ == "DType"


# ── what rules share ──────────────────────────────────────────────────────────────────────────────────────────────


def _channels_last(call: Call) -> None:
    if getattr(call.layer, "data_format", "channels_last") not in ("channels_last", None):
        raise NotUnderstoodError("its channels are first")


def _elementwise(layer: Any) -> None:
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    if name not in ELEMENTWISE:
        raise NotUnderstoodError(f"its activation {name} may mix channels")


def _activated(call: Call, made: Atoms) -> Atoms:
    try:
        _elementwise(call.layer)
    except NotUnderstoodError as error:
        call.tracer.freeze(made, str(error))
    return made


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Activation",), _activation),
    **dict.fromkeys(("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Gelu", "ActivityRegularization"), _pass),
    **dict.fromkeys(("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise", "RepeatVector"), _pass),
    **{
        f"{kind}{sides}D": _pass
        for sides in (1, 2, 3)
        for kind in ("SpatialDropout", "ZeroPadding", "Cropping", "UpSampling", "MaxPooling", "AveragePooling")
    },
    **{f"Global{kind}Pooling{sides}D": _pass for sides in (1, 2, 3) for kind in ("Max", "Average")},
    **dict.fromkeys(("BatchNormalization", "SyncBatchNormalization"), _batch_normalization),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), _merge),
    **{f"Conv{sides}D": _convolution for sides in (1, 2, 3)},
    **{f"Conv{sides}DTranspose": _convolution for sides in (1, 2, 3)},
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    "Flatten": _reshape,
    "Reshape": _reshape,
    "Permute": _permute,
    "Rescaling": _rescaling,
    "Resizing": _pass,
    "PReLU": _prelu,
    "Dense": _dense,
    "Embedding": _embedding,
    "Concatenate": _concatenate,
    "TFOpLambda": _operation,
}
"""By the name of tf_keras's class, or of edgedl's own."""
