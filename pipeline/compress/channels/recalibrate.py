"""BatchNorm's averages after surgery: the channels that are gone no longer add to what the next layers see."""

from __future__ import annotations

from typing import Any

from edgedl.models import KerasModel
from edgedl.pipeline.compress.base import Bench, FineTune

BATCH = 64


def recalibrate(model: KerasModel, bench: Bench, examples: int) -> int:
    """Set the moving averages of each BatchNorm that is in training to those of `examples` training examples.

    The mean over batches of 64 of their means and variances (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm",
    arXiv:2105.07576, section 3, PreciseBN). Returns the number of layers.
    """
    import tf_keras

    from edgedl.pipeline.compress.fine_tune import training_config
    from edgedl.pipeline.tasks import TASKS
    from edgedl.pipeline.train.stage import batches_for, data_errors

    normalizations: list[Any] = [
        layer for layer in model.layers if isinstance(layer, tf_keras.layers.BatchNormalization) and layer.trainable
    ]
    rules = TASKS[bench.base.contract.task]
    if not normalizations or rules.trainee is not None:  # a training step of its own feeds the model otherwise
        return 0
    config = training_config(bench, FineTune(epochs=1, batch_size=BATCH)).model_copy(update={"augment": None})
    batches, _, steps = batches_for(config, bench.data, rules, seed=bench.seed)
    momentum = [layer.momentum for layer in normalizations]
    with data_errors():
        for number, batch in enumerate(batches.take(min(steps, -(-examples // BATCH)))):
            for layer in normalizations:
                layer.momentum = number / (number + 1)
            model(batch[0], training=True)
    for layer, before in zip(normalizations, momentum, strict=True):
        layer.momentum = before
    return len(normalizations)
