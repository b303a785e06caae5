"""Quantization-aware training: training that goes on with weights and activations rounded as int8 will round them.

Jacob et al. 2018, arXiv:1712.05877, §3, through TensorFlow Model Optimization's fake quantization. Zeros and shared
values that earlier steps promised are kept at every training step (prune- and cluster-preserving: PQAT, CQAT, PCQAT).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from edgedl.core.artifacts import AlteredModel, SkippedLayer
from edgedl.core.errors import ModelError
from edgedl.pipeline.compress.base import Alteration, Altered, Bench, FineTune, Technique
from edgedl.pipeline.compress.fine_tune import fine_tune
from edgedl.pipeline.compress.int8 import Int8

if TYPE_CHECKING:
    from edgedl.models import KerasModel
    from edgedl.pipeline.compress.keeping import Projection

FAKE_QUANT = "fake-quant"


class Qat(Alteration):
    """int8 that has been trained for: for models that lose too much when they are only calibrated."""

    method: Literal["qat"] = "qat"
    fine_tune: FineTune = FineTune()
    range_examples: PositiveInt = Field(
        default=256, description="Training examples from which the activations' ranges start."
    )

    def alter(self, model: KerasModel, bench: Bench) -> Altered:
        """Train it with fake quantization where tfmot has it. Raises ConfigError, ModelError."""
        from edgedl.export.saved_model import write_saved_model
        from edgedl.models.facts import leaf_layers
        from edgedl.pipeline.compress.fake_quant import copy_back, inlined, refresh_weight_ranges, with_fake_quant

        flat = inlined(model)
        try:
            trainee, skipped = with_fake_quant(flat)
        except (ValueError, RuntimeError, TypeError, AttributeError) as error:  # what tfmot raises for what it cannot
            raise ModelError(
                "tfmot cannot train this model with fake quantization",
                received=str(error).splitlines()[0][:300],
                advice="int8 (after training) works on it",
            ) from None
        taken = sum(hasattr(layer, "quantize_config") for layer in trainee.layers)
        if not taken:
            raise ModelError(
                "no layer of this model can be trained with fake quantization",
                required="layers such as Conv2D, DepthwiseConv2D, Dense",
                received="; ".join(f"{one.layer}: {one.reason}" for one in skipped[:3]),
                advice="int8 (after training) works on it",
            )
        n = self._set_ranges(trainee, bench)
        kept = _kept(trainee, bench)
        history = fine_tune(trainee, bench, self.fine_tune, callbacks=kept, keep=False)
        for one in kept:
            one.project()
        refresh_weight_ranges(trainee)
        copy_back(trainee, leaf_layers(model))
        write_saved_model(
            trainee, bench.folder / FAKE_QUANT, bench.recipe.export.batch, output_names=list(model.output_names)
        )
        said = [
            f"{taken} layers trained with fake quantization for {self.fine_tune.epochs} epochs, ranges begun with {n} "
            "training examples; int8 uses the learnt ranges"
        ]
        if skipped:
            said.append(
                f"{len(skipped)} layers without fake quantization: {_names(skipped)}; their ranges are calibrated when "
                "the file is made (fake quantization and calibration in one conversion)"
            )
        return Altered(
            model,
            skipped=skipped,
            history=history,
            said=tuple(said),
            fake_quant=FAKE_QUANT,
            figures={"qat_layers": taken},
        )

    def _set_ranges(self, trainee: KerasModel, bench: Bench) -> int:
        """Give every activation the range that training examples show; how many they were.

        As inference sees it and as training does: where a BatchNorm's averages are not those of its batches (after
        pruning), all that lies outside the range would have no gradient.
        """
        import numpy as np

        from edgedl.pipeline.compress.fake_quant import watching
        from edgedl.pipeline.tasks import TASKS

        contract, data = bench.base.contract, bench.data
        n = min(self.range_examples, len(data.train))
        positions = np.sort(np.random.default_rng(bench.seed).choice(len(data.train), n, replace=False))
        averages = [(one, one.numpy()) for one in trainee.non_trainable_weights]
        with watching() as seen:
            for start in range(0, n, BATCH):
                asked = TASKS[contract.task].ask(contract, data, data.train, positions[start : start + BATCH])
                given = [asked.inputs[name] for name in trainee.input_names]
                for training in (False, True):
                    trainee(given if len(given) > 1 else given[0], training=training)
        for one, before in averages:
            if one.ref() not in seen:
                one.assign(before)
        return n

    def implied_scheme(self) -> Technique:
        """What it trains for."""
        return Int8()


BATCH = 32


def _kept(trainee: KerasModel, bench: Bench) -> list[Projection]:
    """What keeps the promises of earlier steps in the model that is trained."""
    promises = bench.base.promises if isinstance(bench.base, AlteredModel) else ()
    if not promises:
        return []
    from edgedl.pipeline.compress.fake_quant import variables_of
    from edgedl.pipeline.compress.keeping import keeping
    from edgedl.pipeline.compress.kernels import kernels_of

    wrapped = variables_of(trainee)
    kernels = [
        replace(one, variable=wrapped.get((one.layer, one.name), one.variable)) for one in kernels_of(trainee)[0]
    ]
    return keeping(kernels, promises)


def _names(skipped: tuple[SkippedLayer, ...]) -> str:
    names = [one.layer for one in skipped]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
