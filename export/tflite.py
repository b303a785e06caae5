"""TFLite: one conversion for every precision, in a child process, because the converter can take its process down."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgedl.core.artifacts import Quantization
from edgedl.core.contract import Contract
from edgedl.core.errors import EdgedlError, ModelError
from edgedl.core.files import write_atomically
from edgedl.core.isolation import DEFAULT_LIMITS, Limits, run_isolated
from edgedl.core.provenance import version_of
from edgedl.core.tflite_schema import read_tflite, tensors_of
from edgedl.export.base import Exporter, ExportSource
from edgedl.export.metadata import embed_metadata
from edgedl.export.saved_model import SIGNATURE
from edgedl.export.tflite_biases import separate_biases

FLOAT32 = Quantization(method="float32", weights="float32", activations="float32")

FLOAT16_MAX = 65504.0


def convert_tflite(
    saved_model: Path,
    target: Path,
    quantization: Quantization,
    contract: Contract,
    *,
    name: str,
    layers: tuple[str, ...] = (),
    calibration: Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Write `target`, a .tflite file with built-in ops only and the contract as its metadata.

    calibration: an .npz with one array (n, *input shape) per input name, where the scheme needs it.
    Raises ModelError when TFLite cannot hold the model; StageError when the converter crashes, hangs or eats memory.
    """
    advice = (
        "Try dynamic-range or float16, which need no calibration"
        if quantization.needs_calibration
        else "Look at the model with `edgedl inspect`, or raise the limits"
    )
    content = run_isolated(
        _convert,
        saved_model,
        quantization,
        calibration,
        stage=f"{quantization.method} conversion to TFLite",
        subject=name,
        limits=limits,
        advice=advice,
    )
    write_tflite(content, target, quantization, contract, name=name, layers=layers)


def write_tflite(
    content: bytes,
    target: Path,
    quantization: Quantization,
    contract: Contract,
    *,
    name: str,
    layers: tuple[str, ...] = (),
) -> None:
    """What a converter made, checked, mended and described: how every .tflite file of edgedl's is written.

    Raises ModelError when float16 cannot hold the weights.
    """
    if quantization.activations != "float32":
        content = separate_biases(content, name)
    if quantization.weights == "float16":
        _refuse_overflow(content, name)
    version = version_of("edgedl") or ""
    described = embed_metadata(
        content, contract, name=name, description=contract.description, layers=layers, version=version
    )
    write_atomically(target, described)


def _convert(saved_model: Path, quantization: Quantization, calibration: Path | None) -> bytes:
    return converted(converter_for(saved_model, quantization, calibration))


def converter_for(saved_model: Path, quantization: Quantization, calibration: Path | None) -> Any:
    """TFLite's converter (tf.lite.TFLiteConverter), told the scheme. For a child process."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[SIGNATURE])
    ops = tf.lite.OpsSet
    if quantization.weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_disable_per_channel_quantization_for_dense_layers = (
        quantization.dense_scales == "per-tensor"
    )
    if quantization.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization.activations != "float32":
        assert calibration is not None
        converter.representative_dataset = lambda: representative_examples(calibration)
        integer_ops, integer = {
            "int8": (ops.TFLITE_BUILTINS_INT8, tf.int8),
            "int16": (ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8, tf.int16),
        }[quantization.activations]
        converter.target_spec.supported_ops = [integer_ops, ops.TFLITE_BUILTINS]
        if quantization.io == "integer":
            converter.inference_input_type = converter.inference_output_type = integer
    return converter


def converted(converter: Any) -> bytes:
    """What the converter makes. Raises ModelError when it refuses."""
    try:
        return converter.convert()
    except EdgedlError:
        raise
    except Exception as error:
        raise converter_error(error) from None


def representative_examples(calibration: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """One example at a time, by signature and input name: the order of inputs cannot be mixed up."""
    with np.load(calibration, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for i in range(len(next(iter(arrays.values())))):
        yield SIGNATURE, {name: array[i : i + 1] for name, array in arrays.items()}


def _refuse_overflow(content: bytes, name: str) -> None:
    """Raise ModelError when weights sit at float16's limit, where the converter clamps what it cannot hold.

    Judged on what is stored: BatchNorm's large variances, say, are folded away before.
    """
    model = read_tflite(content, name)
    for graph in model.subgraphs:
        for tensor in tensors_of(model, graph):
            if tensor.dtype != "float16" or not tensor.stored_bytes:
                continue
            values = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(np.float16)
            if not (np.abs(values) < FLOAT16_MAX).all():
                raise ModelError(
                    f"float16 cannot hold the weights of {tensor.name}",
                    required=f"values below {FLOAT16_MAX:,.0f}",
                    received="larger ones",
                    advice="Use dynamic-range or int8, which scale their weights",
                )


def converter_error(error: Exception) -> ModelError:
    """What the converter said, as one clear error."""
    text = str(error)
    missing = sorted(set(re.findall(r"tf\.([A-Z]\w+)", text)))
    if "TF kernels" in text or "Flex ops" in text or "custom op" in text:
        return ModelError(
            "TFLite has no built-in op for a part of this model",
            required="built-in ops only",
            received=", ".join(missing) or "ops that need TensorFlow's own kernels",
            advice="Replace the layer they come from",
        )
    lines = [line.strip() for line in text.splitlines() if "error:" in line] or [text.strip().splitlines()[0]]
    return ModelError("TFLite's converter refuses this model", received=lines[0][:400])


def export(source: ExportSource, folder: Path) -> Path:
    """The variant's .tflite file: the very bytes that were judged, or a conversion where there are none yet."""
    target = folder / f"{source.stem}.tflite"
    if source.tflite is not None:
        shutil.copyfile(source.tflite, target)
    else:
        assert source.saved_model is not None
        convert_tflite(
            source.saved_model,
            target,
            source.quantization,
            source.contract,
            name=source.name,
            layers=source.layers,
            calibration=source.calibration,
            limits=source.limits,
        )
    return target


def refusal(quantization: Quantization) -> str | None:
    """TFLite has every precision."""
    return None


EXPORTER = Exporter("tflite", needs=("saved_model",), refusal=refusal, write=export)
