"""Core ML: an ML program (`.mlpackage`) for Apple's systems, through coremltools (extra `coreml`).

coremltools converts on Linux, but Core ML predicts on Apple's systems alone. So the answers are not compared with the
Keras model's; what is checked is the package itself, read back: inputs, outputs, shapes and precision.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedl.core.artifacts import Quantization, to_json
from edgedl.core.errors import ModelError
from edgedl.core.isolation import run_isolated
from edgedl.core.model_facts import ModelFacts
from edgedl.core.provenance import version_of
from edgedl.export.base import Exporter, ExportSource
from edgedl.export.coreml_file import MODULE, check_installed, identifier_of, read_package
from edgedl.export.metadata import write_vocabulary
from edgedl.export.onnx_metadata import ONNX_CONTRACT, ONNX_LAYERS
from edgedl.export.saved_model import SIGNATURE


def export(source: ExportSource, folder: Path) -> Path:
    """Write the package and read it back. Raises ModelError, StageError, UnavailableError."""
    check_installed()
    if source.batch is None:
        raise ModelError("a Core ML package is written for a fixed batch", received="an open one", advice="`--batch 1`")
    assert source.float_saved_model is not None
    target = folder / f"{source.stem}.mlpackage"
    write_vocabulary(source.contract, folder)
    run_isolated(
        _convert,
        source,
        target,
        stage="conversion to Core ML",
        subject=source.name,
        limits=source.limits,
        advice="Look at the model with `edgedl inspect`, or raise the limits",
    )
    return target


def _convert(source: ExportSource, target: Path) -> None:
    import coremltools as ct
    import tensorflow as tf

    _teach_erfc()
    loaded = tf.saved_model.load(str(source.float_saved_model))  # holds the variables that the signature only refers to
    signature = loaded.signatures[SIGNATURE]
    try:
        model: Any = ct.convert(
            [signature],
            source="tensorflow",
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT16 if source.quantization.method == "float16" else ct.precision.FLOAT32,
            skip_model_load=True,
        )
    except Exception as error:  # the converter raises several kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError("coremltools refuses this model", received=reason[:400]) from None
    spec: Any = model.get_spec()
    keras_outputs = sorted(signature.structured_outputs)  # the order in which TensorFlow flattens a dictionary
    converted = [tensor.name.partition(":")[0] for tensor in signature.outputs]
    order = dict(zip(converted, keras_outputs, strict=True))
    for output in [one.name for one in spec.description.output]:
        ct.utils.rename_feature(spec, output, identifier_of(order[output]), rename_inputs=False)
    described = ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)
    described.short_description = source.contract.description or source.name
    described.version = version_of("edgedl") or ""
    described.user_defined_metadata[ONNX_CONTRACT] = json.dumps(to_json(source.contract), ensure_ascii=False)
    described.user_defined_metadata[ONNX_LAYERS] = json.dumps(source.layers, ensure_ascii=False)
    described.save(str(target))
    _check(read_package(target), source)


def _teach_erfc() -> None:
    """Erfc(x) → 1 − Erf(x): an exact GELU's Erfc is the one op of the zoo that coremltools 9 does not know."""
    from coremltools.converters.mil.frontend.tensorflow.tf_op_registry import register_tf_op
    from coremltools.converters.mil.mil import Builder

    builder: Any = Builder

    def erfc(context: Any, node: Any) -> None:
        value = builder.erf(x=context[node.inputs[0]], name=f"{node.name}_erf")
        context.add(node.name, builder.sub(x=1.0, y=value, name=node.name))

    register_tf_op(erfc, tf_alias=["Erfc"], override=True)


# --- reading back ------------------------------------------------------------------------------------------------


def _check(facts: ModelFacts, source: ExportSource) -> None:
    """Raise ModelError unless the package has the contract's inputs and outputs and the precision asked for."""
    wanted, batch = source.contract, source.batch
    for what, found, promised in (
        ("input", facts.inputs, wanted.inputs),
        ("output", facts.outputs, wanted.outputs),
    ):
        required = {identifier_of(one.name): (batch, *one.shape) for one in promised}
        received = {one.name: one.shape for one in found}
        if required != received:
            raise ModelError(
                f"the Core ML package of {source.name} has other {what}s than the model",
                required=_words(required),
                received=_words(received),
            )
    precision = "float16" if source.quantization.method == "float16" else "float32"
    if facts.precision not in (precision, "none"):
        raise ModelError(
            f"the Core ML package of {source.name} computes in another precision",
            required=precision,
            received=facts.precision,
        )


def _words(shapes: Mapping[str, tuple[int | None, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def refusal(quantization: Quantization) -> str | None:
    """float32 and float16."""
    if quantization.method in {"float32", "float16"}:
        return None
    return f"Core ML is written as float32 and as float16; {quantization.method} is none of its schemes"


EXPORTER = Exporter("coreml", needs=("float_saved_model",), refusal=refusal, write=export, tool=MODULE)
