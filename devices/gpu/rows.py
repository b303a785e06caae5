"""Where the ops run, as a report shows it."""

from __future__ import annotations

from collections.abc import Sequence

from edgedl.core.artifacts import OpCost
from edgedl.core.model_facts import OpFacts
from edgedl.devices.gpu.placement import Place


def op_rows(facts: Sequence[OpFacts], places: Sequence[Place]) -> tuple[OpCost, ...]:
    """One row per op of the file, with its multiply–accumulates: neither runtime times kernels on a GPU."""
    total = sum(fact.macs for fact in facts) or 1
    return tuple(
        OpCost(fact.index, fact.op, fact.layer, fact.macs, "MACs", fact.macs / total, place.runs_on, place.why)
        for fact, place in zip(facts, places, strict=True)
    )


def coverage(ops: Sequence[OpCost]) -> list[str]:
    """What runs on the GPU, then what does not and why, in sentences."""
    on_gpu = [op for op in ops if op.runs_on == "gpu"]
    share = sum(op.share for op in on_gpu)
    least = "at least " if any(op.runs_on == "" for op in ops) else ""
    sentences = [f"{least}{len(on_gpu)} of {len(ops)} ops run on the GPU, with {share:.0%} of the multiply–accumulates"]
    for where, start in (("cpu", "on the CPU"), ("", "not placed")):
        by_reason: dict[str, list[OpCost]] = {}
        for op in ops:
            if op.runs_on == where:
                by_reason.setdefault(op.note, []).append(op)
        for reason, these in by_reason.items():
            kinds = ", ".join(f"{op.op} ({op.index})" for op in these[:5])
            more = f" and {len(these) - 5} more" if len(these) > 5 else ""
            sentences.append(f"{start}: {kinds}{more}{f': {reason}' if reason else ''}")
    return sentences
