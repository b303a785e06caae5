"""Quality and its change, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgedl.pipeline.evaluate import quality, quality_change


def outputs_with(right: list[bool]) -> np.ndarray:
    """Two-class outputs whose arg-max is the target 1 where right."""
    return np.array([[0.0, 1.0] if one else [1.0, 0.0] for one in right])


def test_accuracy_with_wilsons_interval() -> None:
    targets = np.ones(10, np.int64)
    found = quality(outputs_with([True] * 9 + [False]), targets, "classification", of="x")
    assert (found.metric, found.value, found.n, found.split) == ("accuracy", 0.9, 10, "test")
    assert found.interval.low == pytest.approx(0.5958, abs=1e-3)  # Wilson's interval for 9 of 10
    assert found.interval.high == pytest.approx(0.9821, abs=1e-3)


def test_the_loss_in_points_is_paired() -> None:
    targets = np.ones(100, np.int64)
    before, after = outputs_with([True] * 90 + [False] * 10), outputs_with([True] * 88 + [False] * 12)
    old, new = (quality(one, targets, "classification", of="x") for one in (before, after))
    change = quality_change((old, before), (new, after), targets)
    assert change.loss == pytest.approx(2.0)
    assert change.interval.low < 2.0 < change.interval.high
    assert change.interval.high - change.interval.low < 9  # unpaired it would be wider than 17


def test_mean_absolute_error_in_the_targets_unit() -> None:
    targets = np.zeros((50, 2))
    before, after = np.full((50, 2), 1.0), np.full((50, 2), 3.0)
    old, new = (quality(one, targets, "regression", of="x") for one in (before, after))
    change = quality_change((old, before), (new, after), targets)
    assert (old.metric, old.value, change.loss) == ("mae", 1.0, 2.0)
    assert not old.larger_is_better
