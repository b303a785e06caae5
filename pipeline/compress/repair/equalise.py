"""Cross-layer equalisation: channels of very different sizes made alike, without changing what the model computes.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction", ICCV, arXiv:1906.04721,
§4.1: ReLU(s·x) = s·ReLU(x) for s > 0 (eq. 5), so W₁/s, b₁/s and W₂·s compute the same (eq. 6, 7); s_i = √(r₁ᵢ r₂ᵢ)/r₂ᵢ
(eq. 11) makes the ranges rᵢ of the two sides equal. Pairs are gone through again until nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import SkippedLayer
from edgedl.models.base import KerasModel
from edgedl.pipeline.compress.repair.graph import (
    Both,
    Graph,
    by_input,
    by_output,
    computes,
    graphs_of,
    kernel_of,
    walk,
)

ROUNDS = 40
CONVERGED = 1e-3
BOUND, MARGIN = 6.0, 0.9
"""ReLU6 is ReLU below 6: a channel takes part as long as its values on the calibration data stay below 0.9 × 6."""


@dataclass(frozen=True)
class _Pair:
    """first: the layer whose output channels are scaled; second: the one whose input channels make up for it.

    positions: how many inputs of `second` each channel has (behind a Flatten). bounded: through a ReLU6.
    """

    first: Any
    second: Any
    positions: int
    bounded: bool


def equalise(model: KerasModel, inputs: Mapping[str, NDArray[Any]]) -> tuple[tuple[str, ...], tuple[SkippedLayer, ...]]:
    """Equalise all pairs of a folded model in place; what was done, and layers that are no first of a pair.

    inputs: calibration examples by name, (n, …), which show what reaches a ReLU6.
    """
    pairs: list[_Pair] = []
    skipped: list[SkippedLayer] = []
    for graph in graphs_of(model):
        for layer in (one for one in graph.model.layers if computes(one)):
            found = _pair(graph, layer)
            if isinstance(found, str):
                skipped.append(SkippedLayer(layer.name, type(layer).__name__, found))
            else:
                pairs.append(found)
    if not pairs:
        return ("no two layers in a row that can be equalised",), tuple(skipped)
    peaks = _peaks(model, inputs) if any(pair.bounded for pair in pairs) else {}
    before = max(_spread(pair) for pair in pairs)
    rounds, change = 0, np.inf
    while change >= CONVERGED and rounds < ROUNDS:
        change = max([_equalise_pair(pair, peaks) for pair in pairs])
        rounds += 1
    after = max(_spread(pair) for pair in pairs)
    said = (
        f"{len(pairs)} pairs of layers equalised in {rounds} rounds; the largest and the smallest channel of one layer "
        f"differed by {before:.3g} times, now by {after:.3g}"
    )
    return (said,), tuple(skipped)


def _equalise_pair(pair: _Pair, peaks: dict[str, NDArray[np.float64]]) -> float:
    """Scale one pair; the largest change of a channel, |ln s|."""
    kernel, bias = (one.numpy().astype(np.float64) for one in (kernel_of(pair.first), pair.first.bias))
    other = kernel_of(pair.second).numpy().astype(np.float64)
    first = np.abs(by_output(pair.first, kernel)).max(axis=0)
    second = _ranges_of_inputs(pair, other)
    alive = (first > 0) & (second > 0)
    s = np.ones_like(first)
    s[alive] = np.sqrt(first[alive] * second[alive]) / second[alive]
    if pair.bounded:
        peak, most = peaks[pair.first.name], MARGIN * BOUND
        s = np.where(peak < most, np.maximum(s, peak / most), 1.0)
        peaks[pair.first.name] = peak / s
    kernel_of(pair.first).assign((by_output(pair.first, kernel) / s).reshape(kernel.shape))
    pair.first.bias.assign(bias / s)
    along = np.tile(s, pair.positions)  # Flatten puts the channels of one position after those of the next
    shape = (1,) * (other.ndim - 2) + (-1, 1)
    kernel_of(pair.second).assign(other * along.reshape(shape))
    return float(np.abs(np.log(s)).max())


def _ranges_of_inputs(pair: _Pair, kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    ranges = np.abs(by_input(pair.second, kernel)).max(axis=1)
    return ranges.reshape(pair.positions, -1).max(axis=0)


def _spread(pair: _Pair) -> float:
    """Largest over smallest range of an output channel, dead ones left out."""
    ranges = np.abs(by_output(pair.first, kernel_of(pair.first).numpy())).max(axis=0)
    alive = ranges[ranges > 0]
    return float(alive.max() / alive.min()) if alive.size else 1.0


def _peaks(model: KerasModel, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """By layer, the largest value of each output channel before its activation; at least 0."""
    from edgedl.pipeline.compress.repair.graph import linear

    found: dict[str, NDArray[np.float64]] = {}

    def look(graph: Graph, exact: Any, layer: Any, given: Both) -> Both:
        before = linear(layer, given.exact, kernel_of(layer)) + layer.bias
        found[layer.name] = np.maximum(before.numpy().reshape(-1, before.shape[-1]).max(axis=0), 0.0).astype(np.float64)
        out = layer.activation(before)
        return Both(out, out)

    walk(model, model, inputs, look)
    return found


# --- which layers make a pair ---------------------------------------------------------------------------------------


def _pair(graph: Graph, layer: Any) -> _Pair | str:
    """The pair that the layer begins, or why there is none."""
    from tf_keras import layers

    kind = _activation(layer.activation)
    if kind is None:
        return f"its activation {_name(layer.activation)} does not scale"
    bounded, flat = kind == "bounded", False
    after = graph.only_following(layer)
    while after is not None and not computes(after):
        kind = _passing(after)
        if kind is None:
            return f"{after.name} ({type(after).__name__}) stands between it and the next layer"
        bounded, flat = bounded or kind == "bounded", flat or isinstance(after, layers.Flatten)
        after = graph.only_following(after)
    if after is None:
        return "its output goes to several places, or out of the model"
    channels = by_output(layer, kernel_of(layer).numpy()).shape[1]
    inputs = by_input(after, kernel_of(after).numpy()).shape[0]
    if inputs != channels and not flat:
        return f"{after.name} takes its channels in another order"
    return _Pair(layer, after, inputs // channels, bounded)


def _activation(function: Any) -> str | None:
    """ "free" for one that scales with its input, "bounded" for ReLU6."""
    if _name(function) in {"linear", "relu"}:
        return "free"
    return "bounded" if _name(function) == "relu6" else None


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _passing(layer: Any) -> str | None:
    """The same for a layer that keeps channels apart; None for one that does not, or does not scale."""
    from tf_keras import layers

    if isinstance(layer, layers.Activation):
        return _activation(layer.activation)
    if isinstance(layer, layers.ReLU):
        if layer.threshold:
            return None
        if layer.max_value is None:
            return "free"
        return "bounded" if float(layer.max_value) == BOUND and not layer.negative_slope else None
    free = (
        layers.LeakyReLU, layers.PReLU, layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D,
        layers.MaxPooling1D, layers.MaxPooling2D, layers.AveragePooling1D, layers.AveragePooling2D,
        layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling1D,
        layers.GlobalMaxPooling2D, layers.ZeroPadding1D, layers.ZeroPadding2D, layers.Cropping1D, layers.Cropping2D,
        layers.UpSampling1D, layers.UpSampling2D, layers.Flatten,
    )  # fmt: skip
    return "free" if isinstance(layer, free) else None
