"""Structured pruning: rank the channels, choose, cut, fine-tune, again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from edgedl.core.config import sentence
from edgedl.core.errors import ModelError
from edgedl.pipeline.compress.base import Alteration, Altered, Bench, FineTune
from edgedl.pipeline.compress.channels.graph import Couplings
from edgedl.pipeline.compress.channels.importance import Scores, bn_scale, l1, taylor
from edgedl.pipeline.compress.fine_tune import fine_tune

if TYPE_CHECKING:
    from edgedl.models import KerasModel

NEAR = 0.03
"""How far from `keep_macs` the result may be before the tool says why."""


class PruneChannels(Alteration):
    """Remove the least important channels until a share of the MACs is left (DepGraph, arXiv:2301.12900)."""

    training: ClassVar[Mapping[str, Any]] = {"epochs": 10, "learning_rate": 1e-3}

    method: Literal["prune-channels"] = "prune-channels"
    keep_macs: float = Field(default=0.5, gt=0.0, lt=1.0, description="Share of the MACs that stays.")
    importance: Literal["taylor", "l1", "bn-scale"] = Field(
        default="taylor",
        description="taylor: effect on the loss, from training examples; l1: size of the weights; bn-scale: of the "
        "BatchNorms' γ.",
    )
    examples: PositiveInt = Field(
        default=1024,
        description="Training examples that taylor looks at, and that BatchNorms' averages are taken from.",
    )
    round_to: PositiveInt = Field(
        default=8,
        description="Channels stay multiples of this where there are enough: kernels compute so many at once.",
    )
    min_channels: float = Field(
        default=0.125,
        gt=0.0,
        le=1.0,
        description="Share of every group of channels that stays, whatever its importance.",
    )
    steps: PositiveInt = Field(default=1, description="Prune in so many steps, with fine-tuning after each.")
    keep: tuple[str, ...] = Field(default=(), description="Layers whose channels all stay.")

    @model_validator(mode="after")
    def _steps_fit(self) -> PruneChannels:
        if self.fine_tune is not None and self.fine_tune.epochs < self.steps:
            message = f"{self.steps} steps need at least {self.steps} epochs of fine_tune, not {self.fine_tune.epochs}"
            raise sentence(message)
        return self

    def alter(self, model: KerasModel, bench: Bench) -> Altered:
        """Prune and fine-tune, in steps. Raises ModelError where nothing can be pruned."""
        return _prune(self, model, bench)


def _prune(wanted: PruneChannels, model: KerasModel, bench: Bench) -> Altered:
    """Between steps MACs fall by the same factor. Raises ModelError, ConfigError."""
    from edgedl.pipeline.compress.channels.recalibrate import recalibrate
    from edgedl.pipeline.compress.channels.selection import choose
    from edgedl.pipeline.compress.channels.surgery import flatten, narrow
    from edgedl.pipeline.compress.channels.trace import trace

    model = flatten(model)
    unknown = sorted(set(wanted.keep) - {layer.name for layer in model.layers})
    if unknown:
        raise ModelError(
            f"prune-channels: `keep` names no layer: {', '.join(unknown)}",
            required=", ".join(layer.name for layer in model.layers if layer.weights),
        )
    if not model.trainable_weights and wanted.fine_tune is not None:
        raise ModelError(
            "prune-channels cannot fine-tune this model: no weight of it is trainable",
            advice="Prune without training: fine_tune: null",
        )
    first = couplings = trace(model, wanted.keep)
    whole, parameters, sizes = couplings.macs(couplings.sizes), model.count_params(), sum(couplings.sizes)
    if not couplings.groups or not whole:
        reasons = "; ".join(f"{one.layer}: {one.reason}" for one in couplings.skipped[:3])
        raise ModelError(
            "prune-channels found no channel that can be removed",
            required="convolutions or dense layers between the model's input and its output",
            received=reasons or "a model without them",
        )
    importance, said = _importance(wanted, bench)
    normalizations, history = 0, list[Mapping[str, float]]()
    for step in range(1, wanted.steps + 1):
        scores = _scores(importance, model, couplings, bench, wanted)
        target = whole * wanted.keep_macs ** (step / wanted.steps)
        choice = choose(couplings, scores, target, round_to=wanted.round_to, floor=wanted.min_channels)
        model = narrow(model, couplings, choice.kept)
        couplings = trace(model, wanted.keep)
        normalizations = recalibrate(model, bench, wanted.examples)
        if (tune := _share(wanted.fine_tune, step, wanted.steps)) is not None:
            history.extend(fine_tune(model, bench, tune))
            recalibrate(model, bench, wanted.examples)
    left = couplings.macs(couplings.sizes)
    share = left / whole
    said += (
        f"MACs {whole:,} → {left:,} ({share:.1%}), parameters {parameters:,} → {model.count_params():,}, "
        f"channels {sizes:,} → {sum(couplings.sizes):,} in {len(first.groups)} groups, by {importance}",
        *((f"averages of {normalizations} BatchNorms taken again",) if normalizations else ()),
        *_why_not(share, wanted, first, whole),
    )
    figures = {
        "macs_before": whole,
        "macs_after": left,
        "macs_share": share,
        "parameters_before": parameters,
        "parameters_after": model.count_params(),
        "channels_before": sizes,
        "channels_after": sum(couplings.sizes),
    }
    return Altered(model, skipped=first.skipped, history=tuple(history), said=said, figures=figures)


def _importance(wanted: PruneChannels, bench: Bench) -> tuple[str, tuple[str, ...]]:
    from edgedl.pipeline.tasks import TASKS

    rules = TASKS[bench.base.contract.task]
    if wanted.importance == "taylor" and rules.trainee is not None:
        return "l1", (f"importance l1 instead of taylor: {rules.task} has a training step of its own",)
    return wanted.importance, ()


def _scores(importance: str, model: KerasModel, couplings: Couplings, bench: Bench, wanted: PruneChannels) -> Scores:
    if importance == "taylor":
        return taylor(model, couplings, bench, wanted.examples)
    if importance == "l1":
        return l1(model, couplings)
    scores = bn_scale(model, couplings)
    if not any(np.isfinite(one).all() for one in scores):
        raise ModelError(
            "importance bn-scale needs BatchNorm layers behind the layers that are pruned",
            advice="Use importance taylor or l1",
        )
    return scores


def _share(tune: FineTune | None, step: int, steps: int) -> FineTune | None:
    """This step's epochs; what does not divide evenly goes to the last ones."""
    if tune is None:
        return None
    epochs = tune.epochs * step // steps - tune.epochs * (step - 1) // steps
    return tune.model_copy(update={"epochs": epochs})


def _why_not(share: float, wanted: PruneChannels, couplings: Couplings, whole: int) -> tuple[str, ...]:
    """Where the target was missed: by how much, and what stood in the way."""
    if abs(share - wanted.keep_macs) <= NEAR:
        return ()
    words = f"keep_macs {wanted.keep_macs:.1%} was not reached: {share:.1%} are left"
    least = [max(1, int(np.ceil(wanted.min_channels * n))) for n in couplings.sizes]
    floor = couplings.macs(least) / whole
    reasons = [f"steps of {wanted.round_to} channels (round_to) are coarse here"]
    if share > wanted.keep_macs and floor > wanted.keep_macs - NEAR:
        reasons = [f"with {wanted.min_channels:.0%} of each group (min_channels) {floor:.1%} stay"]
    if couplings.skipped:
        reasons.append(f"{len(couplings.skipped)} layers keep their channels")
    return (f"{words}; {', and '.join(reasons)}",)
