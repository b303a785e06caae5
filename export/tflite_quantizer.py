"""TFLite's integer quantizer in two steps, so that ranges can be chosen and ops left in float between them.

SavedModel ─► calibrated flatbuffer: float32, its tensors carry min and max ─► other ranges, ops to leave ─► integers

`convert_tflite` goes both steps at once, with the ranges that were seen; with none changed, both ways give the same
weights, scales and zero points.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from edgedl.core.artifacts import Quantization
from edgedl.core.contract import Contract
from edgedl.core.errors import ModelError
from edgedl.core.isolation import DEFAULT_LIMITS, Limits, run_isolated
from edgedl.core.tflite_schema import listed, read_tflite, text
from edgedl.export.tflite import converted, converter_error, converter_for, write_tflite
from edgedl.export.tflite_biases import separate_biases
from edgedl.export.tflite_packing import packed

Ranges: TypeAlias = Mapping[str, tuple[float, float]]
"""Tensor name → smallest and largest value that its integers stand for."""

IO: TypeAlias = Literal["integer", "float"]


def int8_scheme(io: IO = "float") -> Quantization:
    """int8 weights and activations. io: of the model's own inputs and outputs."""
    return Quantization(method="int8", weights="int8", activations="int8", io=io)


def calibrate_tflite(
    saved_model: Path, calibration: Path, quantization: Quantization, *, name: str, limits: Limits = DEFAULT_LIMITS
) -> bytes:
    """The float32 .tflite model whose activations carry the smallest and largest value seen, ready to be quantized.

    calibration: an .npz with one array (n, *input shape) per input name. Raises ModelError when TFLite cannot hold
    the model; StageError when the calibrator crashes, hangs or eats memory.
    """
    return run_isolated(
        _calibrate,
        saved_model,
        quantization,
        calibration,
        stage="calibration of TFLite",
        subject=name,
        limits=limits,
        advice="Try dynamic-range or float16, which need no calibration",
    )


def _calibrate(saved_model: Path, quantization: Quantization, calibration: Path) -> bytes:
    import tensorflow as tf

    converter = converter_for(saved_model, quantization, calibration)
    converter.inference_input_type = converter.inference_output_type = tf.float32
    converter._experimental_calibrate_only = True
    return bytes(converted(converter))


def ranges_of(calibrated: bytes) -> dict[str, tuple[float, float]]:
    """The ranges that a calibrated model carries, of its first subgraph."""
    graph = read_tflite(calibrated, "the calibrated model").subgraphs[0]
    found: dict[str, tuple[float, float]] = {}
    for tensor in listed(graph.tensors):
        low, high = (listed(getattr(tensor.quantization, end, None)) for end in ("min", "max"))
        if len(low) == len(high) == 1:
            found[text(tensor.name)] = float(low[0]), float(high[0])
    return found


def with_ranges(calibrated: bytes, ranges: Ranges) -> bytes:
    """The same model with other ranges for the tensors named. Raises ModelError for one that carries no range."""
    model = read_tflite(calibrated, "the calibrated model")
    unknown = ranges.keys() - ranges_of(calibrated).keys()
    if unknown:
        raise ModelError("only calibrated tensors have a range to change", received=", ".join(sorted(unknown)[:5]))
    for tensor in listed(model.subgraphs[0].tensors):
        if (chosen := ranges.get(text(tensor.name))) is not None:
            tensor.quantization.min, tensor.quantization.max = (np.array([end], np.float32) for end in chosen)
    return packed(model)


def quantize_tflite(
    calibrated: bytes,
    target: Path,
    quantization: Quantization,
    contract: Contract,
    *,
    name: str,
    layers: tuple[str, ...] = (),
    ranges: Ranges | None = None,
    float_ops: Collection[str] = (),
    float_nodes: Collection[str] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Write `target`: the calibrated model in int8, with other ranges where given, without what is to stay in float.

    float_ops: kinds ("SOFTMAX"). float_nodes: single ops, each named by its first output tensor in `calibrated`.
    Raises ModelError for a node that is not there or a model that cannot be held; StageError for a lost child.
    """
    if ranges:
        calibrated = with_ranges(calibrated, ranges)
    if float_nodes:
        _check_nodes(calibrated, float_nodes)
    (content,) = quantize_calibrated(
        calibrated, quantization, [float_nodes], name=name, float_ops=float_ops, limits=limits
    )
    write_tflite(content, target, quantization, contract, name=name, layers=layers)


def quantize_calibrated(
    calibrated: bytes,
    quantization: Quantization,
    float_nodes: Sequence[Collection[str]],
    *,
    name: str,
    float_ops: Collection[str] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> list[bytes]:
    """One int8 file for each of `float_nodes`, made in one child process (some 20 ms each for a small model).

    float_nodes, float_ops: as `quantize_tflite` takes them. Raises ModelError, StageError.
    """
    found = run_isolated(
        _quantize,
        calibrated,
        quantization,
        sorted(float_ops),
        [sorted(one) for one in float_nodes],
        stage=f"{quantization.method} quantization of TFLite",
        subject=name,
        limits=limits,
        advice="Try dynamic-range or float16",
    )
    return [separate_biases(one, name) for one in found]


def _check_nodes(calibrated: bytes, nodes: Collection[str]) -> None:
    graph = read_tflite(calibrated, "the calibrated model").subgraphs[0]
    names = {text(graph.tensors[listed(op.outputs)[0]].name) for op in listed(graph.operators) if listed(op.outputs)}
    if missing := sorted(set(nodes) - names):
        raise ModelError("no op has this output", received=", ".join(missing[:5]))


def _quantize(
    calibrated: bytes, quantization: Quantization, float_ops: list[str], float_nodes: list[list[str]]
) -> list[bytes]:
    import tensorflow as tf
    from tensorflow.lite.python.convert import deduplicate_readonly_buffers, mlir_quantize

    if quantization.activations != "int8":
        raise ModelError(
            f"ranges and ops cannot be chosen for {quantization.method}", required="int8", received=quantization.method
        )
    kind: Any = tf.int8 if quantization.io == "integer" else tf.float32

    def quantized(nodes: list[str]) -> bytes:
        content = mlir_quantize(
            calibrated,
            input_data_type=kind,
            output_data_type=kind,
            denylisted_ops=set(float_ops) or None,
            denylisted_nodes=set(nodes) or None,
            disable_per_channel_for_dense_layers=quantization.dense_scales == "per-tensor",
        )
        return bytes(deduplicate_readonly_buffers(content))

    try:
        return [quantized(nodes) for nodes in float_nodes]
    except Exception as error:
        raise converter_error(error) from None
