"""What fine-tuning by itself costs, and which settings bring a pruned model back: the controls of every other figure.

    python -m benchmarks.compress.controls WORK_FOLDER [--sparsity 0.75] [--epochs 5] [--settings "hard 1e-4" …]

WORK_FOLDER is as benchmarks.compress.works leaves it. A setting is `hard` or `distill` (the origin's probabilities in
place of the labels, Hinton et al. 2015 with temperature 1), a learning rate (Adam, cosine to 0), and optionally
`frozen` (BatchNorm keeps its statistics) and `augment` (flip and shift, for images). With --sparsity the smallest
weights of every convolution and dense layer are zero after each step, ever more of them over the first half of the
steps (Zhu & Gupta 2017, eq. 1). Losses are paired, on the test examples, in points.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.compress.peers import arrays
from benchmarks.compress.works import SEED, load_work
from numpy.typing import NDArray

from edgedl.core.statistics import paired_difference

SETTINGS = ("hard 1e-5", "hard 1e-4", "hard 1e-4 frozen", "distill 1e-4", "distill 1e-3", "distill 1e-3 frozen")
BATCH = 64


def main() -> None:
    """One line a setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sparsity", type=float, default=0.0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS))
    given = parser.parse_args()
    from edgedl.models.base import LoadOptions
    from edgedl.models.load import load_any

    work = load_work(given.work)
    (x, y), (x_test, y_test) = arrays(work)
    origin = load_any(Path(work.origin), LoadOptions()).model
    before = right(origin, x_test, y_test)
    print(f"{work.name}: origin {before.mean():.2%} of {len(y_test)}; {len(x)} examples to fine-tune with", flush=True)
    for setting in given.settings:
        begun = time.monotonic()
        model = load_any(Path(work.origin), LoadOptions()).model
        fine_tune(model, origin, x, y, setting.split(), given.epochs, given.sparsity)
        loss = paired_difference(before, right(model, x_test, y_test)).scaled(100.0)
        print(
            f"{setting}, {given.epochs} epochs, sparsity {given.sparsity:.0%}: loss {loss} points, "
            f"{time.monotonic() - begun:.0f} s",
            flush=True,
        )


def right(model: Any, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
    """Which examples it gets right."""
    return model.predict(x, 256, verbose=0).argmax(axis=1) == y


def fine_tune(
    model: Any, origin: Any, x: NDArray[Any], y: NDArray[Any], words: Sequence[str], epochs: int, sparsity: float
) -> None:
    """Train `model` in place by the words of a setting."""
    import tensorflow as tf
    import tf_keras

    tf_keras.utils.set_random_seed(SEED)
    layers = [one for one in model.layers if isinstance(one, tf_keras.layers.BatchNormalization)]
    for layer in layers if "frozen" in words else ():
        layer.trainable = False
    steps = len(x) // BATCH
    rate = tf_keras.optimizers.schedules.CosineDecay(float(words[1]), steps * epochs)
    optimizer = tf_keras.optimizers.Adam(rate)
    kinds = (tf_keras.layers.Conv2D, tf_keras.layers.Dense)
    depthwise = tf_keras.layers.DepthwiseConv2D
    kernels = [one.kernel for one in model.layers if isinstance(one, kinds) and not isinstance(one, depthwise)]

    @tf.function
    def step(batch: Any, labels: Any) -> None:
        if "augment" in words:
            batch = tf.image.random_flip_left_right(batch)
            padded = tf.pad(batch, [[0, 0], [3, 3], [3, 3], [0, 0]], "REFLECT")
            batch = tf.image.random_crop(padded, tf.shape(batch))
        with tf.GradientTape() as tape:
            answer = model(batch, training=True)
            if words[0] == "distill":
                loss = tf.reduce_mean(tf_keras.losses.kld(origin(batch, training=False), answer))
            else:
                loss = tf.reduce_mean(tf_keras.losses.sparse_categorical_crossentropy(labels, answer))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    rng = np.random.default_rng(SEED)
    for number in range(steps * epochs):
        if number % steps == 0:
            order = rng.permutation(len(x))
        chosen = order[number % steps * BATCH :][:BATCH]
        step(tf.constant(x[chosen]), tf.constant(y[chosen]))
        if sparsity:
            done = min(1.0, number / max(1, steps * epochs // 2))
            prune(kernels, sparsity * (1 - (1 - done) ** 3))


def prune(kernels: Sequence[Any], sparsity: float) -> None:
    """Set the smallest weights of each kernel to zero."""
    for kernel in kernels:
        value = kernel.numpy()
        limit = np.quantile(np.abs(value), sparsity)
        kernel.assign(np.where(np.abs(value) <= limit, 0.0, value))


if __name__ == "__main__":
    main()
