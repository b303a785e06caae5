"""Bias correction: the mean error that quantization puts on each output channel, taken out of the bias.

Nagel et al. 2019, arXiv:1906.04721, §4.2, eq. 17: E[y] = E[ỹ] − E[ε x]. Empirical (their appendix D): the means are
taken on calibration examples, layer after layer, with the layers before already quantized and corrected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.models.base import KerasModel
from edgedl.pipeline.compress.repair.graph import Both, Graph, kernel_of, linear, walk
from edgedl.pipeline.compress.repair.weights import nearest, rounded_activations


def correct_biases(exact: KerasModel, model: KerasModel, inputs: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    """Correct the biases of `model` in place; what was done. exact: the folded model as it should compute.

    inputs: calibration examples by name, (n, …). Weights stay as they are; the converter rounds them to the nearest.
    """
    shifts: dict[str, float] = {}

    def visit(graph: Graph, other: Any, layer: Any, given: Both) -> Both:
        wanted = linear(other, given.exact, kernel_of(other)) + other.bias
        kernel = nearest(layer, kernel_of(layer).numpy())
        got = linear(layer, rounded_activations(given.changed), kernel)
        shifts[layer.name] = correct_bias(layer, wanted, got + layer.bias)
        return Both(other.activation(wanted), layer.activation(got + layer.bias))

    walk(exact, model, inputs, visit)
    if not shifts:
        return ("no layer has a bias to correct",)
    worst = max(shifts, key=lambda name: shifts[name])
    largest = f"{shifts[worst]:.2g} standard deviations of its channel (layer {worst})"
    return (f"biases of {len(shifts)} layers corrected; the largest mean error was {largest}",)


def correct_bias(layer: Any, wanted: Any, got: Any) -> float:
    """b ← b + E[y] − E[ỹ] of each channel; the largest shift in standard deviations of its channel.

    wanted, got: the outputs before the activation, (n, …, channels), without and with quantization.
    """
    flat = wanted.numpy().reshape(-1, wanted.shape[-1]).astype(np.float64)
    error = flat.mean(axis=0) - got.numpy().reshape(flat.shape).mean(axis=0, dtype=np.float64)
    layer.bias.assign(layer.bias.numpy() + error.astype(np.float32))
    spread = flat.std(axis=0)
    return float((np.abs(error)[spread > 0] / spread[spread > 0]).max(initial=0.0))
