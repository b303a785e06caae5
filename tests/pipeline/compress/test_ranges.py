"""Ranges of activations, against brute force on the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgedl.pipeline.compress.calibration.ranges import (
    Sketch,
    entropy_index,
    entropy_threshold,
    even_bins,
    find_range,
    histogram_of,
    mse_threshold,
    percentile_threshold,
    squared_error,
)

RNG = np.random.default_rng(5)
NORMAL = RNG.normal(size=50_000).astype(np.float32)
CASES = {
    "normal": NORMAL,
    "relu": np.maximum(NORMAL, 0),
    "laplace": RNG.laplace(size=50_000).astype(np.float32),
    "outlier": np.append(NORMAL, np.float32(100.0)),
    "negative": -np.abs(NORMAL) - 1,
    "skewed": (RNG.gamma(2.0, size=50_000) - 0.3).astype(np.float32),
    "small": NORMAL * np.float32(1e-6),
}


def rounded(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float64]:
    """8 bits from `low` to `high`, 0 among them."""
    step = (high - low) / 255
    return np.clip(np.round(values.astype(np.float64) / step) * step, low, high)


@pytest.mark.parametrize("case", CASES)
def test_a_histogram_keeps_every_value(case: str) -> None:
    values = CASES[case]
    found = histogram_of(values)
    assert found.total == values.size
    assert (found.minimum, found.maximum) == (values.min(), values.max())
    assert (found.left <= found.right).all()
    assert (np.diff(found.left) >= 0).all()
    largest = np.maximum(np.abs(found.left), np.abs(found.right))
    assert (found.right - found.left <= largest / 64 + 1e-12).all()
    for left, right, count in zip(found.left[::37], found.right[::37], found.count[::37], strict=True):
        inside = (values >= left) & (values <= right) if left <= 0 else (values >= left) & (values < right)
        assert abs(int(inside.sum()) - count) <= 1 + (np.isin(values, (left, right))).sum()


def test_arrays_may_come_one_by_one() -> None:
    sketch = Sketch()
    for part in np.array_split(NORMAL, 7):
        sketch.add(part.reshape(-1, 1))
    whole, parts = histogram_of(NORMAL), sketch.histogram()
    assert np.array_equal(whole.count, parts.count)
    assert np.array_equal(whole.left, parts.left)


@pytest.mark.parametrize("percentile", [50.0, 99.0, 99.9, 100.0])
@pytest.mark.parametrize("case", CASES)
def test_percentile_is_that_of_the_magnitudes(case: str, percentile: float) -> None:
    expected = float(np.percentile(np.abs(CASES[case]), percentile, method="inverted_cdf"))
    assert percentile_threshold(histogram_of(CASES[case]), percentile) == pytest.approx(expected, rel=0.02, abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_squared_error_is_that_of_the_rounded_values(case: str) -> None:
    values, histogram = CASES[case], histogram_of(CASES[case])
    for part in (1.0, 0.7, 0.3):
        low, high = min(0.0, part * float(values.min())), max(0.0, part * float(values.max()))
        expected = float(((values - rounded(values, low, high)) ** 2).sum())
        assert squared_error(histogram, low, high) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("case", CASES)
def test_no_threshold_has_a_smaller_squared_error(case: str) -> None:
    values, histogram = CASES[case], histogram_of(CASES[case])

    def error(threshold: float) -> float:
        low = min(0.0, max(float(values.min()), -threshold))
        high = max(0.0, min(float(values.max()), threshold))
        return float(((values - rounded(values, low, high)) ** 2).mean())

    best = min(error(histogram.peak * part) for part in np.geomspace(0.01, 1.0, 120))
    assert error(mse_threshold(histogram)) <= 1.03 * best


def test_counts_of_even_bins() -> None:
    values = np.abs(NORMAL)
    top, bins = 2.0, 50
    expected = np.append(np.histogram(values, np.linspace(0, top, bins + 1))[0], (values > top).sum())
    found = even_bins(histogram_of(NORMAL), top, bins)
    assert found.sum() == pytest.approx(len(values))
    assert np.abs(found - expected).max() < 0.02 * expected.max()


def test_entropy_is_the_published_algorithm() -> None:
    """Word by word, with lists, on a histogram small enough for it."""
    counts = np.append(np.histogram(np.abs(CASES["laplace"]), 96, (0, 6))[0], 40).astype(float)
    levels, divergences = 16, {}
    for i in range(levels, 97):
        p = list(counts[:i])
        p[-1] += sum(counts[i:])
        q = [0.0] * i
        for level in range(levels):
            places = [j for j in range(i) if j * levels // i == level]
            held = [j for j in places if p[j] > 0]
            for j in held:
                q[j] = sum(counts[k] for k in places) / len(held)
        divergences[i] = sum(
            a / sum(p) * np.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True) if a > 0 and b > 0
        )
    assert entropy_index(counts, levels) == min(divergences, key=lambda i: divergences[i])


def test_an_outlier_hides_nothing_from_entropy() -> None:
    far = np.append(NORMAL, np.float32(500.0))
    assert entropy_threshold(histogram_of(NORMAL)) <= 5
    assert 1.5 < entropy_threshold(histogram_of(far)) < 10


@pytest.mark.parametrize("method", ["min-max", "percentile", "mse", "entropy"])
def test_a_range_holds_zero_and_nothing_that_was_not_seen(method: str) -> None:
    for values in (*CASES.values(), np.zeros(10, np.float32), np.full(10, 3.0, np.float32)):
        low, high = find_range(histogram_of(values), method)  # type: ignore[arg-type]
        assert min(0.0, float(values.min())) <= low <= 0.0 <= high <= max(0.0, float(values.max()))
    assert find_range(histogram_of(NORMAL), "min-max") == (NORMAL.min(), NORMAL.max())
