"""What the alterations promised of a model's weights, looked up in the file that an app ships."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgedl.core.artifacts import KeptPromise, TrainedModel, WeightPromise
from edgedl.core.errors import StageError
from edgedl.pipeline.compress.masks import is_two_in_four
from edgedl.pipeline.compress.stored import Stored, along_inputs, by_channel, stored_weights

TOLERANCE = 0.005
"""Sparsity may be this far (half a point) from what was promised."""


def kept_promises(path: Path, promises: Sequence[WeightPromise], model: TrainedModel) -> tuple[KeptPromise, ...]:
    """Every promise with what the .tflite file holds. Raises StageError when one is not kept, or no weights of the file
    can be those that it is about."""
    if not promises:
        return ()
    weights = stored_weights(path, model.layers)
    found: list[KeptPromise] = []
    for promise in sorted(promises, key=lambda one: not _named(one, weights)):
        stored = _holder(promise, weights)
        if stored is None:
            raise StageError(
                f"the weights of {promise.layer}/{promise.weight} are not in {path.name}",
                required=f"{math.prod(promise.shape):,} values, as promised: {_words(promise)}",
                received="no constant of that size",
            )
        weights.remove(stored)
        found.append(_compared(promise, stored))
    for one in found:
        if not one.kept:
            share = f"{100 * one.sparsity:.1f} % zeros, {one.distinct} distinct values"
            raise StageError(
                f"{path.name} does not keep what was promised of {one.promise.layer}/{one.promise.weight}",
                required=_words(one.promise),
                received=f"{share}{' in a channel' if one.per_channel else ''}",
            )
    order = {(one.layer, one.weight): i for i, one in enumerate(promises)}
    return tuple(sorted(found, key=lambda one: order[one.promise.layer, one.promise.weight]))


def _words(promise: WeightPromise) -> str:
    told: list[str] = []
    if promise.sparsity is not None:
        pattern = f" in pattern {promise.pattern}" if promise.pattern not in (None, "unstructured") else ""
        told.append(f"{100 * promise.sparsity:.1f} % zeros{pattern}")
    if promise.clusters is not None:
        told.append(f"at most {promise.clusters} distinct values")
    return ", ".join(told)


def _named(promise: WeightPromise, weights: Sequence[Stored]) -> bool:
    return any(one.layer == promise.layer for one in weights)


def _holder(promise: WeightPromise, weights: Sequence[Stored]) -> Stored | None:
    """The constant that holds a kernel: of its layer by the names in the file, else one whose name does not tell, else
    one under another name that fits (ops that were fused bear several)."""
    wants_depthwise = "depthwise" in promise.weight

    def likeness(one: Stored) -> tuple[bool, bool, bool, bool]:
        other_kind = one.op.startswith("DEPTHWISE") != wants_depthwise
        return one.layer != promise.layer, one.layer is not None, other_kind, not _compared(promise, one).kept

    same = [one for one in weights if one.values.size == math.prod(promise.shape)]
    fitting = [one for one in same if one.layer in (promise.layer, None) or _compared(promise, one).kept]
    return min(fitting, key=likeness, default=None)


def _compared(promise: WeightPromise, stored: Stored) -> KeptPromise:
    zeros = 1.0 - np.count_nonzero(stored.values) / stored.values.size
    distinct, per_channel = _distinct(stored, promise)
    kept = zeros < 1.0
    if promise.sparsity is not None:
        kept &= zeros >= promise.sparsity - TOLERANCE
        exact = stored.values.dtype.kind == "f" and by_channel(stored).any(axis=1).all()
        kept &= not exact or zeros <= promise.sparsity + TOLERANCE  # rounding, and dead channels, add zeros
    if promise.pattern == "2:4":
        kept &= is_two_in_four(along_inputs(stored))
    if promise.clusters is not None:
        kept &= distinct <= promise.clusters
    return KeptPromise(promise, stored.tensor, float(zeros), distinct, per_channel, bool(kept))


def _distinct(stored: Stored, promise: WeightPromise) -> tuple[int, bool]:
    """Number of distinct values, and whether the largest channel's was counted."""
    whole = len(np.unique(stored.values))
    by_channels = stored.channels is not None and (stored.per_channel or promise.grid)
    if not by_channels or promise.clusters is None or whole <= promise.clusters:
        return whole, False
    return max(len(np.unique(row)) for row in by_channel(stored)), True
