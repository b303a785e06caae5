"""Weight clustering: the weights of a kernel share a few values.

Han et al. 2016, "Deep Compression", arXiv:1510.00149, §3: k-means over a kernel's weights, then training of the shared
values. As TensorFlow Model Optimization does it, weights may change their cluster while training goes on; its wrapper
takes neither nested models nor depthwise kernels, so the values are held here, on the variables (keeping.py).
Zeros that pruning made stay: zero is then one of the values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from edgedl.core.artifacts import AlteredModel, SkippedLayer, TrainedModel, WeightPromise
from edgedl.core.errors import ModelError
from edgedl.core.files import gzip_size
from edgedl.core.isolation import Limits
from edgedl.pipeline.compress.base import Alteration, Altered, Bench
from edgedl.pipeline.compress.fine_tune import fine_tune
from edgedl.pipeline.compress.kmeans import linear, lloyd, plus_plus

if TYPE_CHECKING:
    from edgedl.models import KerasModel


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
    centroids: Literal["kmeans++", "linear"] = Field(
        default="kmeans++", description="Where the shared values begin: drawn apart from each other, or equally spaced."
    )
    depthwise: bool | None = Field(
        default=None, description="Depthwise kernels too; unless given, when they hold at least 5 % of the weights."
    )

    def alter(self, model: KerasModel, bench: Bench) -> Altered:
        """Cluster it and train the shared values. Raises ConfigError, ModelError."""
        from edgedl.pipeline.compress.keeping import SharedValues, keeping, kernel_of
        from edgedl.pipeline.compress.kernels import Kernel, chosen, kernels_of, without_depthwise

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
        ours: list[Kernel] = []
        centroids: list[NDArray[np.float32]] = []
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
            free = values.ravel() if mask is None else values[mask]
            zero = int(mask is not None and not mask.all())
            centroids.append(self._start(free, k - zero, bench.seed + len(ours)))
            sparsity, pattern = (earlier.sparsity, earlier.pattern) if earlier else (None, None)
            promises.append(WeightPromise(kernel.layer, kernel.name, kernel.shape, sparsity, pattern, clusters=k))
        if not ours:
            raise ModelError(
                "no layer of this model can be clustered",
                required="a layer with a kernel of more distinct values than clusters",
                received="; ".join(f"{one.layer}: {one.reason}" for one in skipped[:3]) or "a model without weights",
            )
        shared = SharedValues(ours, centroids, masks)
        shared.project()
        history: tuple[Mapping[str, float], ...] = ()
        how = "without training"
        if self.fine_tune is not None:
            renewed = {(one.layer, one.weight) for one in promises}
            others = [one for one in before if (one.layer, one.weight) not in renewed]
            history = fine_tune(
                model, bench, self.fine_tune, callbacks=[shared, *keeping(everything, others)], keep=False
            )
            how = f"shared values trained for {self.fine_tune.epochs} epochs"
        size = sum(kernel.size for kernel in ours)
        most = sorted({one.clusters or 0 for one in promises})
        zeros = f", {sum(mask is not None for mask in masks)} of them with zero kept" if pruned else ""
        said = (
            f"{size:,} weights in {len(ours)} kernels{zeros} share at most {' or '.join(map(str, most))} values a "
            f"kernel ({self.centroids}): {how}"
        )
        return Altered(
            model,
            promises=tuple(promises),
            skipped=tuple(skipped),
            history=history,
            said=(said, *([depthwise] if depthwise else [])),
            figures={"clustered_weights": size, "clusters": most[-1]},
        )

    def _start(self, values: NDArray[Any], k: int, seed: int) -> NDArray[np.float32]:
        start = linear(values, k) if self.centroids == "linear" else plus_plus(values, k, seed)
        return lloyd(values, start)

    def finish(self, path: Path, model: TrainedModel, limits: Limits) -> tuple[str, ...]:
        """What the shared values bring in the file's bytes."""
        from edgedl.pipeline.compress.stored import by_channel, stored_weights

        promises = model.promises if isinstance(model, AlteredModel) else ()
        names = {one.layer for one in promises if one.clusters is not None}
        saved = 0
        for one in stored_weights(path, model.layers):
            if one.layer not in names:
                continue
            rows = by_channel(one) if one.per_channel and one.channels is not None else one.values.reshape(1, -1)
            counts = [len(np.unique(row)) for row in rows]
            bits = max(1, math.ceil(math.log2(max(counts))))
            packed = math.ceil(one.values.size * bits / 8) + sum(counts) * one.values.itemsize
            saved += max(0, one.values.nbytes - packed)
        raw = path.stat().st_size
        return (
            f"shared values: {raw:,} B, as without clustering, and {gzip_size(path):,} B gzipped (measured): smaller "
            f"only when compressed; with indices and codebooks it would take {raw - saved:,} B (estimated: no runtime "
            "here reads them)",
        )


def _obstacle(values: NDArray[Any], k: int) -> str:
    """Why a kernel is not clustered; "" if it is."""
    if k == 0:
        return "left out by `layers`"
    if not np.isfinite(values).all():
        return "its weights are not finite"
    if len(np.unique(values)) <= k:
        return f"it has at most {k} distinct values as it is"
    return ""
