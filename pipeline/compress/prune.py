"""Magnitude pruning: the smallest weights become zero while training goes on.

Zhu and Gupta 2017, "To prune, or not to prune", arXiv:1710.01878, eq. 1: the sparsity rises by a cubic polynomial. So
does `prune_low_magnitude` of TensorFlow Model Optimization (tfmot); where that can prune a model, the same weights stay
(tests/pipeline/compress/test_prune.py). But it leaves depthwise kernels, refuses blocks in convolutions and layers that
it does not know, and keeps too much where values are equal; so the masks are put on the variables here, without
wrappers.
2:4: Mishra et al. 2021, arXiv:2104.08378, §3: in every four values along the input channels two are zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from edgedl.core.artifacts import SkippedLayer, TrainedModel, WeightPromise
from edgedl.core.config import sentence
from edgedl.core.errors import ConfigError, ModelError
from edgedl.core.isolation import Limits
from edgedl.pipeline.compress.base import Alteration, Altered, Bench, FineTune
from edgedl.pipeline.compress.fine_tune import fine_tune, steps_per_epoch
from edgedl.pipeline.compress.masks import largest, largest_blocks, two_in_four

if TYPE_CHECKING:
    from edgedl.models import KerasModel
    from edgedl.pipeline.compress.kernels import Kernel
    from edgedl.pipeline.compress.pruner import Plan

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


def _unread(value: object) -> object:
    """YAML 1.1 reads 2:4 as a number to the base of 60."""
    return "2:4" if value == 2 * 60 + 4 else value


class Prune(Alteration):
    """Zeros among the weights: fewer bytes once compressed; latency as before on dense kernels."""

    training: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-3}
    """What is left has to take over: Renda et al. 2020, arXiv:2003.02389, train on at the rates of the training."""

    method: Literal["prune"] = "prune"
    sparsity: Share = Field(default=0.5, description="Share of zeros in every kernel at the end, 0 to below 1.")
    layers: Mapping[str, Share] = Field(
        default={}, description="Other shares, by layer name or pattern (`block*`); 0 leaves a layer out."
    )
    pattern: Annotated[Literal["unstructured", "block", "2:4"], BeforeValidator(_unread)] = Field(
        default="unstructured", description="How zeros lie: anywhere, in blocks, or two in four along the inputs."
    )
    block: tuple[PositiveInt, PositiveInt] = Field(
        default=(1, 4), description="Of pattern block: outputs × inputs, in the layout of TFLite."
    )
    schedule: Literal["constant", "polynomial"] = Field(
        default="polynomial", description="constant: all at once at begin_epoch; polynomial: little by little."
    )
    begin_epoch: float = Field(default=0.0, ge=0.0, description="When pruning begins, in epochs of `fine_tune`.")
    end_epoch: float | None = Field(
        default=None, gt=0.0, description="When the sparsity is reached; unless given, after two thirds of the epochs."
    )
    frequency: PositiveInt | None = Field(
        default=None, description="Steps between two choices of what is zero; about 50 choices unless given."
    )
    initial_sparsity: Share = Field(default=0.0, description="Where the polynomial begins.")
    depthwise: bool | None = Field(
        default=None, description="Depthwise kernels too; unless given, when they hold at least 5 % of the weights."
    )
    encoding: Literal["dense", "sparse"] = Field(
        default="dense", description="sparse: zeros are not stored in the .tflite file, where kernels can read that."
    )

    @model_validator(mode="after")
    def _patterns(self) -> Prune:
        wrong = [value for value in (self.sparsity, *self.layers.values()) if value not in (0.0, 0.5)]
        message = ""
        if self.pattern == "2:4" and wrong:
            message = f"pattern 2:4 is a sparsity of 0.5, not of {wrong[0]:g}"
        elif self.pattern != "block" and "block" in self.model_fields_set:
            message = "block is the size of pattern block"
        elif self.pattern == "block" and self.block == (1, 1):
            message = "a block of 1 × 1 is pattern unstructured"
        elif self.initial_sparsity > self.sparsity:
            message = "initial_sparsity is above sparsity"
        if message:
            raise sentence(message)
        return self

    def alter(self, model: KerasModel, bench: Bench) -> Altered:
        """Prune it while it is trained on. Raises ConfigError, ModelError."""
        from edgedl.core.artifacts import AlteredModel
        from edgedl.pipeline.compress.keeping import Masks, keeping
        from edgedl.pipeline.compress.kernels import chosen, kernels_of, without_depthwise
        from edgedl.pipeline.compress.pruner import Pruner

        before = bench.base.promises if isinstance(bench.base, AlteredModel) else ()
        if any(one.clusters for one in before):
            raise ConfigError("prune cannot follow cluster", advice="Prune first: prune+cluster keeps the zeros")
        everything, skipped = kernels_of(model)
        kernels, left, depthwise = without_depthwise(everything, self.depthwise)
        targets = chosen(kernels, self.layers, self.sparsity, option="prune: layers")
        skipped = [*skipped, *left]
        pruned: list[tuple[Kernel, float]] = []
        for kernel, target in zip(kernels, targets, strict=True):
            reason = self._obstacle(kernel, target)
            if reason:
                skipped.append(SkippedLayer(kernel.layer, kernel.kind, reason))
            else:
                pruned.append((kernel, target))
        if not pruned:
            raise ModelError(
                "no layer of this model can be pruned",
                required="a layer with a kernel",
                received="; ".join(f"{one.layer}: {one.reason}" for one in skipped[:3]) or "a model without weights",
            )
        ours = [kernel for kernel, _ in pruned]
        others = [one for one in before if not any((one.layer, one.weight) == (k.layer, k.name) for k in ours)]
        history: tuple[Mapping[str, float], ...] = ()
        if self.fine_tune is None:
            masks = Masks(ours, [self.mask(k, k.variable.numpy(), target) for k, target in pruned])
            masks.project()
            when = "at once, without training"
        else:
            steps = steps_per_epoch(bench, self.fine_tune)
            plan = self.plan(steps, self.fine_tune)
            masks = Pruner(ours, [target for _, target in pruned], plan, self.mask)
            callbacks = [masks, *keeping(everything, others)]
            history = fine_tune(model, bench, self.fine_tune, callbacks=callbacks, keep=False)
            when = (
                f"{self.schedule} schedule, epochs {(plan.begin - 1) / steps:g} to {(plan.end - 1) / steps:g} of "
                f"{self.fine_tune.epochs}, a choice every {plan.frequency} steps"
            )
        kept = masks.kept()
        promises = tuple(
            WeightPromise(one.layer, one.name, one.shape, sparsity=float(1.0 - mask.mean()), pattern=self.pattern)
            for one, mask in zip(ours, kept, strict=True)
        )
        size = sum(kernel.size for kernel in ours)
        zeros = size - sum(int(mask.sum()) for mask in kept)
        said = f"{100 * zeros / size:.1f} % of {size:,} weights in {len(ours)} kernels are zero ({self._how}): {when}"
        return Altered(
            model,
            promises=promises,
            skipped=tuple(skipped),
            history=history,
            said=(said, *([depthwise] if depthwise else [])),
            figures={"sparsity": zeros / size, "pruned_weights": size},
        )

    @property
    def _how(self) -> str:
        return {
            "unstructured": "anywhere",
            "2:4": "two in four",
            "block": f"in blocks of {self.block[0]}×{self.block[1]}",
        }[self.pattern]

    def _obstacle(self, kernel: Kernel, target: float) -> str:
        """Why a kernel is not pruned; "" if it is."""
        from edgedl.pipeline.compress.kernels import as_matrix

        if target == 0.0:
            return "left out by `layers`"
        values = kernel.variable.numpy()
        if not np.isfinite(values).all():
            return "its weights are not finite"
        if self.pattern != "unstructured":
            matrix = as_matrix(values, kernel.layout)
            if matrix is None:
                return f"pattern {self.pattern} goes along input channels, which it has none of"
            if self.pattern == "2:4" and matrix.shape[1] < 4:
                return f"pattern 2:4 needs four input channels, it has {matrix.shape[1]}"
        if self.mask(kernel, values, target).all():
            return f"{kernel.size} values are too few for a sparsity of {target:g}"
        return ""

    def mask(self, kernel: Kernel, values: NDArray[Any], sparsity: float) -> NDArray[np.bool_]:
        """True for what stays: as near to `sparsity` as the number of values (or blocks) allows, at least one."""
        from edgedl.pipeline.compress.kernels import as_matrix, from_matrix

        magnitudes = np.abs(values)
        if self.pattern == "unstructured":
            return largest(magnitudes.ravel(), sparsity).reshape(values.shape)
        matrix = as_matrix(magnitudes, kernel.layout)
        assert matrix is not None
        kept = two_in_four(matrix) if self.pattern == "2:4" else largest_blocks(matrix, sparsity, self.block)
        return from_matrix(kept, values.shape, kernel.layout)

    def plan(self, steps: int, tune: FineTune) -> Plan:
        """The schedule in steps. Raises ConfigError where it does not fit into the training."""
        from edgedl.pipeline.compress.pruner import Plan

        total = steps * tune.epochs
        end_epoch = self.end_epoch
        if end_epoch is None:
            end_epoch = self.begin_epoch + (tune.epochs - self.begin_epoch) * 2 / 3
        if end_epoch > tune.epochs or self.begin_epoch >= end_epoch:
            raise ConfigError(
                "prune: the schedule does not fit into the training",
                required=f"begin_epoch < end_epoch ≤ {tune.epochs}, the epochs of fine_tune",
                received=f"begin_epoch {self.begin_epoch:g}, end_epoch {end_epoch:g}",
            )
        begin, end = 1 + int(self.begin_epoch * steps), min(total, 1 + int(end_epoch * steps))
        frequency = self.frequency or max(1, (end - begin) // 50)
        if self.schedule == "polynomial" and frequency > end - begin:
            raise ConfigError(
                "prune: frequency is longer than the schedule",
                required=f"at most the {end - begin} steps from begin_epoch to end_epoch",
                received=f"{frequency}",
            )
        end -= (end - begin) % frequency  # so that the last choice is the one with the whole sparsity
        return Plan(begin, end, frequency, self.initial_sparsity if self.schedule == "polynomial" else None)

    def finish(self, path: Path, model: TrainedModel, limits: Limits) -> tuple[str, ...]:
        """Encode the file's zeros where that was asked for; what they brought."""
        from edgedl.pipeline.compress.sparse_file import finish_sparse

        return finish_sparse(path, model, encode=self.encoding == "sparse", limits=limits)
