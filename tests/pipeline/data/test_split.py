"""The split: disjoint, complete, stratified, repeatable; and its refusals."""

from __future__ import annotations

import functools
import operator
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedl.core.config import check
from edgedl.core.contract import InputContract
from edgedl.core.errors import ConfigError, DataError
from edgedl.pipeline.data import ArrayExamples, Digits, Examples, Npz, RawData, SplitConfig, load_splits, normalize
from edgedl.pipeline.data.split import count_of, draw, fit_input


def raw(targets: np.ndarray, *, labels: int = 0, **more: object) -> RawData:
    """Examples whose input is their own position."""
    inputs = np.arange(len(targets), dtype=np.float32)[:, None]
    return RawData(
        examples=ArrayExamples(inputs, targets),
        task="classification" if labels else "regression",
        input=InputContract(name="features", shape=(1,)),
        normalize="none",
        labels=tuple(map(str, range(labels))),
        **more,  # pyright: ignore[reportArgumentType]
    )


def members(examples: Examples) -> list[int]:
    return [int(value) for value in examples.raw(np.arange(len(examples)))[:, 0]]


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(18, 60), min_size=2, max_size=6),
    validation=st.sampled_from([0.1, 0.2, 12, 20]),
    test=st.sampled_from([0.15, 0.3, 10]),
    seed=st.integers(0, 2**31 - 1),
)
def test_parts_are_disjoint_complete_stratified_and_repeatable(counts, validation, test, seed):
    targets = np.repeat(np.arange(len(counts)), counts)
    n, classes = len(targets), len(counts)
    config = SplitConfig(validation=validation, test=test)
    data = raw(targets, labels=len(counts))
    parts = draw(data, config, seed, "data")
    positions = [members(part) for part in parts]
    assert sorted(functools.reduce(operator.iadd, positions, [])) == list(range(n))
    assert [len(part) for part in parts[1:]] == [count_of(validation, n, classes), count_of(test, n, classes)]
    for part in parts:
        share = np.bincount(part.targets, minlength=len(counts)) / np.array(counts)
        assert np.all(np.abs(share * counts - len(part) / n * np.array(counts)) <= 2.0)
    assert [members(part) for part in draw(data, config, seed, "data")] == positions


def test_another_seed_is_another_split():
    data = raw(np.repeat([0, 1], 50), labels=2)
    first, second = (members(draw(data, SplitConfig(), seed, "data")[2]) for seed in (1, 2))
    assert sorted(first) != sorted(second)


def test_the_digits_split_is_the_same_on_every_machine():
    source = Digits()
    record = load_splits(source, source.split, 1).record
    assert record.counts == {"train": 1258, "validation": 180, "test": 359}
    assert record.fingerprint == "9506a304195f8bfc66b41d5fd25f54136d31dc4187ca7762bbf68f646575538a"
    assert sum(record.classes["test"].values()) == 359
    assert record.source["split"] == {"validation": 0.1, "test": 0.2}


def test_own_splits_are_used_as_they_are():
    own = ArrayExamples(np.array([[100.0], [101.0]], np.float32), np.array([0, 1]))
    data = raw(np.repeat([0, 1], 30), labels=2, test=own, validation=own)
    train, validation, test = draw(data, SplitConfig(), 0, "data")
    assert members(test) == members(validation) == [100, 101]
    assert sorted(members(train)) == list(range(60))


def test_regression_is_not_stratified():
    train, validation, test = draw(raw(np.arange(20.0, dtype=np.float32)[:, None]), SplitConfig(), 3, "data")
    assert (len(train), len(validation), len(test)) == (14, 2, 4)


@pytest.mark.parametrize("split", [{"validation": 0.5, "test": 0.5}, {"validation": 0.9, "test": 0.2}])
def test_fractions_that_leave_nothing(split):
    with pytest.raises(ConfigError, match=r"add up to less than 1.*received validation"):
        SplitConfig(**split)


@pytest.mark.parametrize("share", [0, -1, 1.0, 1.5, "many", True])
def test_a_share_is_a_fraction_or_a_number(share):
    with pytest.raises(ConfigError, match="fraction between 0 and 1, or a whole number"):
        check(SplitConfig, {"validation": share}, source="recipe")


def test_more_asked_than_there_is():
    with pytest.raises(DataError, match=r"leaves no training examples: received validation 30 .* of 40"):
        draw(raw(np.repeat([0, 1], 20), labels=2), SplitConfig(validation=30, test=10), 0, "data")


def test_a_class_with_too_few_examples_is_named():
    targets = np.array([0] * 40 + [1] * 2)
    with pytest.raises(DataError, match=r"too few examples of '1' \(2\).*at least 3 of every class"):
        draw(raw(targets, labels=2), SplitConfig(), 0, "data")


def test_a_part_smaller_than_the_number_of_classes():
    with pytest.raises(DataError, match="every class in every part"):
        draw(raw(np.repeat(np.arange(6), 10), labels=6), SplitConfig(validation=3, test=10), 0, "data")


# --- normalisation -----------------------------------------------------------------------------------------------


def fitted(
    inputs: np.ndarray, kind, raw_range=None, content: Literal["image", "features"] = "features"
) -> tuple[InputContract, np.ndarray]:
    examples = ArrayExamples(inputs, np.zeros(len(inputs), np.int64))
    contract = InputContract(name="x", shape=inputs.shape[1:], content=content, raw_range=raw_range)
    contract = fit_input(examples, contract, kind, "data")
    return contract, normalize(inputs, contract)


def test_standard_is_per_channel_over_all_chunks():
    rng = np.random.default_rng(0)
    inputs = (rng.normal(size=(1000, 4, 3)) * [1, 10, 100] + [1e4, 0, -5]).astype(np.float32)
    contract, outputs = fitted(inputs, "standard")
    assert contract.mean == pytest.approx(inputs.astype(np.float64).mean(axis=(0, 1)), rel=1e-9)
    assert contract.std == pytest.approx(inputs.astype(np.float64).std(axis=(0, 1)), rel=1e-9)
    assert np.abs(outputs.mean(axis=(0, 1))).max() < 1e-2
    assert contract.raw_range is None


def test_a_constant_column_keeps_its_unit():
    contract, outputs = fitted(np.stack([np.full(10, 7.0), np.arange(10.0)], axis=1), "standard")
    assert contract.std[0] == 1.0
    assert not outputs[:, 0].any()


@pytest.mark.parametrize(("kind", "low", "high"), [("0..1", 0.0, 1.0), ("-1..1", -1.0, 1.0), ("none", 10.0, 30.0)])
def test_the_raw_range_becomes_the_models(kind, low, high):
    inputs = np.array([[10.0], [20.0], [30.0]], np.float32)
    contract, outputs = fitted(inputs, kind, content="image")
    assert contract.raw_range == (10.0, 30.0)
    assert (outputs.min(), outputs.max()) == (low, high)


def test_inputs_that_do_not_differ_cannot_be_scaled():
    with pytest.raises(DataError, match="have the value 5"):
        fitted(np.full((4, 1), 5.0), "0..1")


def test_only_the_training_split_is_measured(tmp_path):
    path = tmp_path / "data.npz"
    x = np.arange(200, dtype=np.float32).reshape(100, 2)
    np.savez(path, x=x, y=np.arange(100) % 2, x_test=x + 1e6, y_test=np.arange(100) % 2)
    source = Npz(file=path)
    splits = load_splits(source, source.split, 0)
    assert splits.input.mean == pytest.approx(splits.train.raw(np.arange(90)).mean(axis=0))
    assert splits.record.counts == {"train": 90, "validation": 10, "test": 100}
