"""The chains that a search chooses from. `SLOTS` is the one list: a new technique adds an option or a slot there.

A chain is built slot by slot, in the order in which the techniques have to come: what changes the shape first, then
what only changes weights, then what learns ranges, at the end the number format.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from edgedl.core.config import check
from edgedl.core.errors import ConfigError
from edgedl.pipeline.compress import Alteration, FineTune, Scheme, Technique, TechniqueConfig, technique_in_words
from edgedl.pipeline.search.budget import QUANTITIES, Quantity

COSTS: frozenset[Quantity] = frozenset(QUANTITIES) - {"loss"}
NONE = "none"
"""The option of leaving a slot out."""


@dataclass(frozen=True)
class Slot:
    """One place in a chain.

    options: what can stand there, in words of `--method`; leaving it out is always one more. brings: the quantities
    that it may lower; a budget that asks for none of them leaves the slot out. reshapes: whether it changes the shapes
    of weights. formats: the number formats that it makes sense with; all unless given.
    """

    name: str
    options: tuple[str, ...]
    brings: frozenset[Quantity]
    reshapes: bool = False
    formats: tuple[str, ...] = ()


SLOTS: tuple[Slot, ...] = (
    Slot(
        "channels",
        ("prune-channels:keep_macs=0.75", "prune-channels:keep_macs=0.5", "prune-channels:keep_macs=0.35"),
        COSTS,
        reshapes=True,
    ),
    Slot("recovery", ("fine-tune", "distill"), frozenset({"loss"})),
    Slot("sparsity", ("prune:sparsity=0.5", "prune:sparsity=0.7", "prune:sparsity=0.85"), frozenset({"gzip"})),
    Slot("clusters", ("cluster:centroids=grid:clusters=31", "cluster:centroids=grid:clusters=15"), frozenset({"gzip"})),
    Slot("ranges", ("qat",), frozenset({"loss"}), formats=("int8",)),
    Slot(
        "format",
        ("dynamic-range", "float16", "int8", "int16x8", "weight-only-int8", "weight-only-int4:scale=mse", "mixed"),
        COSTS - {"macs", "parameters"},
    ),
)
FORMAT = "format"
EPOCHS, RATE = "epochs", "rate"
EPOCHS_CHOICES = (2, 5, 10)
RATE_CHOICES = (1e-4, 1e-3)

Point = Mapping[str, str]
"""A choice for every slot that is asked; `epochs` and `rate` where the chain trains."""


@functools.cache
def registered() -> Mapping[str, type[Technique]]:
    """The techniques that there are, by method."""
    union = get_args(TechniqueConfig)[0]
    kinds = cast(Sequence[type[Technique]], get_args(union) or (union,))
    return {kind.model_fields["method"].default: kind for kind in kinds}


@dataclass(frozen=True)
class Space:
    """Every chain that a search may try. epochs, rates: of fine-tuning, alike for all steps of a chain."""

    slots: tuple[Slot, ...]
    epochs: tuple[int, ...] = EPOCHS_CHOICES
    rates: tuple[float, ...] = RATE_CHOICES

    @functools.cached_property
    def _chains(self) -> Mapping[str, Point]:
        found: dict[str, Point] = {}
        names = [slot.name for slot in self.slots]
        training = (tuple(map(str, self.epochs)), tuple(map(str, self.rates)))
        for options in itertools.product(*((NONE, *slot.options) for slot in self.slots), *training):
            wanted = dict(zip([*names, EPOCHS, RATE], options, strict=True))
            point = self.choose(lambda name, _, wanted=wanted: wanted[name])
            if words := self.words(point):
                found.setdefault(words, point)
        return found

    def choose(self, suggest: Callable[[str, Sequence[str]], str]) -> Point:
        """Ask `suggest(name, options)` for every slot that applies; the number format first, as others hang on it."""
        point: dict[str, str] = {}
        for slot in self._asked():
            if not slot.formats or _method(point.get(FORMAT, NONE)) in slot.formats:
                point[slot.name] = suggest(slot.name, (NONE, *slot.options))
        if any(name != FORMAT and option != NONE for name, option in point.items()):
            point[EPOCHS] = suggest(EPOCHS, tuple(map(str, self.epochs)))
            point[RATE] = suggest(RATE, tuple(map(str, self.rates)))
        return point

    def _asked(self) -> Iterator[Slot]:
        yield from (slot for slot in self.slots if slot.name == FORMAT)
        yield from (slot for slot in self.slots if slot.name != FORMAT)

    def points(self) -> list[Point]:
        """Every choice that gives a chain, each chain once, in a fixed order."""
        return list(self._chains.values())

    def anchors(self) -> list[Point]:
        """What is tried first: every number format alone, which takes no training."""
        return [
            point
            for point in self.points()
            if all((option != NONE) == (name == FORMAT) for name, option in point.items())
        ]

    def singles(self, format: str) -> list[Point]:
        """What is tried next: each other option alone before that number format, trained as long and as fast as any."""
        training = {EPOCHS: str(max(self.epochs)), RATE: str(max(self.rates))}

        def is_single(point: Point) -> bool:
            options = [option for name, option in point.items() if name not in {FORMAT, EPOCHS, RATE}]
            return len(options) - options.count(NONE) == 1 and {**point, **training} == point

        return [point for point in self.points() if point.get(FORMAT) == format and is_single(point)]

    def words(self, point: Point) -> str:
        """The chain as `--method` takes it; "" where it is float32 unchanged."""
        parts: list[str] = []
        for slot in self.slots:
            option = point.get(slot.name, NONE)
            if option != NONE:
                trains = slot.name != FORMAT
                parts.append(_trained(option, point[EPOCHS], point[RATE]) if trains else option)
        return "+".join(parts)

    def shape_of(self, words: str) -> str | None:
        """The cheapest chain whose file has the same shapes and number format: nothing in it is trained.

        "" where that is float32 unchanged; None where something else in the chain makes the file smaller too.
        """
        smaller = {
            _method(option)
            for slot in self.slots
            if "size" in slot.brings and not slot.reshapes and slot.name != FORMAT
            for option in slot.options
        }
        if any(_method(part) in smaller for part in words.split("+")):
            return None
        shaping = {_method(option) for slot in self.slots if slot.reshapes for option in slot.options}
        kept = [
            f"{_without_training(part)}:fine_tune=null" if _method(part) in shaping else part
            for part in words.split("+")
            if _method(part) in shaping or issubclass(registered()[_method(part)], Scheme)
        ]
        return "+".join(kept)


def space_for(objectives: Collection[Quantity], slots: Sequence[Slot] = SLOTS) -> Space:
    """The slots that can bring something to the objectives, with the techniques that are registered."""
    found: list[Slot] = []
    for slot in slots:
        options = tuple(option for option in slot.options if _method(option) in registered())
        if options and slot.brings & frozenset(objectives):
            found.append(replace(slot, options=options))
    return Space(tuple(found))


def technique(words: str, *, control: bool = False) -> Technique:
    """The chain in words as a technique. control: whether what is fine-tuned stands beside its control.

    Raises ConfigError for a setting that the technique does not have.
    """
    section = dict(technique_in_words(words))
    if not control:
        _without_control(section)
    return cast(Technique, check(TechniqueConfig, section, source="search space"))


def _without_control(section: dict[str, Any]) -> None:
    kind = registered().get(section["method"])
    if kind is not None and issubclass(kind, Alteration) and section.get("fine_tune", {}) is not None:
        section["fine_tune"] = {**section.get("fine_tune", {}), "control": False}
    for later in section.get("then", ()):
        _without_control(later)


def option_of(words: str) -> str:
    """The first technique of a chain with its own settings, as a slot's option has it."""
    return _without_training(words.partition("+")[0])


def _method(option: str) -> str:
    return option.partition(":")[0]


@functools.cache
def _trained(option: str, epochs: str, rate: str) -> str:
    """With so many epochs at that rate; the default rate is left unsaid."""
    words = f"{option}:fine_tune.epochs={epochs}"
    tune = getattr(technique(option), "fine_tune", None)
    if isinstance(tune, FineTune) and float(rate) != tune.learning_rate:
        words += f":fine_tune.learning_rate={float(rate):g}"
    return words if _accepted(words) else option


def _without_training(part: str) -> str:
    return ":".join(word for word in part.split(":") if not word.startswith("fine_tune"))


@functools.cache
def _accepted(words: str) -> bool:
    try:
        technique(words)
    except ConfigError:
        return False
    return True
