"""One op of a TFLite file as a file of its own, to ask a runtime whether it takes it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SingleOp:
    """A file with one op. same: ops of the whole file that it stands for. It is removed when the next one is made."""

    path: Path
    kind: str
    same: tuple[int, ...]


def cut_out(path: Path, ops: Sequence[int], folder: Path) -> Iterator[SingleOp]:
    """The ops with these numbers, equal ones once, each with the constants it reads; a tensor that is computed becomes
    an input. Ops with graphs of their own (WHILE, IF) are left out."""
    from ai_edge_litert import schema_py_generated

    schema: Any = schema_py_generated
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    graph = model.subgraphs[model.signatureDefs[0].subgraphIndex if model.signatureDefs else 0]
    files: dict[str, tuple[bytes, str, list[int]]] = {}
    for index in ops:
        code = model.operatorCodes[graph.operators[index].opcodeIndex]
        kind = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if kind in ("WHILE", "IF", "CALL_ONCE", "STABLEHLO_COMPOSITE"):
            continue
        single = _single(schema, model, graph, index)
        key = hashlib.sha256(single).hexdigest()
        files.setdefault(key, (single, kind, []))[2].append(index)
    for number, (single, kind, same) in enumerate(files.values()):
        target = folder / f"{number}.tflite"
        target.write_bytes(single)
        yield SingleOp(target, kind, tuple(same))
        target.unlink()


def _single(schema: Any, model: Any, graph: Any, index: int) -> bytes:
    from flatbuffers import Builder

    def is_constant(tensor: int) -> bool:
        return model.buffers[graph.tensors[tensor].buffer].data is not None

    wanted = graph.operators[index]
    operators = [copy.copy(wanted)]
    for op in graph.operators:  # weights that are stored as float16 pass through a DEQUANTIZE
        if set(op.outputs) & set(wanted.inputs) and all(is_constant(t) for t in op.inputs if t >= 0):
            operators.insert(0, copy.copy(op))
    used = sorted({int(t) for op in operators for t in (*op.inputs, *op.outputs) if t >= 0})
    number = {old: new for new, old in enumerate(used)}
    made = {int(t) for op in operators for t in op.outputs}
    inputs = [number[t] for t in used if t not in made and not is_constant(t)]
    outputs = [number[int(t)] for t in wanted.outputs]
    buffers, tensors = [schema.BufferT()], []
    for new, old in enumerate(used):
        tensor = copy.copy(graph.tensors[old])
        constant = model.buffers[tensor.buffer]
        tensor.name, tensor.buffer = f"t{new}", len(buffers) if constant.data is not None else 0
        if constant.data is not None:
            buffers.append(constant)
        tensors.append(tensor)
    for op in operators:
        op.inputs = [number.get(int(t), -1) for t in op.inputs]
        op.outputs = [number[int(t)] for t in op.outputs]
        op.intermediates = None
    small = schema.SubGraphT(tensors=tensors, inputs=inputs, outputs=outputs, operators=operators)
    signature = schema.SignatureDefT(
        inputs=[schema.TensorMapT(f"i{k}", t) for k, t in enumerate(inputs)],
        outputs=[schema.TensorMapT(f"o{k}", t) for k, t in enumerate(outputs)],
        signatureKey="serving_default",
    )
    whole = schema.ModelT(
        version=3, operatorCodes=model.operatorCodes, subgraphs=[small], buffers=buffers, signatureDefs=[signature]
    )
    builder = Builder(0)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())
