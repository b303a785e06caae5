"""The computing ops of a TFLite graph: which layer each is of, in which type it is stored, which stayed in float."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edgedl.core.errors import ModelError
from edgedl.core.tflite_schema import listed, op_names, read_tflite, tensors_of
from edgedl.export.layers import layer_of

BORDERS = {"QUANTIZE", "DEQUANTIZE"}


@dataclass(frozen=True)
class ComputingOp:
    """One op of a calibrated graph.

    tensor: the name of its output, by which it is chosen. layer: its Keras layer. producer: the position, among the
    computing ops, of the op whose output it takes first; None at the model's input.
    """

    op: str
    tensor: str
    layer: str | None
    producer: int | None


def computing_ops(content: bytes, name: str, layers: Sequence[str] = ()) -> tuple[ComputingOp, ...]:
    """The ops of a TFLite graph in order, without those that only change the number format."""
    model = read_tflite(content, name)
    graph, names = model.subgraphs[0], op_names(model)
    tensors = tensors_of(model, graph)
    found: list[ComputingOp] = []
    made_by: dict[int, int] = {}
    for op in listed(graph.operators):
        outputs = listed(op.outputs)
        producer = next((made_by[index] for index in listed(op.inputs) if index in made_by), None)
        if names[op.opcodeIndex] in BORDERS or not outputs:
            made_by.update((index, producer) for index in outputs if producer is not None)
            continue
        made_by.update((index, len(found)) for index in outputs)
        tensor = tensors[outputs[0]].name
        found.append(ComputingOp(names[op.opcodeIndex], tensor, layer_of(tensor, layers), producer))
    return tuple(found)


def precisions(content: bytes, name: str) -> tuple[str, ...]:
    """The type of the output of each computing op, in the order of `computing_ops`."""
    model = read_tflite(content, name)
    graph, names = model.subgraphs[0], op_names(model)
    tensors = tensors_of(model, graph)
    return tuple(
        tensors[listed(op.outputs)[0]].dtype
        for op in listed(graph.operators)
        if names[op.opcodeIndex] not in BORDERS and listed(op.outputs)
    )


def check_selected(content: bytes, plain: bytes, calibrated: bytes, kept: Collection[str], name: str) -> None:
    """Raise ModelError unless the kept ops of a file are float and all the others as they are in the plain int8 file.

    plain: the file in which nothing was kept; what is float there, the converter cannot quantize.
    """
    ops = computing_ops(calibrated, name)
    own, usual = precisions(content, name), precisions(plain, name)
    if not len(ops) == len(own) == len(usual):
        raise ModelError(
            f"the converter changed the graph of {name} while quantizing it",
            required=f"{len(ops)} ops",
            received=f"{len(own)} and {len(usual)}",
            advice="Use int8, or int16x8, for the whole model",
        )
    for op, dtype, before in zip(ops, own, usual, strict=True):
        wanted = "float32" if op.tensor in kept and before == "int8" else before
        if dtype != wanted:
            raise ModelError(
                f"op {op.op} of {name} is {dtype} in the file",
                required=wanted,
                received=f"{dtype} (tensor {op.tensor})",
                advice="Use int8, or int16x8, for the whole model",
            )
