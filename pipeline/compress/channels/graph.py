"""Which channels of a model stand or fall together.

Every channel that a layer makes is an atom. Walking the graph, atoms that must be removed together are united: both
sides of an `Add`, all uses of a shared layer, a depthwise convolution's input and output. What is united is one class;
classes that touch the same axes of the same weights are one group, whose members can be ranked and removed one by one.
This is the dependency graph of DepGraph (Fang et al. 2023, "DepGraph: Towards any structural pruning",
arXiv:2301.12900, section 3.2), kept per channel instead of per layer, so that offsets after `Concatenate`, blocks after
`Flatten` and channels behind a `Reshape` need no index arithmetic of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import SkippedLayer

Atoms: TypeAlias = NDArray[np.int64]
"""One atom for each position of an axis, (n,)."""

Axis: TypeAlias = tuple[str, int, int]
"""Layer, number of the weight in `layer.weights`, axis of the weight."""

Setting: TypeAlias = tuple[str, str]
"""Layer, and the key of its configuration that says how many channels there are."""

KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


class NotUnderstoodError(Exception):
    """How a layer's channels depend on one another is not known; the message says why."""


@dataclass(frozen=True)
class Group:
    """Classes of channels that are alike: n of them, each with `count` positions on every one of the axes."""

    n: int
    axes: Mapping[Axis, int]

    @property
    def name(self) -> str:
        """For people: the first layer that it touches."""
        return min(self.axes)[0]


@dataclass(frozen=True)
class Work:
    """The MACs of one kernel in one call: factor · Π over `axes` of (fixed + Σ count · channels kept of a group)."""

    factor: int
    axes: Sequence[tuple[int, Mapping[int, int]]]

    def macs(self, kept: Sequence[int]) -> int:
        """With so many channels kept in each group."""
        total = self.factor
        for fixed, counts in self.axes:
            total *= fixed + sum(count * kept[group] for group, count in counts.items())
        return total


@dataclass(frozen=True)
class Couplings:
    """What `trace` found.

    groups: all that can be narrowed. members: for each axis of a weight, (n,): group · `stride` + member of every
    position, −1 for positions that stay. settings: the same for what configurations say. works: the MACs, of which
    `fixed_macs` more are spent where nothing can be narrowed. skipped: layers that stay as they are.
    """

    groups: Sequence[Group]
    members: Mapping[Axis, NDArray[np.int64]]
    settings: Mapping[Setting, NDArray[np.int64]]
    works: Sequence[Work]
    fixed_macs: int
    skipped: tuple[SkippedLayer, ...]
    stride: int

    def macs(self, kept: Sequence[int]) -> int:
        """MACs for one example with so many channels kept in each group."""
        return self.fixed_macs + sum(work.macs(kept) for work in self.works)

    @property
    def sizes(self) -> list[int]:
        """Channels in each group."""
        return [group.n for group in self.groups]


@dataclass
class Tracer:
    """Union–find over atoms, and what the layers said of them."""

    parent: list[int] = field(default_factory=list[int])
    frozen: dict[int, str] = field(default_factory=dict[int, str])
    axes: dict[Axis, Atoms] = field(default_factory=dict[Axis, Atoms])
    settings: dict[Setting, Atoms] = field(default_factory=dict[Setting, Atoms])

    def fresh(self, n: int) -> Atoms:
        """n new atoms."""
        first = len(self.parent)
        self.parent.extend(range(first, first + n))
        return np.arange(first, first + n)

    def find(self, atom: int) -> int:
        """The class of an atom."""
        parent = self.parent
        while parent[atom] != atom:
            parent[atom] = parent[parent[atom]]
            atom = parent[atom]
        return atom

    def unite(self, one: Atoms, other: Atoms) -> None:
        """Position by position."""
        for a, b in set(zip(one.tolist(), other.tolist(), strict=True)):
            low, high = sorted((self.find(a), self.find(b)))
            if low != high:
                self.parent[high] = low
                if (reason := self.frozen.pop(high, None)) is not None:
                    self.frozen.setdefault(low, reason)

    def freeze(self, atoms: Atoms, reason: str) -> None:
        """These stay, because of `reason`."""
        for atom in set(atoms.tolist()):
            self.frozen.setdefault(self.find(atom), reason)

    def constant(self, n: int, reason: str) -> Atoms:
        """n new atoms that stay."""
        atoms = self.fresh(n)
        self.freeze(atoms[:1], reason)
        self.unite(atoms[1:], np.repeat(atoms[:1], n - 1))
        return atoms


@dataclass(frozen=True)
class Call:
    """One use of a layer in the graph. inputs: the atoms of each input's last axis; shapes: without the batch."""

    layer: Any
    inputs: Sequence[Atoms]
    shapes: Sequence[tuple[int | None, ...]]
    output_shape: tuple[int | None, ...]
    arguments: Sequence[object]
    tracer: Tracer

    @property
    def given(self) -> Atoms:
        """Of the only input."""
        if len(self.inputs) != 1:
            raise NotUnderstoodError(f"it has {len(self.inputs)} inputs")
        return self.inputs[0]

    def axis(self, weight: Any, axis: int, atoms: Atoms) -> None:
        """The positions of an axis of a weight are these atoms; None for a weight that the layer lacks."""
        if weight is None:
            return
        number = next(i for i, one in enumerate(self.layer.weights) if one is weight)
        key = (self.layer.name, number, axis % len(weight.shape))
        self._same(self.tracer.axes, key, atoms)

    def sized(self, key: str, atoms: Atoms) -> Atoms:
        """The configuration's `key` counts these atoms; those of the layer's first use when it is used again."""
        return self._same(self.tracer.settings, (self.layer.name, key), atoms)

    def made(self, key: str, n: int | None) -> Atoms:
        """n channels that this layer makes, as many as its configuration's `key` says."""
        known = self.tracer.settings.get((self.layer.name, key))
        if known is not None:
            return known
        return self.sized(key, self.tracer.fresh(int(n or 0)))

    def _same(self, table: dict[Any, Atoms], key: Any, atoms: Atoms) -> Atoms:
        known = table.setdefault(key, atoms)
        if len(known) != len(atoms):
            raise NotUnderstoodError("it is used with different numbers of channels")
        self.tracer.unite(known, atoms)
        return known


Rule: TypeAlias = Callable[[Call], Atoms]
"""From a call to the atoms of its output's last axis. Raises NotUnderstoodError."""
