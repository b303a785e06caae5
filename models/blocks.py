"""Parts that several families of convolutional networks are built of."""

from __future__ import annotations

from typing import Literal

from edgedl.core.errors import ModelError
from edgedl.models.base import BN_MOMENTUM, KerasTensor

Activation = Literal["relu", "relu6", "hard-swish", "linear"]

SMALL_SIDE = 96
"""Images with a shorter side than this keep their resolution in the stem; ImageNet's stems would leave nothing."""


def require_image(shape: tuple[int, ...], *, smallest: int, family: str) -> None:
    """Raise ModelError unless `shape` is (h, w, c) with sides of at least `smallest`."""
    if len(shape) != 3 or min(shape[:2]) < smallest:
        raise ModelError(
            f"family {family} cannot take this data",
            required=f"images of shape (height, width, channels), sides of at least {smallest}",
            received=f"shape {shape}",
            advice="Use family mlp for data that are no images",
        )


def is_small(shape: tuple[int, ...]) -> bool:
    """Whether an image (h, w, c) needs the stem for small images."""
    return min(shape[:2]) < SMALL_SIDE


def divisible(channels: float, by: int = 8) -> int:
    """The multiple of `by` nearest to `channels`, never less than 90 % of it (Sandler et al. 2018, reference code)."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def activate(x: KerasTensor, activation: Activation, *, name: str) -> KerasTensor:
    """One activation; shape unchanged."""
    from tf_keras import layers

    if activation == "hard-swish":
        from edgedl.models.layers.activations import hard_silu

        return layers.Activation(hard_silu, name=f"{name}_hard_swish")(x)
    if activation == "linear":
        return x
    return layers.ReLU(6.0 if activation == "relu6" else None, name=f"{name}_{activation}")(x)


def conv_bn(
    x: KerasTensor,
    filters: int,
    kernel: int | tuple[int, int],
    *,
    name: str,
    strides: int | tuple[int, int] = 1,
    activation: Activation = "relu",
) -> KerasTensor:
    """Convolution, BatchNorm, activation: (b, h, w, c) → (b, ⌈h/s⌉, ⌈w/s⌉, filters)."""
    from tf_keras import layers

    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(momentum=BN_MOMENTUM, name=f"{name}_bn")(x)
    return activate(x, activation, name=name)


def depthwise_bn(
    x: KerasTensor, kernel: int, *, name: str, strides: int = 1, activation: Activation = "relu"
) -> KerasTensor:
    """Depthwise convolution, BatchNorm, activation: (b, h, w, c) → (b, ⌈h/s⌉, ⌈w/s⌉, c)."""
    from tf_keras import layers

    x = layers.DepthwiseConv2D(kernel, strides=strides, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(momentum=BN_MOMENTUM, name=f"{name}_bn")(x)
    return activate(x, activation, name=name)


def finish(x: KerasTensor, dropout: float) -> KerasTensor:
    """Global average and dropout: (b, h, w, c) → (b, c)."""
    from tf_keras import layers

    x = layers.GlobalAveragePooling2D(name="average")(x)
    return layers.Dropout(dropout, name="dropout")(x) if dropout else x
