"""AdaRound: each weight rounded up or down so that the layer's output, not the weight itself, is closest.

Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization", ICML, arXiv:2004.10568: weights
W̃ = s·clip(⌊W/s⌋ + h(V), −127, 127) (eq. 22) with the rectified sigmoid h (eq. 23) minimise ‖f(Wx) − f(W̃x̂)‖² + λ Σ 1 −
|2h − 1|^β (eq. 24, 25), layer by layer, x̂ being the input with all layers before rounded already and f the activation.
The chosen integers are written back as multiples of the scale, of which each channel's largest weight stays ±127: the
converter finds the same scale and so the same integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.models.base import KerasModel
from edgedl.pipeline.compress.repair.bias_correction import correct_bias
from edgedl.pipeline.compress.repair.graph import (
    Both,
    Graph,
    activation_after,
    by_output,
    kernel_of,
    linear,
    walk,
)
from edgedl.pipeline.compress.repair.weights import LARGEST, rounded_activations, scales_of

ZETA, GAMMA = 1.1, -0.1
LEARNING_RATE, BATCH = 1e-2, 32
LAMBDA, WARM_UP, BETA = 5.0, 0.2, (20.0, 2.0)
"""λ, the share of steps before it counts, and β from first to last. The error is taken in units of the one that nearest
rounding makes, times the number of weights, so that λ means the same for every layer; the paper's 0.01 belongs to the
bare error. Of 0.01, 0.1, 1 and 5, tried on five layers, 5 left the smallest errors."""


def round_weights(
    exact: KerasModel,
    model: KerasModel,
    inputs: Mapping[str, NDArray[Any]],
    *,
    iterations: int,
    seed: int,
    correct: bool,
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int8]]]:
    """Round the kernels of `model` in place; what was done, and the integers by layer, shape as the kernel.

    exact: the folded model as it should compute. inputs: calibration examples by name, (n, …). correct: biases too, of
    what rounding leaves (`bias_correction`). A layer keeps nearest rounding where nothing better was found.
    """
    integers: dict[str, NDArray[np.int8]] = {}
    gains: dict[str, float] = {}

    def visit(graph: Graph, other: Any, layer: Any, given: Both) -> Both:
        wanted = linear(other, given.exact, kernel_of(other)) + other.bias
        x, activation = rounded_activations(given.changed), activation_after(graph, layer)
        kernel = kernel_of(layer).numpy()
        chosen, gains[layer.name] = best_rounding(
            layer, x, kernel, activation, activation(wanted), iterations=iterations, seed=seed
        )
        integers[layer.name] = chosen.astype(np.int8).reshape(kernel.shape)
        kernel_of(layer).assign((chosen * scales_of(layer, kernel)).reshape(kernel.shape))
        got = linear(layer, x, kernel_of(layer))
        if correct:
            correct_bias(layer, wanted, got + layer.bias)
        return Both(other.activation(wanted), layer.activation(got + layer.bias))

    walk(exact, model, inputs, visit)
    better = [name for name, gain in gains.items() if gain < 1.0]
    if not gains:
        return ("no layer to round",), integers
    mean = float(np.exp(np.mean(np.log([max(gain, 1e-6) for gain in gains.values()]))))
    n = len(next(iter(inputs.values())))
    said = (
        f"weights of {len(better)} of {len(gains)} layers rounded anew, {iterations} steps each; their outputs' "
        f"squared errors are {mean:.2f} times those of nearest rounding (geometric mean, {n} calibration examples)"
    )
    return (said, *(("biases corrected after it",) if correct else ())), integers


def best_rounding(
    layer: Any,
    x: Any,
    kernel: NDArray[np.float32],
    activation: Callable[[Any], Any],
    target: Any,
    *,
    iterations: int,
    seed: int,
) -> tuple[NDArray[np.float64], float]:
    """Integers of the kernel (values of a channel, channels), and their squared error over that of nearest rounding.

    x: (n, …), the layer's input with quantization before it; target: (n, …, channels), the output without.
    """
    import tensorflow as tf
    import tf_keras

    scales = scales_of(layer, kernel)
    ratio = by_output(layer, kernel).astype(np.float64) / scales
    low = np.floor(ratio)
    # Zeros stay zero (pruned weights), and each channel's largest weight stays the one that makes the scale.
    fixed = (ratio == low) | (np.abs(ratio) > LARGEST - 0.5)
    plain = np.clip(np.round(ratio), -LARGEST, LARGEST)

    def error_of(integers: NDArray[np.float64]) -> float:
        weights = tf.constant((integers * scales).reshape(kernel.shape), tf.float32)
        return float(tf.reduce_mean((activation(linear(layer, x, weights) + layer.bias) - target) ** 2))

    usual = error_of(plain)
    if not usual or fixed.all():
        return plain, 1.0
    start = np.clip((np.clip(ratio - low, 0.01, 0.99) - GAMMA) / (ZETA - GAMMA), 1e-3, 1 - 1e-3)
    v: Any = tf.Variable(tf.constant(-np.log(1.0 / start - 1.0), tf.float32))
    optimizer = tf_keras.optimizers.Adam(LEARNING_RATE)
    optimizer.build([v])
    base, held, step = (tf.constant(one, tf.float32) for one in (low, fixed, scales))
    whole = tf.constant(plain, tf.float32)
    free = float((~fixed).sum())

    def up() -> Any:
        return tf.clip_by_value(tf.sigmoid(v) * (ZETA - GAMMA) + GAMMA, 0.0, 1.0)

    @tf.function
    def train(positions: Any, betas: Any, lambdas: Any) -> None:
        for i in tf.range(iterations):
            some, wanted = tf.gather(x, positions[i]), tf.gather(target, positions[i])
            with tf.GradientTape() as tape:
                h = up()
                soft = held * whole + (1.0 - held) * tf.clip_by_value(base + h, -LARGEST, LARGEST)
                weights = tf.reshape(soft * step, kernel.shape)
                error = tf.reduce_mean((activation(linear(layer, some, weights) + layer.bias) - wanted) ** 2)
                regular = tf.reduce_sum((1.0 - held) * (1.0 - tf.abs(2.0 * h - 1.0) ** betas[i]))
                loss = free * error / usual + lambdas[i] * regular
            optimizer.apply_gradients([(tape.gradient(loss, v), v)])

    random, n = np.random.default_rng(seed), len(x)
    batches = np.stack([random.choice(n, min(BATCH, n), replace=False) for _ in range(iterations)])
    counted = np.arange(iterations) >= WARM_UP * iterations
    done = np.clip(np.arange(iterations) / iterations - WARM_UP, 0.0, None) / (1.0 - WARM_UP)
    betas = BETA[1] + 0.5 * (BETA[0] - BETA[1]) * (1.0 + np.cos(np.pi * done))
    train(
        tf.constant(batches, tf.int32),
        tf.constant(betas, tf.float32),
        tf.constant(np.where(counted, LAMBDA, 0.0), tf.float32),
    )
    chosen = np.where(fixed, plain, np.clip(low + (up().numpy() >= 0.5), -LARGEST, LARGEST))
    gain = error_of(chosen) / usual
    return (chosen, gain) if gain < 1.0 else (plain, 1.0)
