"""Batches for training and evaluation as tf.data, and normalised arrays for everything else.

A run's batches are a pure function of (seed, epoch, batch): the order of an epoch is a stateless permutation, and
augmentation draws stateless random numbers. A run that goes on at epoch k sees what an uninterrupted one would have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.contract import InputContract
from edgedl.pipeline.data.augment import Augment, augment_batch, check_augment, fold_in
from edgedl.pipeline.data.base import Examples, normalize

if TYPE_CHECKING:
    import tensorflow as tf

_ORDER, _CHANGE = 0, 1  # separate streams of random numbers


def training_batches(
    examples: Examples,
    contract: InputContract,
    *,
    batch_size: int,
    seed: int,
    first_epoch: int,
    epochs: int,
    n_classes: int | None,
    augment: Augment | None = None,
    class_weights: Sequence[float] | None = None,
) -> tuple[tf.data.Dataset, int]:
    """Every batch of epochs `first_epoch` to `epochs - 1` (from 0) as one data set, and the number of steps an epoch.

    Elements: inputs (b, *shape) float32, normalised; targets (b, n_classes) one-hot, or (b, k) values when n_classes
    is None, float32; and weights (b,) float32 if `class_weights` (one a class) is given. b is the same for every
    batch, so that one trace, and one XLA program, serves the run: the last batch of an epoch is filled up from the
    start of the epoch's order. b is `batch_size`, or the number of examples if that is smaller.

    Raises ConfigError if the augmentation does not fit the data.
    """
    import tensorflow as tf

    augment = augment or Augment()
    check_augment(augment, contract)
    n = len(examples)
    size = min(batch_size, n)
    steps = -(-n // size)
    read, as_targets = _reader(examples, contract), _target_reader(examples, n_classes)
    random: Any = tf.random
    weight_of = None if class_weights is None else tf.constant(class_weights, tf.float32)
    classes = tf.constant(examples.targets) if weight_of is not None else None

    @tf.autograph.experimental.do_not_convert
    def batches_of(epoch: tf.Tensor) -> tf.data.Dataset:
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        order = random.experimental.stateless_shuffle(tf.range(n, dtype=tf.int64), fold_in(key, _ORDER), alg="philox")
        order = tf.reshape(tf.concat([order, order[: steps * size - n]], axis=0), [steps, size])
        changes = fold_in(key, _CHANGE)
        changes = tf.repeat(changes[None], steps, axis=0)
        return tf.data.Dataset.from_tensor_slices((changes, tf.range(steps, dtype=tf.int64), order))

    @tf.autograph.experimental.do_not_convert
    def assemble(changes: tf.Tensor, step: tf.Tensor, positions: tf.Tensor) -> tuple[tf.Tensor, ...]:
        inputs, targets = read(positions), as_targets(positions)
        weights = None if weight_of is None else tf.gather(weight_of, tf.gather(classes, positions))
        if augment != Augment():
            seeds = fold_in(changes, step)
            inputs, targets, weights = augment_batch(
                inputs, targets, weights, augment=augment, contract=contract, seed=seeds
            )
        inputs = tf.ensure_shape(inputs, (size, *contract.shape))
        return (inputs, targets) if weights is None else (inputs, targets, weights)

    data = tf.data.Dataset.range(first_epoch, epochs).flat_map(batches_of)
    data = data.map(assemble, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return data.prefetch(tf.data.AUTOTUNE), steps


def evaluation_batches(
    examples: Examples, contract: InputContract, batch_size: int, *, n_classes: int | None = None
) -> tf.data.Dataset:
    """One pass in order, as often as it is iterated; the last batch may be smaller.

    Elements: inputs (b, *shape) float32, normalised; targets (b, n_classes) one-hot float32 if n_classes is given,
    else as the examples have them.
    """
    import tensorflow as tf

    read, as_targets = _reader(examples, contract), _target_reader(examples, n_classes)
    data = tf.data.Dataset.range(len(examples)).batch(batch_size)
    pair = tf.autograph.experimental.do_not_convert(lambda positions: (read(positions), as_targets(positions)))
    data = data.map(pair, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return data.prefetch(tf.data.AUTOTUNE)


def examples_array(examples: Examples, contract: InputContract, positions: NDArray[np.int64]) -> NDArray[Any]:
    """The normalised inputs at `positions`, shape (len(positions), *contract.shape)."""
    return normalize(examples.raw(positions), contract)


def balanced_class_weights(targets: NDArray[Any], n_classes: int) -> tuple[float, ...]:
    """n / (n_classes · count of the class): every class weighs the same in sum. 0 for a class without examples."""
    counts = np.bincount(targets, minlength=n_classes)
    return tuple(float(len(targets) / (n_classes * count)) if count else 0.0 for count in counts)


def _reader(examples: Examples, contract: InputContract) -> Callable[[tf.Tensor], tf.Tensor]:
    """Positions (b,) -> normalised inputs (b, *shape), in a tf.data graph."""
    import tensorflow as tf

    read = examples.tensor_reader()
    mean, std = (values.astype(np.float32) for values in contract.scaling())

    def normalized(positions: tf.Tensor) -> tf.Tensor:
        inputs = tf.cast(tf.ensure_shape(read(positions), (None, *contract.shape)), contract.dtype)
        inputs = inputs if not mean.any() else inputs - mean
        return inputs if (std == 1.0).all() else inputs / std

    return normalized


def _target_reader(examples: Examples, n_classes: int | None) -> Callable[[tf.Tensor], tf.Tensor]:
    """Positions (b,) -> one-hot targets (b, n_classes), or targets as they are, in a tf.data graph."""
    import tensorflow as tf

    with tf.device("CPU"):
        held = tf.constant(examples.targets)
    if n_classes is None:
        return lambda positions: tf.gather(held, positions)
    return lambda positions: tf.one_hot(tf.gather(held, positions), n_classes, dtype=tf.float32)
