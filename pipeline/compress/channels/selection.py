"""Which channels go: the least important for the MACs that they cost, from the whole network, until the target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedl.pipeline.compress.channels.graph import Couplings
from edgedl.pipeline.compress.channels.importance import Scores

TOLERANCE = 0.02
"""A removal that goes below the target by more than this share of the MACs is put off while others are left."""


@dataclass(frozen=True)
class Choice:
    """kept: for each group, which channels stay, (n,). macs: for one example then."""

    kept: list[NDArray[np.bool_]]
    macs: int


def choose(couplings: Couplings, scores: Scores, target: float, *, round_to: int, floor: float) -> Choice:
    """Remove channels until there are at most `target` MACs, or nothing more can go.

    Greedy: of every group the next `round_to` least important channels are one candidate, and the candidate with the
    smallest price goes first. The price is importance per MAC saved, times (channels at first / channels then): scores
    are of single channels while all others are there, and the fewer are left the more each of them does. round_to:
    groups stay multiples of it where they are large enough; floor: the share of a group that stays. Groups with
    infinite scores stay.
    """
    sizes = couplings.sizes
    order = [np.argsort(one, kind="stable") for one in scores]
    sums = [np.concatenate([[0.0], np.cumsum(one[by])]) for one, by in zip(scores, order, strict=True)]
    left, macs = list(sizes), couplings.macs(sizes)
    steps = [_step(n, round_to) for n in sizes]
    least = [max(step, -(-int(np.ceil(n * floor)) // step) * step) for n, step in zip(sizes, steps, strict=True)]
    slack = TOLERANCE * macs
    whole = macs

    def candidate(group: int) -> tuple[float, int, int] | None:
        """Its price, the channels left after it, and the MACs then."""
        after = (left[group] - 1) // steps[group] * steps[group]
        if after < least[group] or not np.isfinite(scores[group]).all():
            return None
        fewer = [after if i == group else n for i, n in enumerate(left)]
        rest = couplings.macs(fewer)
        removed = sizes[group] - np.array([after, left[group]])
        cost = float(sums[group][removed[0]] - sums[group][removed[1]])
        return cost * sizes[group] / after / max((macs - rest) / whole, 1e-12), after, rest

    while macs > target:
        open_ = [(found, group) for group in range(len(sizes)) if (found := candidate(group)) is not None]
        open_ = [one for one in open_ if one[0][2] < macs]
        if not open_:
            break
        fine = [one for one in open_ if one[0][2] >= target - slack]
        nearest = min(open_, key=lambda one: abs(one[0][2] - target))
        (_, after, rest), group = min(fine, key=lambda one: one[0][0]) if fine else nearest
        if not fine and abs(rest - target) >= macs - target:
            break
        left[group], macs = after, rest
    kept = [np.ones(n, bool) for n in sizes]
    for group, by in enumerate(order):
        kept[group][by[: sizes[group] - left[group]]] = False
    return Choice(kept, macs)


def _step(n: int, round_to: int) -> int:
    """Channels that go at once: `round_to`, or a quarter of a group too small for that."""
    return max(1, min(round_to, n // 4))
