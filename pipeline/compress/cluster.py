"""Weight clustering: the weights of a kernel share a few values.

Han et al. 2016, "Deep Compression", arXiv:1510.00149, §3: k-means over a kernel's weights, then training of the shared
values. As TensorFlow Model Optimization does it, weights may change their cluster while training goes on; its wrapper
takes neither nested models nor depthwise kernels, so the values are held here, on the variables (keeping.py).
Zeros that pruning made stay: zero is then one of the values.

On a grid instead, the values of an output channel are whole multiples of a step. Shared values lose themselves in an
int8 file, whose channels are scaled each by its own factor, so that a few values become many codes; those of a grid
are the same few codes in all channels, which is what an entropy coder can use (Choi et al. 2017, "Towards the Limit of
Network Quantization", arXiv:1612.01543, §4: uniform quantization before Huffman coding).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from edgedl.core.artifacts import AlteredModel, SkippedLayer, TrainedModel, WeightPromise
from edgedl.core.config import sentence
from edgedl.core.errors import ModelError
from edgedl.core.files import gzip_size
from edgedl.core.isolation import Limits
from edgedl.pipeline.compress.base import Alteration, Altered, Bench
from edgedl.pipeline.compress.fine_tune import fine_tune
from edgedl.pipeline.compress.kmeans import linear, lloyd, plus_plus

if TYPE_CHECKING:
    from edgedl.models import KerasModel
    from edgedl.pipeline.compress.kernels import Kernel


def _count_or_none(value: int) -> int:
    if value == 1 or value < 0:
        raise PydanticCustomError("clusters", "at least 2 clusters, or 0 to leave a layer out")
    return value


class Cluster(Alteration):
    """A few distinct values in every kernel: fewer bytes once compressed; latency as before."""

    method: Literal["cluster"] = "cluster"
    clusters: int = Field(default=16, ge=2, le=4096, description="Distinct values in every kernel, zero among them.")
    layers: Mapping[str, Annotated[int, AfterValidator(_count_or_none)]] = Field(
        default={}, description="Other numbers, by layer name or pattern (`block*`); 0 leaves a layer out."
    )
    centroids: Literal["kmeans++", "linear", "grid"] = Field(
        default="kmeans++",
        description="Where the shared values begin: drawn apart from each other, or equally spaced. grid: whole "
        "multiples of a step that every output channel has for itself, as many above zero as below: far fewer gzipped "
        "bytes of an int8 file.",
    )
    depthwise: bool | None = Field(
        default=None, description="Depthwise kernels too; unless given, when they hold at least 5 % of the weights."
    )

    @model_validator(mode="after")
    def _grid_has_zero(self) -> Cluster:
        if self.centroids == "grid" and 2 in (self.clusters, *self.layers.values()):
            raise sentence("a grid needs at least 3 clusters: zero, and one on either side")
        return self

    def alter(self, model: KerasModel, bench: Bench) -> Altered:
        """Cluster it and train on. Raises ConfigError, ModelError."""
        from edgedl.pipeline.compress.keeping import Grid, SharedValues, keeping, kernel_of, levels_of
        from edgedl.pipeline.compress.kernels import chosen, kernels_of, without_depthwise

        before = bench.base.promises if isinstance(bench.base, AlteredModel) else ()
        everything, skipped = kernels_of(model)
        pruned = {
            id(kernel.variable): one
            for one in before
            if one.sparsity is not None and (kernel := kernel_of(everything, one))
        }
        kernels, left, depthwise = without_depthwise(everything, self.depthwise)
        counts = chosen(kernels, self.layers, self.clusters, option="cluster: layers")
        skipped = [*skipped, *left]
        grid = self.centroids == "grid"
        ours: list[Kernel] = []
        masks: list[NDArray[np.bool_] | None] = []
        promises: list[WeightPromise] = []
        for kernel, k in zip(kernels, counts, strict=True):
            values = kernel.variable.numpy()
            earlier = pruned.get(id(kernel.variable))
            mask = values != 0.0 if earlier else None
            reason = _obstacle(values, k)
            if reason:
                skipped.append(SkippedLayer(kernel.layer, kernel.kind, reason))
                continue
            ours.append(kernel)
            masks.append(mask)
            sparsity, pattern = (earlier.sparsity, earlier.pattern) if earlier else (None, None)
            promises.append(WeightPromise(kernel.layer, kernel.name, kernel.shape, sparsity, pattern, k, grid))
        if not ours:
            raise ModelError(
                "no layer of this model can be clustered",
                required="a layer with a kernel of more distinct values than clusters",
                received="; ".join(f"{one.layer}: {one.reason}" for one in skipped[:3]) or "a model without weights",
            )
        most_of = [one.clusters or 0 for one in promises]
        if grid:
            rounding = Grid(ours, [levels_of(k) for k in most_of], masks)
        else:
            rounding = SharedValues(ours, self._starts(ours, most_of, masks, bench.seed), masks)
        rounding.project()
        history: tuple[Mapping[str, float], ...] = ()
        how = "without training"
        if self.fine_tune is not None:
            renewed = {(one.layer, one.weight) for one in promises}
            others = [one for one in before if (one.layer, one.weight) not in renewed]
            history = fine_tune(
                model, bench, self.fine_tune, callbacks=[rounding, *keeping(everything, others)], keep=False
            )
            how = f"trained for {self.fine_tune.epochs} epochs"
        if grid:
            promises = [_zeros_counted(one, kernel) for one, kernel in zip(promises, ours, strict=True)]
        size = sum(kernel.size for kernel in ours)
        most = sorted(set(most_of))
        zeros = f", {sum(mask is not None for mask in masks)} of them with zero kept" if pruned else ""
        said = (
            f"{size:,} weights in {len(ours)} kernels{zeros} share at most {' or '.join(map(str, most))} values "
            f"{'an output channel' if grid else 'a kernel'} ({self.centroids}): {how}"
        )
        return Altered(
            model,
            promises=tuple(promises),
            skipped=tuple(skipped),
            history=history,
            said=(said, *([depthwise] if depthwise else [])),
            figures={"clustered_weights": size, "clusters": most[-1]},
        )

    def _starts(
        self, kernels: Sequence[Kernel], counts: Sequence[int], masks: Sequence[NDArray[np.bool_] | None], seed: int
    ) -> list[NDArray[np.float32]]:
        """Shared values to begin with, besides zero where that stays."""
        found: list[NDArray[np.float32]] = []
        for i, (kernel, k, mask) in enumerate(zip(kernels, counts, masks, strict=True), start=1):
            values = kernel.variable.numpy()
            free = values.ravel() if mask is None else values[mask]
            others = k - int(mask is not None and not mask.all())
            start = linear(free, others) if self.centroids == "linear" else plus_plus(free, others, seed + i)
            found.append(lloyd(free, start))
        return found

    def finish(self, path: Path, model: TrainedModel, limits: Limits) -> tuple[str, ...]:
        """What the shared values bring in the file's bytes."""
        from edgedl.pipeline.compress.stored import by_channel, stored_weights

        promises = model.promises if isinstance(model, AlteredModel) else ()
        grids = {one.layer: one.grid for one in promises if one.clusters is not None}
        saved, codes = 0, 0
        for one in stored_weights(path, model.layers):
            if one.layer not in grids:
                continue
            grid = grids[one.layer]
            if not grid and one.per_channel and one.values.dtype.kind != "f":
                codes = max(codes, len(np.unique(one.values)))
            by_channels = one.channels is not None and (one.per_channel or grid)
            rows = by_channel(one) if by_channels else one.values.reshape(1, -1)
            counts = [len(np.unique(row)) for row in rows]
            bits = max(1, math.ceil(math.log2(max(counts))))
            codebooks = len(counts) if grid else sum(counts)  # a grid's is its step
            packed = math.ceil(one.values.size * bits / 8) + codebooks * one.values.itemsize
            saved += max(0, one.values.nbytes - packed)
        raw = path.stat().st_size
        said = (
            f"shared values: {raw:,} B, as without clustering, and {gzip_size(path):,} B gzipped (measured): smaller "
            f"only when compressed; with indices and codebooks it would take {raw - saved:,} B (estimated: no runtime "
            "here reads them)"
        )
        if codes <= self.clusters:
            return (said,)
        lost = f"shared values: {codes} codes in one kernel, as int8 scales every channel by its own factor"
        return said, f"{lost}; `cluster:centroids=grid` keeps them the same in all channels"


def _zeros_counted(promise: WeightPromise, kernel: Kernel) -> WeightPromise:
    """On a grid more weights may have become zero than pruning promised."""
    if promise.sparsity is None:
        return promise
    return replace(promise, sparsity=float(np.mean(kernel.variable.numpy() == 0.0)))


def _obstacle(values: NDArray[Any], k: int) -> str:
    """Why a kernel is not clustered; "" if it is."""
    if k == 0:
        return "left out by `layers`"
    if not np.isfinite(values).all():
        return "its weights are not finite"
    if len(np.unique(values)) <= k:
        return f"it has at most {k} distinct values as it is"
    return ""
