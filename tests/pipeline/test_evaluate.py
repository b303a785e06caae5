"""Quality and its change, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgedl.core.artifacts import Quality, QualityChange
from edgedl.pipeline import evaluate
from edgedl.pipeline.evaluate import Asked, Measure, auc, quality, quality_change


def judged(measure: Measure, output: np.ndarray, targets: np.ndarray, given: np.ndarray | None = None) -> tuple:
    inputs = {} if given is None else {"x": given}
    evidence = measure.evidence(np.asarray(output), Asked(inputs, np.asarray(targets)))
    return quality(evidence, measure, of="x"), evidence


def change(measure: Measure, before: np.ndarray, after: np.ndarray, targets: np.ndarray) -> QualityChange:
    return quality_change(judged(measure, before, targets), judged(measure, after, targets), measure)


def outputs_with(right: list[bool]) -> np.ndarray:
    """Two-class outputs whose arg-max is the target 1 where right."""
    return np.array([[0.0, 1.0] if one else [1.0, 0.0] for one in right])


def test_accuracy_with_wilsons_interval() -> None:
    found: Quality = judged(evaluate.ACCURACY, outputs_with([True] * 9 + [False]), np.ones(10, np.int64))[0]
    assert (found.metric, found.value, found.n, found.split) == ("accuracy", 0.9, 10, "test")
    assert found.interval.low == pytest.approx(0.5958, abs=1e-3)  # Wilson's interval for 9 of 10
    assert found.interval.high == pytest.approx(0.9821, abs=1e-3)


def test_the_loss_in_points_is_paired() -> None:
    before, after = outputs_with([True] * 90 + [False] * 10), outputs_with([True] * 88 + [False] * 12)
    found = change(evaluate.ACCURACY, before, after, np.ones(100, np.int64))
    assert found.loss == pytest.approx(2.0)
    assert found.interval.low < 2.0 < found.interval.high
    assert found.interval.high - found.interval.low < 9  # unpaired it would be wider than 17


def test_mean_absolute_error_in_the_targets_unit() -> None:
    found = change(evaluate.MAE, np.full((50, 2), 1.0), np.full((50, 2), 3.0), np.zeros((50, 2)))
    assert (found.before.metric, found.before.value, found.loss) == ("mae", 1.0, 2.0)
    assert not found.before.is_share


def test_pixel_accuracy_counts_pixels_and_resamples_images() -> None:
    targets = np.zeros((4, 2, 2), np.int64)
    right = np.stack([np.ones((4, 2, 2)), np.zeros((4, 2, 2))], axis=-1)
    wrong = right.copy()
    wrong[0, 0] = [0, 1]  # two of sixteen pixels
    found = change(evaluate.PIXEL_ACCURACY, right, wrong, targets)
    assert found.before.value == 1.0
    assert found.after.value == pytest.approx(14 / 16)
    assert found.loss == pytest.approx(12.5)


def test_perplexity_of_a_uniform_and_of_a_certain_model() -> None:
    targets = np.array([[0, 1, 2], [3, 3, 0]])
    uniform = np.zeros((2, 3, 4))
    certain = 50.0 * np.eye(4)[targets]
    assert judged(evaluate.PERPLEXITY, uniform, targets)[0].value == pytest.approx(4.0)
    assert judged(evaluate.PERPLEXITY, certain, targets)[0].value == pytest.approx(1.0)
    assert change(evaluate.PERPLEXITY, certain, uniform, targets).loss == pytest.approx(3.0)


def test_a_move_is_right_when_it_is_one_of_the_best() -> None:
    targets = np.array([[0.5, 0.5, 0.0, 1.0], [0.0, 0.0, 1.0, -1.0]])  # three moves, then the value
    policy = np.array([[0.1, 0.8, 0.1], [0.5, 0.1, 0.4]])
    found = judged(evaluate.MOVE_ACCURACY, policy, targets)
    assert found[1].tolist() == [True, False]


def test_auc_by_hand_and_against_scikit_learn() -> None:
    assert auc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 0, 1, 1])) == 1.0
    assert auc(np.array([1.0, 1.0]), np.array([0, 1])) == 0.5
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, 2, 200), rng.integers(0, 20, 200)
    assert auc(scores, truth) == pytest.approx(roc_auc_score(truth, scores))


def test_anomalies_are_what_is_badly_reconstructed() -> None:
    given = np.zeros((4, 3))
    output = np.array([[0.1] * 3, [0.2] * 3, [0.9] * 3, [0.15] * 3])
    found = judged(evaluate.ANOMALY_AUC, output, np.array([0, 0, 1, 1]), given)[0]
    assert (found.metric, found.value) == ("AUC", 0.75)


def test_energy_distance_of_two_points_and_of_equal_samples() -> None:
    assert judged(evaluate.ENERGY_DISTANCE, np.zeros((8, 2)), np.tile([3.0, 4.0], (8, 1)))[0].value == pytest.approx(
        math.sqrt(2 * 5)
    )
    sample = np.random.default_rng(0).normal(size=(40, 2))
    assert judged(evaluate.ENERGY_DISTANCE, sample, sample)[0].value == pytest.approx(0.0, abs=1e-6)
