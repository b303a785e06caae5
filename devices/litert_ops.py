"""Which op of a TFLite file a profiled kernel belongs to. Pure functions; see `tie`.

LiteRT's profiler names TFLite's own kernels by the op's index. XNNPACK names its kernels by its own count: one op of
the file may be several of them (ADD with a fused ReLU is "Add" and "Clamp"), helpers are inserted ("Static Reshape"
before every FULLY_CONNECTED on a reshaped input), and ops can be fused away. So the kernels of each partition that
XNNPACK took over are parsed against the ops of that partition, in order, and an op is named only when *every* parse
agrees on it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedl.core.tflite_schema import listed, op_names, read_tflite, tensors_of
from edgedl.devices.session import OpTime, OpTimes, median_of_means

Event = tuple[int, int, int, str, int]
"""Type, index, subgraph, tag, microseconds (litert_profiler_event.h)."""

OWN_KERNEL, DELEGATE_KERNELS = 2, (4, 8)


@dataclass(frozen=True)
class GraphOp:
    """One op of the file: its inputs and outputs are tensor numbers; constant inputs are left out."""

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    fused_activation: bool = False


@dataclass(frozen=True)
class Graph:
    """The subgraph that is run: its number in the file, and its ops by index."""

    subgraph: int
    ops: tuple[GraphOp, ...]


def read_graph(path: Path) -> Graph:
    """The graph of the file's first signature (of its first subgraph, where there are no signatures)."""
    model = read_tflite(path.read_bytes(), path.name)
    names = op_names(model)
    subgraph = model.signatureDefs[0].subgraphIndex if model.signatureDefs else 0
    graph = model.subgraphs[subgraph]
    constant = {index for index, tensor in enumerate(tensors_of(model, graph)) if tensor.buffer}
    ops: list[GraphOp] = []
    for op in listed(graph.operators):
        inputs = tuple(int(i) for i in listed(op.inputs) if i >= 0 and i not in constant)
        activation = getattr(op.builtinOptions, "fusedActivationFunction", 0)
        outputs = tuple(int(i) for i in listed(op.outputs))
        ops.append(GraphOp(names[op.opcodeIndex], inputs, outputs, bool(activation)))
        if not inputs:  # computed from constants alone
            constant.update(outputs)
    return Graph(subgraph, tuple(ops))


def tie(runs: Sequence[Sequence[Event]], graph: Graph) -> OpTimes:
    """The kernels of the profiled runs, each with the op of the file that it belongs to where that can be told."""
    kernels = [[event for event in run if _is_kernel(event, graph)] for run in runs]
    shapes = Counter(tuple(_identity(event) for event in run) for run in kernels)
    (usual, times), *_ = shapes.most_common(1)
    same = [run for run in kernels if tuple(_identity(event) for event in run) == usual]
    tied = _owners(usual, graph)
    rows = tuple(
        OpTime(owner, usual[k][2], median_of_means([run[k][4] for run in same])) for k, owner in enumerate(tied)
    )
    notes: list[str] = []
    if unknown := sum(owner is None for owner in tied):
        notes.append(f"{unknown} of {len(tied)} kernels could not be traced back to one op of the file")
    if times < len(runs):
        notes.append(f"{len(runs) - times} of {len(runs)} profiled runs took another path and were left out")
    outside = [usual[k] for k in range(len(usual)) if usual[k][0] == OWN_KERNEL]
    if outside and len(outside) < len(usual):
        listed = ", ".join(sorted({f"{name} ({index})" for _, index, name in outside}))
        notes.append(f"{len(outside)} of {len(graph.ops)} ops run outside XNNPACK: {listed}")
    return OpTimes(rows, tuple(notes))


def _is_kernel(event: Event, graph: Graph) -> bool:
    """Kernels of the graph itself; those in the body of a WHILE or IF are part of that op's time."""
    return event[0] in (OWN_KERNEL, *DELEGATE_KERNELS) and event[2] == graph.subgraph


def _identity(event: Event) -> tuple[int, int, str]:
    return event[0], event[1], event[3]


def _owners(kernels: Sequence[tuple[int, int, str]], graph: Graph) -> list[int | None]:
    """The op index of each kernel (type, index, name); None where it cannot be told."""
    own = {index for kind, index, _ in kernels if kind == OWN_KERNEL}
    if own - set(range(len(graph.ops))):  # LiteRT inlined a composite: the numbers are no longer the file's
        return [None] * len(kernels)
    found: list[int | None] = [index if kind == OWN_KERNEL else None for kind, index, _ in kernels]
    seen = _steps(kernels)
    planned = partition(graph, own)
    delegated = sum(_own_index(step, kernels) is None for step in seen)
    if delegated < sum(subset[0] not in own for subset in planned):  # some left no kernel at all
        planned = [
            subset
            for subset in planned
            if subset[0] in own or not all(_may_vanish(graph, index, subset) for index in subset)
        ]
    steps = [step for subset in planned for step in ([[i] for i in subset] if subset[0] in own else [subset])]
    if [_own_index(step, kernels) for step in seen] != [step[0] if step[0] in own else None for step in steps]:
        return found  # another order than TFLite's rule gives: nothing more is certain
    for positions, subset in zip(seen, steps, strict=True):
        if subset[0] not in own:
            names = [kernels[k][2] for k in positions]
            for k, owner in zip(positions, parse(names, subset, graph), strict=True):
                found[k] = owner
    return found


def _steps(kernels: Sequence[tuple[int, int, str]]) -> list[list[int]]:
    """Positions of the kernels of each step: one of TFLite's own, or a delegate partition, counted from 0 anew."""
    steps: list[list[int]] = []
    for position, (kind, index, _) in enumerate(kernels):
        begins = kind == OWN_KERNEL or index == 0 or not steps or kernels[steps[-1][0]][0] == OWN_KERNEL
        if begins:
            steps.append([])
        steps[-1].append(position)
    return steps


def _own_index(step: Sequence[int], kernels: Sequence[tuple[int, int, str]]) -> int | None:
    kind, index, _ = kernels[step[0]]
    return index if kind == OWN_KERNEL else None


def partition(graph: Graph, own: set[int]) -> list[list[int]]:
    """The order in which TFLite runs the ops: alternating subsets that stay with it (`own`) or go to the delegate.

    TFLite's rule (graph_info.cc): a subset takes, in order, every op of its kind whose inputs are there, until none
    is left; then a subset of the other kind begins.
    """
    missing = {tensor for op in graph.ops for tensor in op.outputs}
    left, subsets = list(range(len(graph.ops))), []
    while left:
        subset: list[int] = []
        grown = True
        while grown:
            grown = False
            for index in list(left):
                ready = not missing.intersection(graph.ops[index].inputs)
                if ready and (not subset or (index in own) == (subset[0] in own)):
                    subset.append(index)
                    left.remove(index)
                    missing.difference_update(graph.ops[index].outputs)
                    grown = True
        if not subset:  # a graph that never becomes ready is not one that ran
            break
        subsets.append(subset)
    return subsets


# --- the grammar of XNNPACK's kernels ----------------------------------------------------------------------------

_NAMES = {  # TFLite op → names of the XNNPACK kernels that compute it
    "CONV_2D": "Convolution|Fully Connected", "DEPTHWISE_CONV_2D": "Convolution", "TRANSPOSE_CONV": "Deconvolution",
    "FULLY_CONNECTED": "Fully Connected|Dynamic Fully Connected",
    "BATCH_MATMUL": "Batch Matrix Multiply|Fully Connected|Dynamic Fully Connected",
    "AVERAGE_POOL_2D": "Average Pooling", "MAX_POOL_2D": "Max Pooling", "SOFTMAX": "Softmax",
    "ADD": "Add|Binary Elementwise", "SUB": "Subtract|Binary Elementwise", "MUL": "Multiply|Square|Binary Elementwise",
    "DIV": "Divide|Binary Elementwise", "MAXIMUM": "Maximum|Binary Elementwise",
    "MINIMUM": "Minimum|Binary Elementwise", "SQUARED_DIFFERENCE": "Squared Difference|Binary Elementwise",
    "POW": "Power|Binary Elementwise", "PRELU": "PReLU|Binary Elementwise",
    "RELU": "Clamp", "RELU6": "Clamp", "RELU_N1_TO_1": "Clamp", "RELU_0_TO_1": "Clamp",
    "LOGISTIC": "Sigmoid", "TANH": "TanH", "HARD_SWISH": "HardSwish", "GELU": "GELU|ApproxGELU", "ELU": "ELU",
    "LEAKY_RELU": "LeakyReLU", "ABS": "Abs", "NEG": "Negate", "EXP": "Exp", "LOG": "Log", "SIN": "Sine",
    "COS": "Cosine", "SQRT": "Square Root", "RSQRT": "Reciprocal Square Root", "SQUARE": "Square",
    "CEIL": "Ceiling", "FLOOR": "Floor", "ROUND": "Bankders Rounding", "SIGN": "Sign",
    "MEAN": "Mean|Mean Squared", "SUM": "Sum|Normalize", "REDUCE_MAX": "Reduce Max", "REDUCE_MIN": "Reduce Min",
    "RESHAPE": "Static Reshape|Copy", "EXPAND_DIMS": "Static Reshape|Static Expand Dims", "SQUEEZE": "Static Reshape",
    "TRANSPOSE": "Transpose", "SLICE": "Slice", "STRIDED_SLICE": "Slice", "PAD": "Constant Pad",
    "SPACE_TO_DEPTH": "Space To Depth", "DEPTH_TO_SPACE": "Depth To Space", "RESIZE_BILINEAR": "Resize Bilinear",
    "QUANTIZE": "Convert", "DEQUANTIZE": "Convert", "CAST": "Convert",
    "CONCATENATION": "Copy", "SPLIT": "Copy|Slice", "SPLIT_V": "Copy|Slice",
    "VAR_HANDLE": "Copy", "READ_VARIABLE": "Copy", "ASSIGN_VARIABLE": "Copy",
}  # fmt: skip
_HELPED = {"FULLY_CONNECTED", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"}
_CLAMPS = {"RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"}
_REDUCTIONS = {"MEAN", "SUM"}


def parse(names: Sequence[str], subset: Sequence[int], graph: Graph) -> list[int | None]:
    """The op of `subset` (indices, in order) that each kernel belongs to; None where parses differ or there is none.

    names: XNNPACK's names of the partition's kernels in order, e.g. "Convolution (NHWC, F32) IGEMM".
    """
    bare = [re.split(r" \(", name)[0] + ";" for name in names]
    patterns = [re.compile(_pattern(graph, index, subset)) for index in subset]
    size = len(bare)

    def ends(op: int, start: int) -> list[int]:
        last = size if graph.ops[subset[op]].op not in _NAMES else min(size, start + _longest(graph.ops[subset[op]]))
        return [end for end in range(start, last + 1) if patterns[op].fullmatch("".join(bare[start:end]))]

    reached = [{0}]
    steps: list[dict[int, list[int]]] = []
    for op in range(len(subset)):
        steps.append({start: ends(op, start) for start in reached[-1]})
        reached.append({end for found in steps[-1].values() for end in found})
    good = {size} & reached[-1]
    owners: list[set[int]] = [set() for _ in bare]
    for op in reversed(range(len(subset))):
        before: set[int] = set()
        for start, found in steps[op].items():
            for end in good.intersection(found):
                before.add(start)
                for kernel in range(start, end):
                    owners[kernel].add(subset[op])
        good = before
    return [next(iter(owner)) if len(owner) == 1 else None for owner in owners]


def _pattern(graph: Graph, index: int, subset: Sequence[int]) -> str:
    """A regular expression over kernel names, each ended by a semicolon, for what the op may become."""
    op = graph.ops[index]
    if op.op not in _NAMES:
        return ".*"
    kernel = f"(?:{_NAMES[op.op]});"
    if op.op in _HELPED:
        kernel = f"(?:(?:Convert|Static Reshape|Transpose|Constant Pad);){{0,2}}{kernel}"
    if op.op == "CONCATENATION":
        kernel = f"(?:{kernel}){{1,{len(op.inputs) + 1}}}"
    if op.op in ("SPLIT", "SPLIT_V"):
        kernel = f"(?:{kernel}){{1,{len(op.outputs)}}}"
    if op.fused_activation:
        kernel += "(?:Clamp;)?"
    return f"(?:{kernel})?" if _may_vanish(graph, index, subset) else kernel


def _longest(op: GraphOp) -> int:
    """No pattern matches more kernels than this: two helpers, a clamp, and a copy for each input or output."""
    return 3 + max(1, len(op.inputs) + 1, len(op.outputs))


def _may_vanish(graph: Graph, index: int, subset: Sequence[int]) -> bool:
    """Whether XNNPACK may fuse the op into a neighbour, or compute it once and for all."""
    op = graph.ops[index]
    others = (graph.ops[other] for other in subset)
    return (
        not op.inputs
        or op.op in ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")
        or (op.op in _CLAMPS and any(_feeds(other, op) for other in others))
        or (op.op == "PAD" and any(other.op in _HELPED and _feeds(op, other) for other in others))
        or (op.op == "MUL" and any(other.op in _REDUCTIONS and _feeds(op, other) for other in others))
    )


def _feeds(op: GraphOp, other: GraphOp) -> bool:
    return not set(op.outputs).isdisjoint(other.inputs)
