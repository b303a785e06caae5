"""Which ops of a TFLite file LiteRT gave to the GPU, and why not the others. Pure functions.

LiteRT's log lists kinds of ops that the GPU refuses, with reasons, and how many ops go where; no op by its number. The
GPU gets one part of the graph, the largest that its kind of op can form. So the parts are worked out by TFLite's rule
(`litert_ops.partition`), and an op is placed only where exactly one part fits the number of ops that the log gives and
the kernels that ran before the GPU's turn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgedl.devices.litert_ops import DELEGATE_KERNELS, OWN_KERNEL, Event, Graph, partition

NO_SUCH_KERNEL = "Operation is not supported."  # said of a kind of op, whatever its shapes and types
GPU_NODE = "LITERT_"  # as the profiler names the GPU's part
ONE_PART = "the GPU would take it, but LiteRT gives it only one part of the graph, the largest"
WEIGHTS = "unpacks constant weights; the GPU's part has its own way"


@dataclass(frozen=True)
class Told:
    """LiteRT's words about the main graph. refused: kinds of op with the reason, one op or several."""

    refused: tuple[tuple[str, str], ...]
    on_gpu: int
    on_cpu: int


@dataclass(frozen=True)
class Place:
    """Where an op runs: "gpu", "cpu", or "" where that is not known; and why."""

    runs_on: str
    why: str = ""


def read_log(said: str) -> Told | None:
    """What the log says of the first graph; None where it says nothing."""
    pattern = (
        r"Following operations are not supported by GPU delegate:\n((?:.*\n)*?)"
        r"(\d+|No) operations will run on the GPU, and (?:the remaining|all) (\d+) operations will run on the CPU"
    )
    found = re.search(pattern, said)
    if found is None:
        return None
    refused = re.findall(r"^(\w[^:\n]*): ?(.*)$", found[1], re.MULTILINE)
    on_gpu = 0 if found[2] == "No" else int(found[2])
    return Told(tuple((kind.strip(), reason.strip()) for kind, reason in refused), on_gpu, int(found[3]))


def kernels_before(events: Sequence[Event]) -> tuple[Event, ...]:
    """The kernels that ran before the GPU's part; all, where it never had its turn."""
    kernels = [event for event in events if event[0] in (OWN_KERNEL, *DELEGATE_KERNELS)]
    turn = next((k for k, event in enumerate(kernels) if event[3].startswith(GPU_NODE)), len(kernels))
    return tuple(kernels[:turn])


def open_questions(graph: Graph, told: Told) -> list[int]:
    """Ops that the log alone does not judge: of a refused kind, where the reason may not hold for all of them."""
    reasons = _by_kind(told)
    return [
        index
        for index, op in enumerate(graph.ops)
        if op.op in reasons
        and reasons[op.op] != {NO_SUCH_KERNEL}
        and sum(one.op == op.op for one in graph.ops) > 1
        and not _unpacks_weights(graph, index)
    ]


def place(graph: Graph, told: Told, answers: Mapping[int, str], before: Sequence[Event] | None) -> list[Place]:
    """Where each op runs. answers: to the open questions, "" for an op that the GPU takes, else its reason."""
    reasons = _by_kind(told)
    asked = set(open_questions(graph, told))
    refused: dict[int, str] = {}
    unknown = False
    for index, op in enumerate(graph.ops):
        if index in asked:
            if index not in answers:
                unknown = True
            elif answers[index]:
                refused[index] = answers[index]
        elif op.op in reasons:
            refused[index] = WEIGHTS if _unpacks_weights(graph, index) else "; ".join(sorted(reasons[op.op]))
    chosen = None if unknown else _chosen(graph, told, refused, before)
    if chosen is None:
        why = f"LiteRT gives {told.on_gpu} of {told.on_gpu + told.on_cpu} ops to the GPU and does not tell which"
        return [
            Place("cpu", refused[index]) if index in refused else Place("cpu" if not told.on_gpu else "", why)
            for index in range(len(graph.ops))
        ]
    return [
        Place("gpu") if index in chosen else Place("cpu", refused.get(index, ONE_PART))
        for index in range(len(graph.ops))
    ]


def _by_kind(told: Told) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for kind, reason in told.refused:
        found.setdefault(kind, set()).add(reason)
    return found


def _unpacks_weights(graph: Graph, index: int) -> bool:
    return graph.ops[index].op == "DEQUANTIZE" and not graph.ops[index].inputs


def _chosen(graph: Graph, told: Told, refused: Mapping[int, str], before: Sequence[Event] | None) -> set[int] | None:
    """The part of the graph that the GPU has; None where none, or more than one, fits what is known."""
    parts = [part for part in partition(graph, set(refused)) if part[0] not in refused]
    if told.on_gpu + told.on_cpu != len(graph.ops) or not parts or max(map(len, parts)) != told.on_gpu:
        return None
    fitting = [set(part) for part in parts if len(part) == told.on_gpu and _fits(graph, set(part), before)]
    return fitting[0] if len(fitting) == 1 else None


def _fits(graph: Graph, part: set[int], before: Sequence[Event] | None) -> bool:
    """Whether the kernels that ran before the GPU's turn are those of the ops that come before this part."""
    if before is None:
        return True
    rest = set(range(len(graph.ops))) - part
    steps = partition(graph, rest)
    earlier: set[int] = set()
    for step in steps:
        if step[0] in part:
            break
        earlier.update(step)
    own = {index for kind, index, subgraph, *_ in before if kind == OWN_KERNEL and subgraph == graph.subgraph}
    return own <= earlier and bool(before) == bool(earlier)
