"""The figures of an audit against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgedl.core.artifacts import AuditFigure
from edgedl.core.statistics import Interval, exact, paired_difference
from edgedl.pipeline.audit import figures
from edgedl.pipeline.audit.config import AuditLimits
from edgedl.pipeline.audit.stage import with_limit


def test_calibration_error_of_two_bins():
    confidence = np.array([0.9, 0.6, 0.8, 0.5])
    right = np.array([True, False, False, True])
    # by rising confidence: {0.5 right, 0.6 wrong}: |0.5 − 0.55|; {0.8 wrong, 0.9 right}: |0.5 − 0.85|
    assert figures.calibration_error(confidence, right, bins=2) == pytest.approx(0.5 * 0.05 + 0.5 * 0.35)
    assert figures.calibration_error(confidence, right, bins=1) == pytest.approx(abs(0.5 - 0.7))
    # more bins than examples: one example a bin
    assert figures.calibration_error(confidence, right, bins=99) == pytest.approx((0.1 + 0.6 + 0.8 + 0.5) / 4)


def test_calibration_change_is_paired():
    rng = np.random.default_rng(0)
    right = rng.random(400) < 0.8
    sure, surer = np.full(400, 0.8), np.full(400, 0.95)
    before, after, growth = figures.calibration_change((sure, right), (surer, right))
    assert (before.value, after.value) == pytest.approx((abs(right.mean() - 0.8), abs(right.mean() - 0.95)), abs=0.05)
    assert growth.value == pytest.approx(100 * (after.value - before.value))
    assert growth.low > 0
    same = figures.calibration_change((sure, right), (sure, right))[2]
    assert (same.low, same.value, same.high) == (0.0, 0.0, 0.0)


def test_bins_hold_equal_numbers():
    """5 examples in 2 bins: two and three."""
    confidence, right = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.ones(5, bool)
    assert figures.calibration_error(confidence, right, bins=2) == pytest.approx((0.9 + 0.8 + 0.7 + 0.6 + 0.5) / 5)


def test_a_class_change_holds_for_all_classes_together():
    before, after = np.array([True] * 18 + [False] * 2), np.array([True] * 15 + [False] * 5)
    old, new, loss = figures.class_change(before, after, classes=10)
    assert (old.value, new.value, loss.value) == pytest.approx((0.9, 0.75, 15.0))
    assert loss.level == pytest.approx(0.995)
    alone = paired_difference(before, after)
    assert loss.low < 100 * alone.low and loss.high > 100 * alone.high


def test_changed_predictions():
    before = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    after = np.array([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9], [0.4, 0.6]])
    found = figures.difference(before, after, "probabilities")
    assert found.value == 25.0
    assert (found.low, found.high) == pytest.approx((4.56, 69.94), abs=0.01)  # Wilson's for 1 of 4


def test_changed_tokens_are_a_share_of_each_example():
    before = np.zeros((2, 4, 3))
    before[..., 0] = 1.0
    after = before.copy()
    after[0, 0] = [0.0, 2.0, 0.0]  # one of four tokens of one of two examples
    assert figures.difference(before, after, "logits").value == pytest.approx(12.5)


def test_differing_values_are_relative_to_all_answers():
    before, after = np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 1.0]])
    scale = math.sqrt((25 + 0) / 2)
    assert figures.difference(before, after, "values").value == pytest.approx(100 * (0 + 1 / scale) / 2)
    assert figures.difference(np.zeros((2, 1)), np.zeros((2, 1)), "values").value == 0.0


def test_probabilities_of_logits():
    found = figures.probabilities(np.array([[math.log(3.0), 0.0]]), "logits")
    assert found[0] == pytest.approx([0.75, 0.25])
    assert figures.confidence(np.array([[1000.0, 0.0]]), "logits")[0] == 1.0


@pytest.mark.parametrize(
    ("change", "limit", "outcome"),
    [
        (Interval(1.0, 0.5, 2.0), 2.0, "pass"),
        (Interval(1.0, 0.5, 2.0), 0.8, "inconclusive"),
        (Interval(1.0, 0.5, 2.0), 0.4, "regressed"),
        (Interval(1.0, 0.5, 2.0), None, None),
        (exact(0.0), 0.0, "pass"),
    ],
)
def test_limits(change: Interval, limit: float | None, outcome: str | None):
    figure = AuditFigure("fgsm_drop", "FGSM", None, None, change, "points", 9)
    assert with_limit(figure, AuditLimits(fgsm_drop=limit)).outcome == outcome


def test_a_limit_on_changes_is_on_all_of_them():
    figure = AuditFigure("changed", "right to wrong", None, None, exact(9.0), "%", 9)
    assert with_limit(figure, AuditLimits(changed=1.0)).outcome is None
