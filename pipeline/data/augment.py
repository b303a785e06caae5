"""Augmentation: a pure function from one batch and a seed to another batch.

Flips, shifts and rotations as in Krizhevsky et al. 2012 ("ImageNet Classification with Deep CNNs", section 4.1) and
Simard et al. 2003 ("Best Practices for CNNs Applied to Visual Document Analysis"); noise as in Bishop 1995 ("Training
with Noise is Equivalent to Tikhonov Regularization"); mixup as in Zhang et al. 2018 ("mixup: Beyond Empirical Risk
Minimization", equation 1).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgedl.core.contract import InputContract
from edgedl.core.errors import ConfigError
from edgedl.pipeline.data.base import Section

if TYPE_CHECKING:
    import tensorflow as tf


class Augment(Section):
    """Random changes to the training examples. All off by default; drawn anew for each example."""

    flip: Literal["horizontal", "vertical", "both"] | None = Field(
        default=None, description="Mirror half of the images left-right, top-bottom, or each of them independently."
    )
    shift: float = Field(default=0.0, ge=0.0, lt=1.0, description="Move by up to this fraction of height and width.")
    rotate: float = Field(default=0.0, ge=0.0, le=180.0, description="Rotate by up to this many degrees, either way.")
    noise: float = Field(
        default=0.0, ge=0.0, description="Add Gaussian noise of this standard deviation to the normalised inputs."
    )
    mixup: float = Field(
        default=0.0,
        ge=0.0,
        description="Mix pairs of examples and targets, in shares from Beta(mixup, mixup); 0.2 is usual.",
    )


def check_augment(augment: Augment, contract: InputContract) -> None:
    """Raise ConfigError if something is asked that only makes sense for images and the input is none."""
    asked = [name for name in ("flip", "shift", "rotate") if getattr(augment, name)]
    if asked and contract.content != "image":
        raise ConfigError(
            f"augment.{asked[0]} is for images",
            required="augment.noise or augment.mixup for this data",
            received=f"inputs of shape {contract.shape} ({contract.content})",
            advice=f"Remove {' and '.join(asked)} from train.augment",
        )


def augment_batch(
    inputs: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor | None,
    *,
    augment: Augment,
    contract: InputContract,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Change a batch at random; the same seed, the same change.

    inputs: (b, *shape) float32, normalised. targets: (b, k) float32, one-hot or values. weights: (b,) float32.
    seed: (2,) int32. All shapes stay as they are. What a shift or rotation uncovers is black (`raw_range[0]`).
    """
    import tensorflow as tf

    seeds = [fold_in(seed, use) for use in range(4)]
    if augment.flip:
        inputs = _flip(inputs, augment.flip, seeds[0])
    if augment.shift or augment.rotate:
        inputs = _move(inputs, augment.shift, math.radians(augment.rotate), contract, seeds[1])
    if augment.noise:
        noise = tf.random.stateless_normal(tf.shape(inputs), seeds[2], stddev=augment.noise, alg="philox")
        inputs = inputs + noise
    if augment.mixup:
        inputs, targets, weights = _mixup(inputs, targets, weights, augment.mixup, seeds[3])
    return inputs, targets, weights


def fold_in(seed: tf.Tensor, number: tf.Tensor | int) -> tf.Tensor:
    """Another seed (2,), independent of the one that any other number gives."""
    import tensorflow as tf

    random: Any = tf.random
    return random.fold_in(seed, number, alg="philox")


def _flip(images: tf.Tensor, which: str, seed: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    shape = tf.stack([2, tf.shape(images)[0], 1, 1, 1])
    coins = tf.random.stateless_uniform(shape, seed, alg="philox") < 0.5
    if which in ("horizontal", "both"):
        images = tf.where(coins[0], tf.reverse(images, [2]), images)
    if which in ("vertical", "both"):
        images = tf.where(coins[1], tf.reverse(images, [1]), images)
    return images


def _move(images: tf.Tensor, shift: float, angle: float, contract: InputContract, seed: tf.Tensor) -> tf.Tensor:
    """Rotate about the centre by up to ±angle (radians), then move by up to ±shift of each side, bilinear."""
    import numpy as np
    import tensorflow as tf

    n, (height, width) = tf.shape(images)[0], contract.shape[:2]
    random = tf.random.stateless_uniform(tf.stack([3, n]), seed, minval=-1.0, maxval=1.0, alg="philox")
    dx, dy, turn = random[0] * (shift * width), random[1] * (shift * height), random[2] * angle
    cos, sin = tf.cos(turn), tf.sin(turn)
    cx, cy = (width - 1) / 2, (height - 1) / 2
    # Each output point (x, y) looks at the input point (cos·u − sin·v + cx, sin·u + cos·v + cy), u = x − cx − dx, …
    u, v = cx + dx, cy + dy
    zeros = tf.zeros_like(turn)
    transforms = tf.stack([cos, -sin, cx - cos * u + sin * v, sin, cos, cy - sin * u - cos * v, zeros, zeros], axis=1)
    low = contract.raw_range[0] if contract.raw_range else 0.0
    black = ((low - np.asarray(contract.mean)) / np.asarray(contract.std)).astype(np.float32)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images - black,
        transforms=transforms,
        output_shape=tf.constant([height, width], tf.int32),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return moved + black


def _mixup(
    inputs: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor | None, alpha: float, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Mix each example with its neighbour in the batch (which is in random order already).

    With weights w, loss (linear in the target, as cross-entropy is) must become λ·wᵢ·loss(yᵢ) + (1−λ)·wⱼ·loss(yⱼ):
    the mixed weight is w = λ·wᵢ + (1−λ)·wⱼ and the mixed target (λ·wᵢ·yᵢ + (1−λ)·wⱼ·yⱼ) / w.
    """
    import tensorflow as tf

    n = tf.shape(inputs)[0]
    # For a, b from Gamma(α), a / (a + b) is from Beta(α, α).
    gammas = tf.random.stateless_gamma(tf.stack([2, n]), seed, tf.constant(alpha))
    share = tf.math.divide_no_nan(gammas[0], gammas[0] + gammas[1])
    share_x = tf.reshape(share, tf.concat([[n], tf.ones([tf.rank(inputs) - 1], tf.int32)], axis=0))
    mixed = share_x * inputs + (1.0 - share_x) * tf.roll(inputs, 1, axis=0)
    if weights is None:
        own = share[:, None]
        return mixed, own * targets + (1.0 - own) * tf.roll(targets, 1, axis=0), None
    own, other = share * weights, (1.0 - share) * tf.roll(weights, 1, axis=0)
    total = own + other
    both = own[:, None] * targets + other[:, None] * tf.roll(targets, 1, axis=0)
    return mixed, tf.math.divide_no_nan(both, total[:, None]), total
