"""Fine-tuning that keeps what earlier steps of a chain promised: zeros stay zeros, shared values stay shared.

After every step the weights are projected back (projected gradient descent): pruned ones to zero (Zhu and Gupta 2017,
arXiv:1710.01878, §3), clustered ones to the nearest shared value, which moves with them (Han et al. 2016,
arXiv:1510.00149, §3). It is done to the variables, without wrapping layers: so nested models, shared layers, depthwise
kernels and training steps of a task's own are no special case.
"""

from __future__ import annotations

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


class SharedValues(Projection):
    """Keeps each of some kernels at a few distinct values, which are trained.

    Behind each kernel stands a latent one that takes the optimizer's steps. Projected, every latent value becomes the
    nearest shared one (the straight-through estimator, Bengio et al. 2013, arXiv:1308.3432), and every shared value
    the mean of those that chose it (one step of Lloyd's k-means), so that a value may change its cluster.
    """

    def __init__(
        self,
        kernels: Sequence[Kernel],
        centroids: Sequence[NDArray[np.float32]],
        masks: Sequence[NDArray[np.bool_] | None],
    ) -> None:
        """centroids: the distinct values besides zero, of each kernel. masks: False for what stays zero; None: nothing
        has to."""
        import tensorflow as tf

        super().__init__()
        self.kernels = list(kernels)
        self.centroids = [tf.Variable(tf.constant(np.sort(one)), trainable=False) for one in centroids]
        self._latent = [tf.Variable(one.variable, trainable=False) for one in kernels]
        self._shown = [tf.Variable(one.variable, trainable=False) for one in kernels]
        self._masks = [None if one is None else tf.constant(one) for one in masks]

        @tf.function
        def apply() -> None:
            for state in zip(self.kernels, self.centroids, self._latent, self._shown, self._masks, strict=True):
                _share(*state)

        self._apply = apply

    def project(self) -> None:
        """Every weight to its shared value."""
        if self.kernels:
            self._apply()


def _share(kernel: Kernel, centroids: Any, latent: Any, shown: Any, mask: Any) -> None:
    import tensorflow as tf

    latent.assign_add(kernel.variable - shown)
    values = tf.reshape(latent, [-1])
    n = len(centroids)
    free = tf.ones_like(values, tf.bool) if mask is None else tf.reshape(mask, [-1])
    nearest = tf.searchsorted((centroids[1:] + centroids[:-1]) / 2.0, values)
    chosen = tf.where(free, nearest, n)
    sums = tf.math.unsorted_segment_sum(values, chosen, n + 1)[:n]
    counts = tf.math.unsorted_segment_sum(tf.ones_like(values), chosen, n + 1)[:n]
    centroids.assign(tf.sort(tf.where(counts > 0.0, sums / tf.maximum(counts, 1.0), centroids)))
    shared = tf.where(free, tf.gather(centroids, nearest), 0.0)
    shown.assign(tf.reshape(shared, shown.shape))
    kernel.variable.assign(shown)


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
    if shared:
        values = [kernel.variable.numpy() for kernel, _ in shared]
        masks = [
            one != 0.0 if promise.sparsity is not None else None
            for one, (_, promise) in zip(values, shared, strict=True)
        ]
        centroids = [np.unique(one if mask is None else one[mask]) for one, mask in zip(values, masks, strict=True)]
        found.append(SharedValues([kernel for kernel, _ in shared], centroids, masks))
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
        if one.clusters is not None and len(np.unique(values)) > one.clusters:
            continue
        found.append(one)
    return found


TOLERANCE = 0.005
"""Sparsity may be this far (half a point) from what was promised."""
