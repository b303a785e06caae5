"""ONNX: float32 through tf2onnx from the frozen graph, int8 as QDQ quantised from that float32 file.

tf2onnx of an already quantised TFLite file gives ONNX that runs several times slower, so that road is not taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import Quantization
from edgedl.core.contract import Contract
from edgedl.core.errors import ModelError
from edgedl.core.isolation import DEFAULT_LIMITS, Limits, run_isolated
from edgedl.core.provenance import version_of
from edgedl.export.base import Exporter, ExportSource
from edgedl.export.metadata import write_vocabulary
from edgedl.export.saved_model import SIGNATURE

OPSET = 18


def convert_onnx(
    saved_model: Path,
    target: Path,
    contract: Contract,
    *,
    name: str,
    layers: tuple[str, ...] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Write `target`, a float32 .onnx file with the Keras names and the contract as its metadata.

    Raises ModelError when ONNX cannot hold the model; StageError when the converter is lost.
    """
    run_isolated(
        _convert,
        saved_model,
        target,
        contract,
        name,
        layers,
        stage="conversion to ONNX",
        subject=name,
        limits=limits,
        advice="Look at the model with `edgedl inspect`, or raise the limits",
    )


def _convert(saved_model: Path, target: Path, contract: Contract, name: str, layers: tuple[str, ...]) -> None:
    import tensorflow as tf
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2_as_graph

    loaded = tf.saved_model.load(str(saved_model))  # holds the variables that the signature only refers to
    signature = loaded.signatures[SIGNATURE]
    # Frozen first: a captured constant would otherwise become an input that the app has to feed.
    # Loops whole and functions inlined: so tf2onnx sees an LSTM in the loop that Keras made of it.
    frozen, graph = convert_variables_to_constants_v2_as_graph(
        signature, lower_control_flow=False, aggressive_inlining=True
    )
    keras_outputs = sorted(signature.structured_outputs)  # the order in which TensorFlow flattens a dictionary
    inputs = [tensor.name for tensor in frozen.inputs if tensor.dtype != tf.resource]
    outputs = [tensor.name for tensor in frozen.outputs]
    try:
        model, _ = tf2onnx.convert.from_graph_def(graph, input_names=inputs, output_names=outputs, opset=OPSET)
    except Exception as error:
        raise ModelError("tf2onnx refuses this model", received=str(error).strip().splitlines()[0][:400]) from None
    replace_erfc(model)
    names = {tensor: tensor.partition(":")[0] for tensor in inputs} | dict(zip(outputs, keras_outputs, strict=True))
    rename_tensors(model.graph, names)
    order_like(model.graph.output, [output.name for output in contract.outputs])
    order_like(model.graph.input, [one.name for one in contract.inputs])
    save(model, target, contract, name, layers)


def rename_tensors(graph: Any, names: Mapping[str, str]) -> None:
    """Rename tensors of an ONNX graph wherever they occur; what already carries a new name steps aside."""
    taken = set(names.values()) - set(names)
    step_aside = {name: f"{name}__inner" for name in taken}
    for node in graph.node:
        for field in (node.input, node.output):
            for i, tensor in enumerate(field):
                field[i] = names.get(tensor, step_aside.get(tensor, tensor))
    for values in (graph.input, graph.output, graph.value_info, graph.initializer):
        for value in values:
            value.name = names.get(value.name, step_aside.get(value.name, value.name))


def replace_erfc(model: Any) -> None:
    """Erfc(x) → 1 − Erf(x): tf2onnx writes an exact GELU's Erfc as it is, but ONNX has no such op."""
    import onnx

    kinds: dict[str, int] = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    nodes: list[Any] = []
    for node in model.graph.node:
        if node.op_type != "Erfc":
            nodes.append(node)
            continue
        one, erf = f"{node.output[0]}__one", f"{node.output[0]}__erf"
        kind = kinds.get(node.output[0]) or onnx.TensorProto.FLOAT
        model.graph.initializer.append(onnx.helper.make_tensor(one, kind, [], [1.0]))
        nodes.append(onnx.helper.make_node("Erf", [node.input[0]], [erf], name=f"{node.name}__erf"))
        nodes.append(onnx.helper.make_node("Sub", [one, erf], [node.output[0]], name=node.name))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def order_like(values: Any, names: list[str]) -> None:
    """Put a graph's inputs or outputs into the order of `names`."""
    by_name = {value.name: value for value in values}
    ordered = [by_name[name] for name in names]
    del values[:]
    values.extend(ordered)


def save(model: Any, target: Path, contract: Contract, name: str, layers: tuple[str, ...]) -> None:
    """Check the model, describe it, write it."""
    import onnx

    from edgedl.export.onnx_metadata import embed_onnx_metadata

    onnx.checker.check_model(model, full_check=True)
    version = version_of("edgedl") or ""
    embed_onnx_metadata(model, contract, name=name, description=contract.description, layers=layers, version=version)
    target.write_bytes(model.SerializeToString(deterministic=True))


def quantize_onnx(
    float_file: Path,
    target: Path,
    contract: Contract,
    calibration: Path,
    *,
    name: str,
    layers: tuple[str, ...] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Write `target`, an int8 QDQ .onnx file (weights per channel, symmetric; activations per tensor, min–max).

    calibration: an .npz with one array (n, *input shape) per input name; the same that serves TFLite. Inputs and
    outputs stay float32. Raises ModelError, StageError.
    """
    run_isolated(
        _quantize,
        float_file,
        target,
        contract,
        calibration,
        name,
        layers,
        stage="int8 quantization of ONNX",
        subject=name,
        nursery="runtime",
        limits=limits,
        advice="Use the float32 ONNX file, or int8 TFLite",
    )


def _quantize(
    float_file: Path, target: Path, contract: Contract, calibration: Path, name: str, layers: tuple[str, ...]
) -> None:
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with np.load(calibration, allow_pickle=False) as archive:
        arrays: dict[str, NDArray[Any]] = {key: archive[key] for key in archive.files}

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.position = 0

        def get_next(self) -> dict[str, NDArray[Any]] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            i, self.position = self.position, self.position + 1
            feed = {key: array[i : i + 1] for key, array in arrays.items()}
            return feed if all(len(value) for value in feed.values()) else None

    prepared, quantized = target.with_name(".prepared.onnx"), target.with_name(".quantized.onnx")
    try:
        quant_pre_process(str(float_file), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantized),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            # Widening weight scales for the sake of int32 biases fails on biases of several axes (ORT 1.31).
            extra_options={"QDQDisableWeightAdjustForInt32Bias": True},
        )
        save(onnx.load(str(quantized)), target, contract, name, layers)
    except (ValueError, RuntimeError, KeyError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError("ONNX Runtime cannot quantize this model", received=reason[:300]) from None
    finally:
        prepared.unlink(missing_ok=True)
        quantized.unlink(missing_ok=True)


def export(source: ExportSource, folder: Path) -> Path:
    """The float32 file, or the int8 one quantised from it."""
    target = folder / f"{source.stem}.onnx"
    write_vocabulary(source.contract, folder)
    if source.quantization.method == "float32":
        assert source.saved_model is not None
        convert_onnx(
            source.saved_model, target, source.contract, name=source.name, layers=source.layers, limits=source.limits
        )
        return target
    assert source.float_onnx is not None and source.calibration is not None
    quantize_onnx(
        source.float_onnx,
        target,
        source.contract,
        source.calibration,
        name=source.name,
        layers=source.layers,
        limits=source.limits,
    )
    return target


def refusal(quantization: Quantization) -> str | None:
    """float32 and int8."""
    if quantization.method in {"float32", "int8"}:
        return None
    return f"ONNX is written as float32 and as int8 (QDQ); {quantization.method} is a TFLite scheme"


EXPORTER = Exporter("onnx", needs=("saved_model", "float_onnx"), refusal=refusal, write=export)
