from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgedl.pipeline.check.change_points import _Test, change_points, exact_changes, fewest

# --- counted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [1, 7, 19])
def test_a_count_that_is_off_by_one_is_seen_wherever_it_happens(place: int) -> None:
    counts = [1_234_567] * place + [1_234_568] * (20 - place)
    (found,) = exact_changes(counts)
    assert (found.index, found.before, found.after, found.p_value) == (place, 1_234_567, 1_234_568, None)


def test_a_count_of_a_single_run_is_two_changes() -> None:
    assert [point.index for point in exact_changes([5, 5, 6, 5])] == [2, 3]
    assert exact_changes([]) == exact_changes([5]) == exact_changes([5, 5]) == ()


@given(st.lists(st.integers(0, 3), max_size=30))
def test_between_exact_changes_nothing_changes(counts: list[int]) -> None:
    bounds = [0, *(point.index for point in exact_changes(counts)), len(counts)]
    parts = [counts[a:b] for a, b in itertools.pairwise(bounds)]
    assert all(len(set(part)) <= 1 for part in parts)
    assert all(one[-1] != other[0] for one, other in itertools.pairwise(parts))


def test_the_change_of_a_level() -> None:
    assert exact_changes([100, 105])[0].change == pytest.approx(0.05)
    assert exact_changes([0, 105])[0].change is None


# --- the statistic -----------------------------------------------------------------------------------------------


def divergence(x: NDArray[np.float64], y: NDArray[np.float64], alpha: float) -> float:
    """Equations (5) and (6) of Matteson & James as they are printed."""
    n, m = len(x), len(y)
    across = sum(abs(a - b) ** alpha for a in x for b in y) * 2 / (m * n)
    within = [
        sum(abs(part[i] - part[k]) ** alpha for k in range(len(part)) for i in range(k))
        * 2
        / len(part)
        / (len(part) - 1)
        for part in (x, y)
    ]
    return m * n / (m + n) * (across - sum(within))


@given(st.integers(0, 10_000), st.integers(6, 14), st.integers(2, 3), st.floats(0.2, 1.9))
@settings(max_examples=25, deadline=None)
def test_the_largest_divergence_is_the_papers(seed: int, n: int, size: int, alpha: float) -> None:
    x = np.random.default_rng(seed).normal(size=n)
    every = {
        (tau, kappa): divergence(x[:tau], x[tau:kappa], alpha)
        for kappa in range(2 * size, n + 1)
        for tau in range(size, kappa - size + 1)
    }
    most = max(every.values())
    test = _Test(x, size, alpha)
    assert test.most == pytest.approx(max(most, 0.0) if n > 2 * size else most, abs=1e-9)
    if most > 0:
        assert max(value for (tau, _), value in every.items() if tau == test.cut) == pytest.approx(most)


# --- noisy -------------------------------------------------------------------------------------------------------


def noisy(seed: int, *levels: tuple[int, float], noise: float = 0.03) -> NDArray[np.float64]:
    """So many runs at each level, with lognormal noise."""
    values = np.concatenate([np.full(runs, level) for runs, level in levels])
    return values * np.exp(np.random.default_rng(seed).normal(0, noise, values.size))


def test_noise_alone_seldom_shows_a_change() -> None:
    """At a level of 1 %, four or more of 100 series happen in 2 % of such tests; the seeds are fixed."""
    assert sum(bool(change_points(noisy(seed, (40, 118.0)))) for seed in range(100)) <= 3


def test_a_step_of_five_percent_is_found_where_it_is() -> None:
    found = [change_points(noisy(seed, (30, 118.0), (30, 123.9))) for seed in range(50)]
    assert sum(len(points) == 1 for points in found) >= 45
    assert sum(any(abs(point.index - 30) <= 2 for point in points) for points in found) >= 42
    shifts = [point.change for points in found for point in points if abs(point.index - 30) <= 2]
    assert np.median([shift for shift in shifts if shift is not None]) == pytest.approx(0.05, abs=0.01)


def test_a_large_step_is_found_after_a_few_runs() -> None:
    found = [change_points(noisy(seed, (30, 118.0), (4, 141.0))) for seed in range(20)]
    assert sum([point.index for point in points] == [30] for points in found) >= 18


def test_a_regression_that_was_mended_is_two_changes() -> None:
    found = [change_points(noisy(seed, (40, 100.0), (10, 110.0), (50, 100.0))) for seed in range(20)]
    near = [[p.index for p in points if abs(p.index - 40) <= 2 or abs(p.index - 50) <= 2] for points in found]
    assert sum(len(indices) == 2 for indices in near) >= 18


@pytest.mark.parametrize("place", [0, 1, 30, 57, 58, 59])
def test_a_single_outlier_is_no_change(place: int) -> None:
    shown = 0
    for seed in range(20):
        values = noisy(seed, (60, 100.0))
        values[place] *= 3
        shown += bool(change_points(values))
    assert shown <= 2


def test_a_single_outlier_at_the_end_of_an_otherwise_steady_series_is_no_change() -> None:
    assert change_points([100.0] * 80 + [150.0]) == ()


def test_several_steps() -> None:
    found = change_points(noisy(3, (30, 100.0), (30, 110.0), (30, 99.0), noise=0.01))
    assert [point.index for point in found] == [30, 60]
    assert [point.what for point in found] == ["level", "level"]
    assert all(point.p_value is not None and point.p_value <= 0.01 for point in found)


def test_values_that_only_scatter_more_are_said_to() -> None:
    found = change_points(
        np.concatenate([noisy(1, (150, 100.0), noise=0.002), noisy(2, (150, 100.0), noise=0.1)]).tolist()
    )
    assert [point.what for point in found[:1]] == ["spread"]


def test_series_that_are_too_short_or_constant_have_none() -> None:
    assert fewest() == 10
    for n in range(fewest()):
        assert change_points([1.0] * (n // 2) + [2.0] * (n - n // 2)) == ()
    assert change_points([7.0] * 50) == ()
    assert change_points([0.0] * 50) == ()


def test_the_same_series_gives_the_same_answer() -> None:
    values = noisy(5, (30, 100.0), (30, 103.0))
    assert change_points(values) == change_points(values)


@given(st.integers(0, 1000), st.floats(1e-3, 1e6))
@settings(max_examples=10, deadline=None)
def test_the_unit_does_not_matter(seed: int, factor: float) -> None:
    values = noisy(seed, (20, 1.0), (20, 1.06))
    scaled = change_points(values * factor)
    assert [point.index for point in scaled] == [point.index for point in change_points(values)]


@pytest.mark.parametrize(
    "wrong", [{"min_size": 1}, {"alpha": 0.0}, {"alpha": 2.0}, {"significance": 0.001}, {"significance": 1.0}]
)
def test_what_cannot_be_tested_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="cannot test"):
        change_points([1.0] * 20, **wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="finite"):
        change_points([1.0, float("nan")] * 10)


def test_five_hundred_runs_take_seconds_at_most() -> None:
    values = noisy(1, (170, 100.0), (170, 110.0), (160, 100.0))
    started = time.process_time()
    assert [round(point.index, -1) for point in change_points(values)] == [170, 340]
    assert time.process_time() - started < 5
