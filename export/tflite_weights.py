"""Weights alone in 8 or 4 bits, activations and arithmetic in float32: ai-edge-quantizer on the float32 .tflite file.

Every quantized constant is stored with a scale for each output channel and made float by a DEQUANTIZE op once, when the
file is loaded (constants are folded), so the file shrinks and the answers cost what float32's cost.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import flatbuffers

from edgedl.core.artifacts import Quantization
from edgedl.core.contract import Contract
from edgedl.core.errors import EdgedlError, ModelError, StageError
from edgedl.core.isolation import DEFAULT_LIMITS, Limits, run_isolated
from edgedl.core.tflite_schema import IDENTIFIER, listed, op_names, read_tflite, tensors_of, text
from edgedl.export.layers import layer_of
from edgedl.export.tflite import write_tflite

ScaleRule: TypeAlias = Literal["min-max", "mse", "octav"]
"""Where a channel's scale comes from: its largest magnitude; the smallest squared error for a Gaussian of its RMS; or
the clipping that OCTAV's Newton iteration finds (Sakr et al. 2022, arXiv:2206.06501, eq. 6)."""

RULES: tuple[ScaleRule, ...] = ("min-max", "mse", "octav")

KINDS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL", "EMBEDDING_LOOKUP")
"""Ops whose weights ai-edge-quantizer 0.10 stores in 8 bits."""
KINDS_4_BIT = ("CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "EMBEDDING_LOOKUP")
"""Those that it stores in 4 bits."""

_DEQUANTIZE_VERSIONS = {"int8": 5, "int4": 6}
"""Of the op with scales by channel: ai-edge-quantizer leaves 1, which old runtimes would read as one scale a tensor."""


@dataclass(frozen=True)
class LeftWeights:
    """Weights that are not in the type that was asked for. dtype: what they are stored in."""

    op: str
    layer: str | None
    dtype: str
    elements: int


def quantize_weights(
    float_tflite: Path,
    target: Path,
    quantization: Quantization,
    contract: Contract,
    *,
    name: str,
    layers: tuple[str, ...] = (),
    rule: ScaleRule = "min-max",
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[LeftWeights, ...]:
    """Write `target`, with the weights in int8 or int4 (`quantization.weights`), and return what is stored otherwise.

    A kind of op that LiteRT does not run in 4 bits is left in 8, one that it does not run in 8 in float32. Raises
    ModelError when ai-edge-quantizer or the runtime refuses the model; StageError when one of them crashes.
    """
    content = float_tflite.read_bytes()
    found = {op for op, *_ in _weights(read_tflite(content, name))}
    eight, four = found & set(KINDS), found & set(KINDS_4_BIT) if quantization.weights == "int4" else set[str]()

    def attempt(eight: Collection[str], four: Collection[str]) -> bytes:
        made = run_isolated(
            _quantize, content, sorted(eight), sorted(four), rule,
            stage=f"{quantization.method} conversion", subject=name, nursery="runtime", limits=limits,
            advice="Try dynamic-range or float16",
        )  # fmt: skip
        return _with_versions(made, name)

    def runs(made: bytes) -> bool:
        try:
            run_isolated(_invoke, made, stage="a test run", subject=name, nursery="runtime", limits=limits)
        except (ModelError, StageError):
            return False
        return True

    made = attempt(eight, four)
    if not runs(made):
        four = {kind for kind in four if runs(attempt({kind}, {kind}))}
        eight = {kind for kind in eight if kind in four or runs(attempt({kind}, ()))}
        made = attempt(eight, four)
        if not runs(made):
            raise ModelError(f"LiteRT does not run {name} with weights in {quantization.weights}")
    write_tflite(made, target, quantization, contract, name=name, layers=layers)
    return _left(read_tflite(made, name), quantization.weights, layers)


def _quantize(content: bytes, eight: Sequence[str], four: Sequence[str], rule: ScaleRule) -> bytes:
    from ai_edge_quantizer import qtyping, quantizer
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    rules = {
        "min-max": AlgorithmName.MIN_MAX_UNIFORM_QUANT,
        "mse": AlgorithmName.MSE,
        "octav": AlgorithmName.OCTAV,
    }
    names = qtyping.TFLOperationName
    work: Any = quantizer.Quantizer(bytearray(content))
    for bits, kinds in ((8, [kind for kind in eight if kind not in four]), (4, four)):
        for kind in kinds:
            op = names.CONV_2D_TRANSPOSE if kind == "TRANSPOSE_CONV" else names(kind)
            try:
                work.add_weight_only_config(".*", op, num_bits=bits, algorithm_key=rules[rule])
            except ValueError:  # the rule has no such op
                work.add_weight_only_config(".*", op, num_bits=bits, algorithm_key=rules["min-max"])
    if not eight and not four:
        return content
    try:
        return bytes(work.quantize().quantized_model)
    except EdgedlError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError("ai-edge-quantizer refuses this model", received=lines[0][:300]) from None


def _invoke(content: bytes) -> None:
    """Run the model once on zeros. Raises ModelError when LiteRT refuses it."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        raise ModelError("LiteRT cannot run it", received=str(error).strip().splitlines()[0][:300]) from None


def _with_versions(content: bytes, name: str) -> bytes:
    """The file with true versions of its DEQUANTIZE ops, without the float32 file's least runtime version.

    The converter wrote that one for the ops of the float32 file; this one needs a newer runtime.
    """
    model = read_tflite(content, name)
    names = op_names(model)
    for graph in model.subgraphs:
        tensors = tensors_of(model, graph)
        for op in listed(graph.operators):
            if names[op.opcodeIndex] == "DEQUANTIZE":
                code = model.operatorCodes[op.opcodeIndex]
                needed = _DEQUANTIZE_VERSIONS.get(tensors[op.inputs[0]].dtype, 1)
                code.version = max(code.version, needed)
    model.metadata = [one for one in listed(model.metadata) if text(one.name) != "min_runtime_version"]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _weights(model: Any) -> list[tuple[str, str, list[str], str, int]]:
    """(op, its output's name, names of its constants, type, number of weights) of each op with weight matrices.

    A matrix has two axes longer than one; biases and scales are none.
    """
    names = op_names(model)
    found: list[tuple[str, str, list[str], str, int]] = []
    for graph in model.subgraphs:
        tensors = tensors_of(model, graph)
        constants = {index: tensor for index, tensor in enumerate(tensors) if tensor.buffer}
        for op in listed(graph.operators):
            given, made = listed(op.inputs), listed(op.outputs)
            if names[op.opcodeIndex] == "DEQUANTIZE" and given[0] in constants:
                constants[made[0]] = constants[given[0]]
                continue
            held = [constants[index] for index in given if index in constants]
            matrices = [one for one in held if sum(side > 1 for side in one.shape) > 1]
            for dtype in ("float32", "int8", "int4"):
                if elements := sum(one.elements for one in matrices if one.dtype == dtype):
                    told = [each.name for each in held]
                    found.append((names[op.opcodeIndex], tensors[made[0]].name, told, dtype, elements))
    return found


def _left(model: Any, wanted: str, layers: Sequence[str]) -> tuple[LeftWeights, ...]:
    return tuple(
        LeftWeights(
            op, next((layer for one in (output, *held) if (layer := layer_of(one, layers))), None), dtype, elements
        )
        for op, output, held, dtype, elements in _weights(model)
        if dtype != wanted
    )
