"""Parity: the figures by hand, and each rule broken once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgedl.core.artifacts import Quality, QualityChange
from edgedl.core.contract import Contract, InputContract, OutputContract
from edgedl.core.statistics import Interval
from edgedl.export.verify import compare, random_inputs

REFERENCE = {"y": np.array([[0.5, 0.5 - 1e-3], [0.0, 1.0]], np.float32)}


CHOICES = Contract("classification", (), (OutputContract("y", (2,), content="probabilities"),))
VALUES = Contract("regression", (), (OutputContract("y", (2,)),))


def shifted(by: float) -> dict[str, np.ndarray]:
    return {"y": REFERENCE["y"] + np.float32(by)}


def test_the_figures() -> None:
    (one,), _, failures = compare(REFERENCE, shifted(0.1), "int8", CHOICES)
    assert one.max_abs_error == pytest.approx(0.1, rel=1e-4)
    assert one.mean_abs_error == pytest.approx(0.1, rel=1e-4)
    assert one.relative_error == pytest.approx(0.1, rel=1e-4)
    signal = float((REFERENCE["y"].astype(float) ** 2).sum())
    assert one.sqnr_db == pytest.approx(10 * math.log10(signal / 0.04), abs=0.01)
    assert one.agreement == 1.0
    assert failures == ()


def test_equal_outputs_pass_and_have_no_noise() -> None:
    (one,), words, failures = compare(REFERENCE, REFERENCE, "float32", CHOICES)
    assert (one.max_abs_error, one.sqnr_db, failures) == (0.0, None, ())
    assert "relative error at most 0.0001" in words


@pytest.mark.parametrize(
    ("outputs", "precision", "words"),
    [
        (shifted(1e-3), "float32", "relative error 0.001 > 0.0001"),
        (shifted(0.5), "int8", "signal-to-noise ratio"),
        ({"y": REFERENCE["y"][:, ::-1].copy()}, "int8", "same answer in 0.0% of examples"),
        ({"z": REFERENCE["y"]}, "float32", "output y is missing; the file has z"),
        ({"y": REFERENCE["y"][:, :1]}, "float32", "has shape (1,) instead of (2,)"),
        ({"y": np.full((2, 2), np.nan, np.float32)}, "int8", "y:"),
        ({"y": np.full((2, 2), np.nan, np.float32)}, "float32", "y: relative error inf"),
    ],
)
def test_each_way_to_fail(outputs: dict[str, np.ndarray], precision: str, words: str) -> None:
    _, _, failures = compare(REFERENCE, outputs, precision, CHOICES)
    assert any(words in failure for failure in failures), failures


def test_float16_may_err_as_the_keras_model_does_with_rounded_weights() -> None:
    rounded = shifted(0.02)
    assert compare(REFERENCE, shifted(0.05), "float16", CHOICES)[2]
    _, words, failures = compare(REFERENCE, shifted(0.05), "float16", CHOICES, rounded=rounded)
    assert (failures, "at most 0.08 (4 times" in words) == ((), True)
    assert compare(REFERENCE, shifted(0.1), "float16", CHOICES, rounded=rounded)[2]


def test_regression_is_not_judged_by_the_largest_output() -> None:
    (one,), words, _ = compare(REFERENCE, REFERENCE, "int8", VALUES)
    assert one.agreement is None
    assert "same answer" not in words


def test_random_inputs_reach_both_ends_of_the_raw_range() -> None:
    image = InputContract("image", (4, 4, 1), content="image", raw_range=(0.0, 255.0), mean=(127.5,), std=(127.5,))
    contract = Contract("classification", (image, InputContract("extra", (3,))), (OutputContract("y", (2,)),))
    inputs = random_inputs(contract, 5, seed=0)
    assert inputs["image"].shape == (5, 4, 4, 1)
    assert (inputs["image"].min(), inputs["image"].max()) == (-1.0, 1.0)
    assert (inputs["image"][0] == -1.0).all()
    assert inputs["extra"].dtype == np.float32
    assert np.array_equal(random_inputs(contract, 5, seed=0)["extra"], inputs["extra"])


def change_of(loss: float, low: float) -> QualityChange:
    old, new = (Quality("accuracy", v, Interval(v, v, v), 100, "test", "x") for v in (0.9, 0.9 - loss / 100))
    return QualityChange(old, new, loss, Interval(loss, low, loss + 1))


@pytest.mark.parametrize(("loss", "low", "passed"), [(0.5, -1.0, True), (3.0, -0.5, True), (3.0, 0.5, False)])
def test_a_quantised_file_is_judged_by_its_task_where_there_is_data(loss: float, low: float, passed: bool) -> None:
    _, words, failures = compare(REFERENCE, shifted(0.5), "int8", CHOICES, change_of(loss, low))
    assert "accuracy on 100 test examples" in words
    assert (not failures) == passed, failures


def test_a_float_file_is_judged_by_its_error_whatever_the_task_says() -> None:
    assert compare(REFERENCE, shifted(0.5), "float32", CHOICES, change_of(0.0, -1.0))[2]
