"""How much a channel matters: a score for each member of each group, summed over all weights that it touches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedl.models import KerasModel
from edgedl.pipeline.compress.base import Bench
from edgedl.pipeline.compress.channels.graph import KERNELS, Axis, Couplings

Importance: TypeAlias = Literal["taylor", "l1", "bn-scale"]

Scores: TypeAlias = Sequence[NDArray[np.float64]]
"""For each group, (n,): greater is more important; only ratios within one call have a meaning."""

BATCH = 32


def l1(model: KerasModel, couplings: Couplings) -> Scores:
    """Σ|w| of the kernels (Li et al. 2017, "Pruning filters for efficient ConvNets", arXiv:1608.08710, section 3.1),
    over the mean of the group: magnitudes of different layers do not compare."""

    def magnitude(layer: Any, weight: Any) -> NDArray[np.float64] | None:
        if not any(getattr(layer, name, None) is weight for name in KERNELS):
            return None
        return np.abs(np.asarray(weight, np.float64))

    return _over_mean(_summed(model, couplings, magnitude))


def bn_scale(model: KerasModel, couplings: Couplings) -> Scores:
    """Σ|γ| of the BatchNorms (Liu et al. 2017, "Learning efficient convolutional networks through network slimming",
    arXiv:1708.06519, section 3), over the mean of the group; infinite where there is none."""
    seen = set[tuple[str, int]]()

    def gamma(layer: Any, weight: Any) -> NDArray[np.float64] | None:
        if "BatchNormalization" not in type(layer).__name__ or getattr(layer, "gamma", None) is not weight:
            return None
        seen.add((layer.name, next(i for i, one in enumerate(layer.weights) if one is weight)))
        return np.abs(np.asarray(weight, np.float64))

    scores = _over_mean(_summed(model, couplings, gamma))
    scaled = [any(axis[:2] in seen for axis in group.axes) for group in couplings.groups]
    return [one if has else np.full_like(one, np.inf) for one, has in zip(scores, scaled, strict=True)]


def taylor(model: KerasModel, couplings: Couplings, bench: Bench, examples: int) -> Scores:
    """Σ (g·w)² over a channel's weights w with gradients g of the loss (Molchanov et al. 2019, "Importance estimation
    for neural network pruning", arXiv:1906.10771, equation 8), the mean over batches of 32 training examples;
    over the mean of the group. The paper compares layers by the plain sums, which removes too much of one group at
    once where many channels go in one step (docs/compress/channels.md)."""
    squares = _squares(model, bench, examples)
    by_weight = {id(weight): found for weight, found in squares}
    return _over_mean(_summed(model, couplings, lambda layer, weight: by_weight.get(id(weight))))


def _squares(model: KerasModel, bench: Bench, examples: int) -> list[tuple[Any, NDArray[np.float64]]]:
    """(g·w)² of every trainable variable, also of frozen layers."""
    import tensorflow as tf

    from edgedl.pipeline.compress.base import FineTune
    from edgedl.pipeline.compress.fine_tune import training_config
    from edgedl.pipeline.tasks import TASKS
    from edgedl.pipeline.train.stage import batches_for, compile_model, data_errors

    rules = TASKS[bench.base.contract.task]
    config = training_config(bench, FineTune(epochs=1, batch_size=BATCH)).model_copy(update={"augment": None})
    logits = bench.base.contract.outputs[0].content == "logits"
    compile_model(model, config, bench.data, rules, from_logits=logits)
    batches, _, steps = batches_for(config, bench.data, rules, seed=bench.seed)
    variables = [one for one in model.weights if one.trainable and one.dtype.is_floating]

    @tf.function
    def gradients(inputs: Any, targets: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = model.compiled_loss(targets, model(inputs, training=False), weights)
        return tape.gradient(loss, variables)

    total = [np.zeros(one.shape, np.float64) for one in variables]
    wanted = min(steps, -(-examples // BATCH))
    with data_errors():
        for batch in batches.take(wanted):
            inputs, targets, weights = (*batch, None)[:3]
            for i, gradient in enumerate(gradients(inputs, targets, weights)):
                if gradient is not None:  # None: the loss does not depend on it
                    dense = np.asarray(tf.convert_to_tensor(gradient), np.float64)
                    total[i] += np.square(dense * np.asarray(variables[i], np.float64))
    return [(variable, one / wanted) for variable, one in zip(variables, total, strict=True)]


def _summed(
    model: KerasModel, couplings: Couplings, score: Callable[[Any, Any], NDArray[np.float64] | None]
) -> list[NDArray[np.float64]]:
    """Scores of single weights, summed over each channel's. score: of a layer's weight; None: it does not count."""
    total = np.zeros(len(couplings.groups) * couplings.stride)
    arrays: dict[tuple[str, int], NDArray[np.float64] | None] = {}
    by_name: Mapping[str, Any] = {layer.name: layer for layer in model.layers}
    for axis, members in couplings.members.items():
        name, number, _ = axis
        if (name, number) not in arrays:
            arrays[name, number] = score(by_name[name], by_name[name].weights[number])
        found = arrays[name, number]
        if found is not None:
            inside = members >= 0
            np.add.at(total, members[inside], _along(found, axis)[inside])
    table = total.reshape(len(couplings.groups), couplings.stride)
    return [table[number, : group.n].copy() for number, group in enumerate(couplings.groups)]


def _along(found: NDArray[np.float64], axis: Axis) -> NDArray[np.float64]:
    return found.sum(axis=tuple(i for i in range(found.ndim) if i != axis[2]))


def _over_mean(scores: Scores) -> Scores:
    """Each group's scores over their mean (Fang et al. 2023, arXiv:2301.12900, section 3.3): 1 is average."""
    return [one / (float(one.mean()) or 1.0) for one in scores]
