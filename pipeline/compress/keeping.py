"""Fine-tuning that keeps what earlier steps of a chain promised: zeros stay zeros, shared values stay shared.

After every step the weights are projected back (projected gradient descent): pruned ones to zero (Zhu and Gupta 2017,
arXiv:1710.01878, §3), clustered ones to the nearest shared value, which moves with them (Han et al. 2016,
arXiv:1510.00149, §3). It is done to the variables, without wrapping layers: so nested models, shared layers, depthwise
kernels and training steps of a task's own are no special case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tf_keras
from numpy.typing import NDArray

from edgedl.core.artifacts import WeightPromise
from edgedl.pipeline.compress.kernels import Kernel


class Projection(tf_keras.callbacks.Callback):
    """Projects weights before each training step, before validation, and at the end of each epoch.

    `advance` runs before step 1, 2, … of the whole training; `project` brings the weights back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.step = 0

    def advance(self, step: int) -> None:
        """What changes before a step."""

    def project(self) -> None:
        """Bring the weights back to what is promised."""
        raise NotImplementedError

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before the step that is the next one."""
        self.step += 1
        self.advance(self.step)
        self.project()

    def on_test_begin(self, logs: Any = None) -> None:
        """Validation sees what would be exported."""
        self.project()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """The last epoch's end is the result."""
        self.project()


class Masks(Projection):
    """Keeps the zeros of some kernels."""

    def __init__(self, kernels: Sequence[Kernel], masks: Sequence[NDArray[np.bool_]] | None = None) -> None:
        """masks: True for what stays; None: what is not zero now."""
        import tensorflow as tf

        super().__init__()
        self.kernels = list(kernels)
        start = masks if masks is not None else [one.variable.numpy() != 0.0 for one in kernels]
        self.masks = [tf.Variable(tf.constant(one, tf.float32), trainable=False) for one in start]

        @tf.function
        def apply() -> None:
            for one, mask in zip(self.kernels, self.masks, strict=True):
                one.variable.assign(one.variable * mask)

        self._apply = apply

    def project(self) -> None:
        """weights × mask."""
        if self.kernels:
            self._apply()

    def kept(self) -> list[NDArray[np.bool_]]:
        """The masks as they are."""
        return [mask.numpy() != 0.0 for mask in self.masks]


def kernel_of(kernels: Sequence[Kernel], promise: WeightPromise) -> Kernel | None:
    """The kernel that a promise is about, where the model still has it in that shape."""
    named = (one for one in kernels if (one.layer, one.name) == (promise.layer, promise.weight))
    return next((one for one in named if one.shape == promise.shape), None)


class Rounding(Projection):
    """Keeps each of some kernels at a few distinct values.

    Behind each kernel stands a latent one that takes the optimizer's steps; the kernel itself is the latent one
    rounded (the straight-through estimator, Bengio et al. 2013, arXiv:1308.3432), so that a weight that goes one way
    for long arrives at another value.
    """

    def __init__(self, kernels: Sequence[Kernel], masks: Sequence[NDArray[np.bool_] | None]) -> None:
        """masks: False for what stays zero; None: nothing has to."""
        import tensorflow as tf

        super().__init__()
        self.kernels = list(kernels)
        self._latent = [tf.Variable(one.variable, trainable=False) for one in kernels]
        self._shown = [tf.Variable(one.variable, trainable=False) for one in kernels]
        self._masks = [
            tf.ones(one.shape, tf.bool) if mask is None else tf.constant(mask)
            for one, mask in zip(kernels, masks, strict=True)
        ]

        @tf.function
        def apply() -> None:
            for i, (kernel, latent, shown) in enumerate(zip(self.kernels, self._latent, self._shown, strict=True)):
                latent.assign_add(kernel.variable - shown)
                shown.assign(tf.where(self._masks[i], self.rounded(i, latent, self._masks[i]), 0.0))
                kernel.variable.assign(shown)

        self._apply = apply

    def rounded(self, i: int, latent: Any, free: Any) -> Any:
        """The latent values of kernel i, rounded; where not `free`, whatever it is, zero is taken."""
        raise NotImplementedError

    def project(self) -> None:
        """Every weight to one of the values."""
        if self.kernels:
            self._apply()


class SharedValues(Rounding):
    """Each kernel has a few values of its own, which are trained: each the mean of the latent ones that are nearest to
    it (one step of Lloyd's k-means before every step of training)."""

    def __init__(
        self,
        kernels: Sequence[Kernel],
        centroids: Sequence[NDArray[np.float32]],
        masks: Sequence[NDArray[np.bool_] | None],
    ) -> None:
        """centroids: the distinct values besides zero, of each kernel."""
        import tensorflow as tf

        self.centroids = [tf.Variable(tf.constant(np.sort(one)), trainable=False) for one in centroids]
        super().__init__(kernels, masks)

    def rounded(self, i: int, latent: Any, free: Any) -> Any:
        """To the nearest shared value, once these have moved."""
        import tensorflow as tf

        centroids, n = self.centroids[i], len(self.centroids[i])
        nearest = tf.searchsorted((centroids[1:] + centroids[:-1]) / 2.0, tf.reshape(latent, [-1]))
        values, chosen = tf.reshape(latent, [-1]), tf.where(tf.reshape(free, [-1]), nearest, n)
        sums = tf.math.unsorted_segment_sum(values, chosen, n + 1)[:n]
        counts = tf.math.unsorted_segment_sum(tf.ones_like(values), chosen, n + 1)[:n]
        centroids.assign(tf.sort(tf.where(counts > 0.0, sums / tf.maximum(counts, 1.0), centroids)))
        return tf.reshape(tf.gather(centroids, nearest), latent.shape)


class Grid(Rounding):
    """Each kernel's values are whole multiples of a step, as symmetric fake quantization has them (Jacob et al. 2018,
    arXiv:1712.05877, §3; Krishnamoorthi 2018, arXiv:1806.08342, §2.3): the largest magnitude of an output channel is
    `levels` steps."""

    def __init__(
        self, kernels: Sequence[Kernel], levels: Sequence[int], masks: Sequence[NDArray[np.bool_] | None]
    ) -> None:
        """levels: steps on either side of zero, of each kernel."""
        self.levels = list(levels)
        super().__init__(kernels, masks)

    def rounded(self, i: int, latent: Any, free: Any) -> Any:
        """To the nearest multiple of the step that the largest latent magnitude makes."""
        import tensorflow as tf

        magnitudes = tf.where(free, tf.abs(latent), 0.0)
        largest = tf.reduce_max(magnitudes, axis=self.kernels[i].axes_of_a_scale, keepdims=True)
        step = largest / float(self.levels[i])
        return tf.round(tf.math.divide_no_nan(latent, step)) * step


def distinct(kernel: Kernel, promise: WeightPromise) -> int:
    """Number of distinct values that the kernel has now: in all, or in the output channel that has most where the
    promise counts so."""
    values = kernel.variable.numpy()
    axes = kernel.axes_of_a_scale
    if not promise.grid or len(axes) == values.ndim:
        return len(np.unique(values))
    channels = np.moveaxis(values, axes, range(len(axes))).reshape(math.prod(values.shape[axis] for axis in axes), -1)
    return max(len(np.unique(one)) for one in channels.T)


def levels_of(clusters: int) -> int:
    """Steps on either side of zero of a grid of at most so many values."""
    return (clusters - 1) // 2


def keeping(kernels: Sequence[Kernel], promises: Sequence[WeightPromise]) -> list[Projection]:
    """Callbacks of tf_keras under which training keeps the promises that the kernels hold now.

    A promise of a kernel that is not there, or has another shape, is left alone.
    """
    held = [(kernel, one) for one in promises if (kernel := kernel_of(kernels, one)) is not None]
    shared = [(kernel, one) for kernel, one in held if one.clusters is not None]
    masked = [kernel for kernel, one in held if one.clusters is None and one.sparsity is not None]
    found: list[Projection] = []
    if masked:
        found.append(Masks(masked))
    for grid in (False, True):
        ours = [pair for pair in shared if pair[1].grid == grid]
        if not ours:
            continue
        values = [kernel.variable.numpy() for kernel, _ in ours]
        masks = [None if pair[1].sparsity is None else one != 0.0 for one, pair in zip(values, ours, strict=True)]
        rounded = [kernel for kernel, _ in ours]
        if grid:
            found.append(Grid(rounded, [levels_of(one.clusters or 0) for _, one in ours], masks))
        else:
            centroids = [np.unique(one if mask is None else one[mask]) for one, mask in zip(values, masks, strict=True)]
            found.append(SharedValues(rounded, centroids, masks))
    return found


def still_held(kernels: Sequence[Kernel], promises: Sequence[WeightPromise]) -> list[WeightPromise]:
    """The promises that the model's kernels keep as they are now."""
    found: list[WeightPromise] = []
    for one in promises:
        kernel = kernel_of(kernels, one)
        if kernel is None:
            continue
        values = kernel.variable.numpy()
        zeros = 1.0 - np.count_nonzero(values) / values.size
        if one.sparsity is not None and zeros < one.sparsity - TOLERANCE:
            continue
        if one.clusters is not None and distinct(kernel, one) > one.clusters:
            continue
        found.append(one)
    return found


TOLERANCE = 0.005
"""Sparsity may be this far (half a point) from what was promised."""
