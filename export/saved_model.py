"""SavedModel: the one graph that every other format is made from.

One signature, `serving_default`, whose inputs and outputs carry the Keras names, with a static batch unless asked
otherwise: a dynamic batch leaves SHAPE, STRIDED_SLICE and PACK ops that accelerators refuse.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgedl.core.artifacts import Quantization
from edgedl.core.errors import ModelError
from edgedl.core.isolation import run_isolated
from edgedl.export.base import Exporter, ExportSource
from edgedl.models.base import KerasModel

SIGNATURE = "serving_default"


def export(source: ExportSource, folder: Path) -> Path:
    """Write the Keras model as a SavedModel folder, in a child process. Raises ModelError, StageError."""
    target = folder / source.stem
    run_isolated(
        _write,
        source.keras,
        target,
        source.batch,
        stage="export to saved-model",
        subject=source.name,
        limits=source.limits,
        advice="Look at the model with `edgedl inspect`, or raise the limits",
    )
    return target


def _write(keras_file: Path, target: Path, batch: int | None) -> None:
    from edgedl.models.load import load_keras

    write_saved_model(load_keras(keras_file), target, batch)


def write_saved_model(
    model: KerasModel, target: Path, batch: int | None, *, output_names: list[str] | None = None
) -> None:
    """Write a tf_keras model as a SavedModel folder, here and now. output_names: other than the model's own.

    Raises ModelError when a shape is not fixed.
    """
    import tensorflow as tf

    names = output_names or list(model.output_names)
    specs = {
        name: tf.TensorSpec([batch, *tensor.shape[1:]], tensor.dtype, name=name)
        for name, tensor in zip(model.input_names, model.inputs, strict=True)
    }
    for name, spec in specs.items():
        if None in spec.shape[1:]:
            raise ModelError(
                f"input {name} has an axis of unknown length",
                required="fixed shapes, which devices need",
                received=str(tuple(spec.shape)),
                advice="Build the model with an Input layer of a fixed shape",
            )

    def call(**inputs: Any) -> dict[str, Any]:
        ordered = [inputs[name] for name in model.input_names]
        outputs = model(ordered if len(ordered) > 1 else ordered[0], training=False)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return dict(zip(names, outputs, strict=True))

    module: Any = tf.Module()
    module.model = model
    signature = tf.function(call).get_concrete_function(**specs)
    tf.saved_model.save(module, str(target), signatures={SIGNATURE: signature})


def refusal(quantization: Quantization) -> str | None:
    """A SavedModel is float32."""
    if quantization.method == "float32":
        return None
    return f"a SavedModel has no {quantization.method} form; it is exported as float32"


EXPORTER = Exporter("saved-model", needs=(), refusal=refusal, write=export)
