"""What a Core ML package is: its ops in order with their figures, read with coremltools' own definitions."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgedl.core.artifacts import TensorSpec
from edgedl.core.errors import ModelError, UnavailableError
from edgedl.core.files import gzip_size
from edgedl.core.isolation import Limits, run_isolated
from edgedl.core.model_facts import ModelFacts, OpFacts
from edgedl.export.onnx_metadata import ONNX_CONTRACT, ONNX_LAYERS, read_onnx_contract

MODULE = "coremltools"
MANIFEST = "Manifest.json"
LIMITS = Limits(time_s=300.0)
NOT_RUN = "Core ML predicts on Apple's systems alone: nothing was run here, so the answers are not verified"

_SYSTEMS = {6: "iOS 15, macOS 12", 7: "iOS 16, macOS 13", 8: "iOS 17, macOS 14", 9: "iOS 18, macOS 15"}
_DTYPES = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32", 131080: "int8"}


def check_installed() -> None:
    """Raise UnavailableError, naming the extra, without coremltools."""
    if importlib.util.find_spec(MODULE) is None:
        raise UnavailableError(
            "Core ML packages are written and read by coremltools, which is not installed",
            advice="`pip install 'edgedl[coreml]'` brings it",
        )


def is_package(path: Path) -> bool:
    """Whether a folder is a Core ML package."""
    return path.suffix == ".mlpackage" and (path / MANIFEST).is_file()


def inspect_coreml(path: Path) -> ModelFacts:
    """What a package is, op by op; constants are no ops. Reads in a child process: importing coremltools takes seconds.

    Raises ModelError when it is damaged, UnavailableError without coremltools.
    """
    check_installed()
    return run_isolated(read_package, path.absolute(), stage="reading", subject=path.name, limits=LIMITS)


@dataclass(frozen=True)
class _Program:
    """shapes, dtypes: of every value by name. weights: shape and stored bytes of every constant of numbers."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    weights: dict[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)


def read_package(path: Path) -> ModelFacts:
    """As `inspect_coreml`, in this process."""
    from google.protobuf.message import DecodeError

    try:
        spec = _read(path)
    except (OSError, ValueError, KeyError, TypeError, DecodeError) as error:
        raise ModelError(
            f"{path.name} is no Core ML package, or a damaged one",
            required="a Manifest.json and the model that it names",
            received=f"{type(error).__name__}: {error}"[:200],
        ) from None
    given: Mapping[str, str] = dict(spec.description.metadata.userDefined)
    contract, layers = read_onnx_contract(given)
    notes = [NOT_RUN]
    kind = spec.WhichOneof("Type")
    program = _Program()
    operations = list(_operations(spec.mlProgram)) if kind == "mlProgram" else []
    if kind != "mlProgram":
        notes.append(f"a Core ML model of the kind {kind}: its inside is not read")
    for one in operations:
        _learn(one, program)
    ops = [one for one in operations if not one.type.startswith("const")]
    if any(one.type in ("while_loop", "cond") for one in ops):
        notes.append("control flow: what its inner graphs compute is counted once")
    inputs = tuple(_spec(one) for one in spec.description.input)
    batch = max(inputs[0].shape[0], 1) if inputs and len(inputs[0].shape) > 1 else 1
    facts = tuple(_op_facts(index, one, program, layers, batch) for index, one in enumerate(ops))
    version = spec.specificationVersion
    own = {
        "description": spec.description.metadata.shortDescription,
        "specification": f"{version} ({_SYSTEMS.get(version, 'Apple systems')} or newer)",
    }
    hidden = (ONNX_CONTRACT, ONNX_LAYERS) if contract else ()
    files = [one for one in path.rglob("*") if one.is_file()]
    return ModelFacts(
        file=path.name,
        kind="coreml",
        size_bytes=sum(one.stat().st_size for one in files),
        gzip_bytes=sum(gzip_size(one) for one in files),
        inputs=inputs,
        outputs=tuple(_spec(one) for one in spec.description.output),
        ops=facts,
        parameters=sum(math.prod(shape) for shape, _ in program.weights.values()),
        macs=sum(one.macs for one in facts),
        precision=_precision(facts),
        metadata={key: value for key, value in (own | dict(given)).items() if value and key not in hidden},
        notes=tuple(notes),
    )


def _read(path: Path) -> Any:
    from coremltools.proto import Model_pb2

    manifest = json.loads((path / MANIFEST).read_text())
    root = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    model: Any = Model_pb2.Model()
    model.ParseFromString((path / "Data" / root).read_bytes())
    if not model.specificationVersion:
        raise ValueError("a model without a specification version")
    for one in _operations(model.mlProgram):
        for value in one.attributes.values():
            file = value.blobFileValue.fileName.replace("@model_path", str((path / "Data" / root).parent))
            if file and not Path(file).is_file():
                raise ValueError(f"its weights are missing: {value.blobFileValue.fileName}")
    return model


def _operations(program: Any) -> Iterator[Any]:
    for function in program.functions.values():
        for block in function.block_specializations.values():
            yield from _in_block(block)


def _in_block(block: Any) -> Iterator[Any]:
    for one in block.operations:
        for inner in one.blocks:
            yield from _in_block(inner)
        yield one


def _spec(feature: Any) -> TensorSpec:
    kind = feature.type.WhichOneof("Type")
    if kind == "imageType":
        return TensorSpec(feature.name, (feature.type.imageType.height, feature.type.imageType.width), "image")
    array = feature.type.multiArrayType
    return TensorSpec(feature.name, tuple(array.shape), _DTYPES.get(array.dataType, kind or ""))


# --- ops ---------------------------------------------------------------------------------------------------------


def _learn(operation: Any, program: _Program) -> None:
    """Keep shape and type of what the operation makes, and of a constant its stored size."""
    for output in operation.outputs:
        tensor = output.type.tensorType
        program.shapes[output.name] = tuple(side.constant.size for side in tensor.dimensions)
        program.dtypes[output.name] = _dtype(tensor.dataType)
    if operation.type == "const":
        value = operation.attributes["val"]
        name = operation.outputs[0].name
        shape, dtype = program.shapes[name], program.dtypes[name]
        if value.HasField("blobFileValue") or (shape and dtype.startswith("float")):
            program.weights[name] = shape, math.prod(shape) * int("".join(filter(str.isdigit, dtype)) or 8) // 8


def _dtype(number: int) -> str:
    from coremltools.proto import MIL_pb2

    return MIL_pb2.DataType.Name(number).lower()  # pyright: ignore[reportAttributeAccessIssue]


def _op_facts(index: int, operation: Any, program: _Program, layers: tuple[str, ...], batch: int) -> OpFacts:
    arguments = {
        key: one.name for key, value in operation.inputs.items() for one in value.arguments if one.WhichOneof("binding")
    }
    weights = [program.weights[name] for name in arguments.values() if name in program.weights]
    name = operation.attributes["name"].immediateValue.tensor.strings.values
    output = operation.outputs[0].name if operation.outputs else ""
    return OpFacts(
        index=index,
        op=operation.type,
        name=name[0] if name else output,
        layer=_layer_of(name[0], layers) if name else None,
        precision=program.dtypes.get(output, ""),
        output_shape=program.shapes.get(output, ()),
        macs=_macs(operation.type, arguments, program.shapes.get(output, ()), program) // batch,
        parameters=sum(math.prod(shape) for shape, _ in weights),
        weight_bytes=sum(size for _, size in weights),
    )


def _layer_of(name: str, layers: tuple[str, ...]) -> str | None:
    """The layer whose name is a part of the op's, in which Core ML has an underscore for every other sign."""
    found = [layer for layer in layers if f"_{identifier_of(layer).strip('_')}_" in f"_{name}_"]
    return max(found, key=len, default=None)


def identifier_of(name: str) -> str:
    """A name as Core ML has it: letters, digits and underscores, beginning with no digit."""
    plain = re.sub(r"[^0-9A-Za-z_]", "_", name)
    return plain if re.match(r"[A-Za-z_]", plain) else f"_{plain}"


def _macs(kind: str, arguments: Mapping[str, str], output: tuple[int, ...], program: _Program) -> int:
    def shape(key: str) -> tuple[int, ...]:
        return program.shapes.get(arguments.get(key, ""), ())

    weight, x = shape("weight"), shape("x")
    if kind == "conv" and weight:
        return math.prod(output) * math.prod(weight[1:])
    if kind == "conv_transpose" and weight:
        return math.prod(x) * math.prod(weight[1:])
    if kind == "linear" and weight:
        return math.prod(output) * weight[-1]
    if kind == "matmul" and output:
        return math.prod(x) * output[-1]
    if kind in ("lstm", "gru", "rnn"):
        return x[0] * x[1] * (math.prod(shape("weight_ih")) + math.prod(shape("weight_hh"))) if len(x) == 3 else 0
    return 0


def _precision(ops: tuple[OpFacts, ...]) -> str:
    """What the ops that multiply compute in, or all where none does; "none" without floats."""
    found = {one.precision for one in ops if one.macs} or {one.precision for one in ops}
    floats = sorted(one for one in found if one.startswith("float"))
    return "mixed" if len(floats) > 1 else floats[0] if floats else "none"
