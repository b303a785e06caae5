"""The space of chains: every one of them is a chain that the stage takes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from edgedl.core.errors import ConfigError
from edgedl.pipeline.compress.stage import Chain
from edgedl.pipeline.search.budget import parse_budget
from edgedl.pipeline.search.space import FORMAT, NONE, SLOTS, Slot, Space, option_of, registered, space_for, technique

FULL = space_for(parse_budget("gzip<=9KB, size<=20KB, accuracy_drop<=1").objectives)


REGISTERED = [option for slot in SLOTS for option in slot.options if option.partition(":")[0] in registered()]


@pytest.mark.parametrize("option", REGISTERED)
def test_every_option_is_one_that_its_technique_has(option: str) -> None:
    assert technique(option).method == option.partition(":")[0]


def test_every_chain_is_a_chain_and_the_number_format_comes_last() -> None:
    points = FULL.points()
    words = [FULL.words(point) for point in points]
    assert len(set(words)) == len(words) > 10
    for chain in random.Random(0).sample(words, 400):
        Chain.of(technique(chain))
    order = [slot.name for slot in FULL.slots]
    assert order[-1] == FORMAT


def test_trials_are_trained_without_controls_and_the_winner_with_them() -> None:
    chain = "fine-tune:fine_tune.epochs=2+int8"
    assert technique(chain).fine_tune.control is False  # pyright: ignore[reportAttributeAccessIssue]
    assert technique(chain, control=True).fine_tune.control is True  # pyright: ignore[reportAttributeAccessIssue]
    assert technique("fine-tune:fine_tune.epochs=2").fine_tune.epochs == 2  # pyright: ignore[reportAttributeAccessIssue]


def test_epochs_are_asked_only_where_something_trains() -> None:
    for point in FULL.points():
        trains = any(option != NONE for name, option in point.items() if name not in {FORMAT, "epochs", "rate"})
        assert ("epochs" in point) == trains


def test_anchors_are_the_number_formats_alone() -> None:
    anchors = [FULL.words(point) for point in FULL.anchors()]
    assert anchors == list(next(slot.options for slot in FULL.slots if slot.name == FORMAT))


def test_what_brings_nothing_to_the_budget_is_left_out() -> None:
    slots = (
        Slot("one", ("fine-tune",), frozenset({"gzip"})),
        Slot("format", ("int8",), frozenset({"size", "gzip"})),
    )
    assert [slot.name for slot in space_for(("size", "loss"), slots).slots] == ["format"]
    assert [slot.name for slot in space_for(("gzip", "loss"), slots).slots] == ["one", "format"]


def test_what_is_not_registered_is_left_out() -> None:
    slots = (replace(SLOTS[-1], options=("int8", "int3")), Slot("x", ("no-such",), frozenset({"loss"})))
    (slot,) = space_for(("size", "loss"), slots).slots
    assert slot.options == ("int8",)


def test_a_slot_for_some_formats_is_asked_only_with_them() -> None:
    slots = (
        Slot("ranges", ("fine-tune",), frozenset({"loss"}), formats=("int8",)),
        Slot("format", ("int8", "float16"), frozenset({"size"})),
    )
    space = Space(slots, epochs=(1,), rates=(1e-4,))
    words = {space.words(point) for point in space.points()}
    assert words == {"int8", "float16", "fine-tune:fine_tune.epochs=1+int8"}


def test_the_shape_of_a_chain_is_found_without_training() -> None:
    slots = (
        Slot("narrow", ("fine-tune",), frozenset({"size"}), reshapes=True),  # in the place of channel pruning
        Slot("format", ("int8",), frozenset({"size"})),
    )
    space = Space(slots)
    assert space.shape_of("fine-tune:fine_tune.epochs=5+int8") == "fine-tune:fine_tune=null+int8"
    weights_only = Space((replace(slots[0], reshapes=False, brings=frozenset({"loss"})), slots[1]))
    assert weights_only.shape_of("fine-tune:fine_tune.epochs=5+int8") == "int8"
    assert weights_only.shape_of("fine-tune:fine_tune.epochs=5") == ""
    smaller = Space((replace(slots[0], reshapes=False), slots[1]))
    assert smaller.shape_of("fine-tune:fine_tune.epochs=5+int8") is None


def test_an_option_is_known_again_with_its_epochs() -> None:
    assert option_of("fine-tune:fine_tune.epochs=5+int8") == "fine-tune"
    assert option_of("prune:sparsity=0.5:fine_tune.epochs=5") == "prune:sparsity=0.5"


def test_a_wrong_setting_is_told() -> None:
    with pytest.raises(ConfigError, match="search space: unknown key 'bits'"):
        technique("int8:bits=3")
