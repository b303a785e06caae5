"""Which ops make the difference between two files: op by op, the largest difference first.

Ops are matched in order of execution, by kind and Keras layer, then by kind alone (longest matching blocks, Ratcliff
and Metzener 1988, as `difflib` has them): so an op that was put in between moves no other.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from edgedl.core.artifacts import LatencyReport, Obtained, OpChange, OpCost
from edgedl.core.model_facts import ModelFacts, OpFacts

Pair = tuple[OpFacts | None, OpFacts | None]

LEAST_SHARE, DEVIATIONS = 0.01, 3.0
"""Times of single ops are taken once and without an interval. So what all unchanged ops have in common (their median
ratio) is the machine's, and a time is told where it is off that by more than this share of all ops together and by more
than so many standard deviations (from the median absolute one)."""


def explain(old: ModelFacts, new: ModelFacts, report: LatencyReport | None = None) -> tuple[OpChange, ...]:
    """The ops in which `new` differs from `old`. report: of a session of (old, new); without one, what ops cost is not
    known, and sizes alone tell them apart."""
    costs = [{cost.index: cost for cost in model.ops} for model in report.models] if report else [{}, {}]
    pairs = [(one, other, _cost(costs[0], one), _cost(costs[1], other)) for one, other in matched(old.ops, new.ops)]
    unchanged = [pair for pair in pairs if pair[0] and pair[1] and not _differs(*pair)]
    noise = _noise(unchanged, sum(cost.cost for cost in costs[0].values()))
    obtained = report.obtained if report else "measured"
    found = [change for pair in pairs if (change := _change(*pair, noise, obtained))]
    return tuple(sorted(found, key=_weight, reverse=True))


def matched(old: Sequence[OpFacts], new: Sequence[OpFacts]) -> list[Pair]:
    """The ops of two files side by side, in order; None where one has no counterpart."""
    pairs: list[Pair] = []
    for same, one, other in _blocks([(op.op, op.layer) for op in old], [(op.op, op.layer) for op in new]):
        olds, news = old[one], new[other]
        if same:
            pairs += zip(olds, news, strict=True)
            continue
        for alike, part, counterpart in _blocks([op.op for op in olds], [op.op for op in news]):
            if alike:
                pairs += zip(olds[part], news[counterpart], strict=True)
            else:
                pairs += [(op, None) for op in olds[part]]
                pairs += [(None, op) for op in news[counterpart]]
    return pairs


def _blocks(old: Sequence[object], new: Sequence[object]) -> list[tuple[bool, slice, slice]]:
    codes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [(tag == "equal", slice(a, b), slice(c, d)) for tag, a, b, c, d in codes]


def _cost(costs: dict[int, OpCost], op: OpFacts | None) -> OpCost | None:
    return costs.get(op.index) if op else None


Costed = tuple[OpFacts | None, OpFacts | None, OpCost | None, OpCost | None]


def _differs(old: OpFacts | None, new: OpFacts | None, old_cost: OpCost | None, new_cost: OpCost | None) -> list[str]:
    """What is not the same of an op that both files have, in words, besides its cost."""
    if old is None or new is None:
        return []
    sides = (
        ("precision", old.precision, new.precision),
        ("output", list(old.output_shape), list(new.output_shape)),
        ("MACs", f"{old.macs:,}", f"{new.macs:,}"),
        ("weights", f"{old.weight_bytes:,} B", f"{new.weight_bytes:,} B"),
        ("runs on", old_cost.runs_on if old_cost else "", new_cost.runs_on if new_cost else ""),
    )
    return [f"{what} {before} → {after}" for what, before, after in sides if before != after]


@dataclass(frozen=True)
class _Noise:
    """By what factor all times moved, and from which distance to that on a time is told; (1, 0) of counts."""

    drift: float
    least: float


def _noise(unchanged: Sequence[Costed], total: float) -> _Noise:
    costs = [(one.cost, other.cost) for _, _, one, other in unchanged if one and other and other.unit == "us"]
    if not costs:
        return _Noise(1.0, 0.0)
    drift = statistics.median(new / old for old, new in costs if old > 0) if any(old > 0 for old, _ in costs) else 1.0
    deviation = 1.4826 * statistics.median(abs(new - drift * old) for old, new in costs)
    return _Noise(drift, max(LEAST_SHARE * total, DEVIATIONS * deviation))


def _change(
    old: OpFacts | None,
    new: OpFacts | None,
    old_cost: OpCost | None,
    new_cost: OpCost | None,
    noise: _Noise,
    obtained: Obtained,
) -> OpChange | None:
    """How an op differs; None where it does not."""
    op, known = new or old, new_cost or old_cost
    assert op is not None
    differs = _differs(old, new, old_cost, new_cost)
    off = (new_cost.cost if new_cost else 0.0) - noise.drift * (old_cost.cost if old_cost else 0.0)
    if old is not None and new is not None and not differs and abs(off) <= noise.least:
        return None
    return OpChange(
        kind="new" if old is None else "gone" if new is None else "changed",
        op=op.op,
        layer=op.layer,
        old_index=old.index if old else None,
        new_index=new.index if new else None,
        old_cost=old_cost.cost if old_cost else None,
        new_cost=new_cost.cost if new_cost else None,
        unit=known.unit if known else None,
        differs=tuple(differs),
        macs=(new.macs if new else 0) - (old.macs if old else 0),
        weight_bytes=(new.weight_bytes if new else 0) - (old.weight_bytes if old else 0),
        obtained=obtained,
    )


def _weight(change: OpChange) -> tuple[float, int, int]:
    return abs(change.added), abs(change.macs), abs(change.weight_bytes)


def op_counts_in_words(old: ModelFacts, new: ModelFacts) -> str:
    """How many ops of each kind there are more or fewer: "+2 DEQUANTIZE, −1 CONV_2D"; "" where as many."""
    counts = Counter(op.op for op in new.ops)
    counts.subtract(op.op for op in old.ops)
    return ", ".join(f"{n:+d} {op}".replace("-", "−") for op, n in sorted(counts.items()) if n)
