from __future__ import annotations

import math

import numpy as np
import pytest

from edgedl.core.statistics import (
    bootstrap_mean,
    independent_difference,
    paired_difference,
    quantile_intervals,
    quantile_ratio,
    trimmed_mean,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, 857–872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(successes: int, n: int, low: float, high: float):
    found = wilson(successes, n)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_wilson_refuses_what_is_no_proportion():
    with pytest.raises(ValueError, match="successes"):
        wilson(3, 2)


def pairs(both: int, only_before: int, only_after: int, neither: int) -> tuple[list[bool], list[bool]]:
    before = [True] * (both + only_before) + [False] * (only_after + neither)
    after = [True] * both + [False] * only_before + [True] * only_after + [False] * neither
    return before, after


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),  # Newcombe 1998, Statistics in Medicine 17, 2635–2650, method 10
        (
            (1, 1, 7, 12),
            -0.5069,
            -0.0256,
        ),  # Fagerland et al. 2014, Statistics in Medicine 33, 2850–2875: −0.507, −0.026
    ],
)
def test_paired_difference_gives_the_published_intervals(cells: tuple[int, int, int, int], low: float, high: float):
    found = paired_difference(*pairs(*cells))
    assert found.low == pytest.approx(low, abs=6e-5)
    assert found.high == pytest.approx(high, abs=6e-5)


def test_independent_difference_is_newcombes_method_10_for_two_proportions():
    # Newcombe 1998, Statistics in Medicine 17, 873–890, table II, method 10: 56/70 against 48/80
    found = independent_difference(wilson(56, 70), wilson(48, 80))
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)


def test_trimmed_mean_ignores_one_wild_process_and_equals_the_t_interval_without_trimming():
    calm = [1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 1.0, 1.01, 0.99]
    wild = [*calm[:-1], 50.0]
    assert trimmed_mean(wild).high < 1.1
    plain = trimmed_mean([1.0, 2.0, 3.0, 4.0], trim=0.0)
    assert plain.value == 2.5
    assert plain.high - plain.value == pytest.approx(3.18245 * 1.2909944 / 2, rel=1e-5)  # t(0.975, 3) · s/√n
    assert math.isinf(trimmed_mean([1.0]).high)


def session(rng: np.random.Generator, processes: int, ratio: float = 1.0):
    """An interleaved session on a noisy machine: processes differ by 3 %, their ratios by 0.3 %; rounds drift."""
    new, old = [], []
    for _ in range(processes):
        speed, own = np.exp(rng.normal(0, 0.03)), np.exp(rng.normal(0, 0.003))
        drift = speed * (1 + 0.01 * np.abs(rng.standard_cauchy(8)))
        old.append([list(100 * d * (1 + rng.exponential(0.02, 6))) for d in drift])
        new.append([list(100 * ratio * own * d * (1 + rng.exponential(0.02, 6))) for d in drift])
    return new, old


@pytest.mark.parametrize("processes", [5, 12])
def test_the_ratios_interval_holds_what_it_promises(processes: int):
    rng = np.random.default_rng(processes)
    found = [quantile_ratio(*session(rng, processes)) for _ in range(200)]
    held = sum(interval.low <= 1.0 <= interval.high for interval in found)
    assert 0.88 <= held / len(found) <= 1.0  # 95 % promised; 200 sessions tell it to about ± 3 points


def test_a_planted_slowdown_of_three_percent_is_seen_through_noise_that_is_larger():
    new, old = session(np.random.default_rng(1), 12, ratio=1.03)
    found = quantile_ratio(new, old)
    assert 1.0 < found.low < 1.03 < found.high < 1.06


def test_a_skewed_load_does_not_favour_the_new_file_where_the_old_one_was_timed_twice():
    rng = np.random.default_rng(3)
    logs = []
    for _ in range(60):  # the same file three times, slowed by up to some tenths; against the mean of the two: −0.8 %
        new, old, again = 100 * (1 + rng.exponential(0.1, (3, 8, 25, 1)))
        logs.append(math.log(quantile_ratio(new.tolist(), old.tolist(), again.tolist()).value))
    assert abs(np.mean(logs)) < 3 * np.std(logs) / len(logs) ** 0.5


def test_the_ratio_needs_one_interleaved_session():
    new, old = session(np.random.default_rng(1), 3)
    with pytest.raises(ValueError, match="interleaved"):
        quantile_ratio(new, old[:2])


def test_quantile_intervals_know_that_processes_differ():
    rng = np.random.default_rng(2)
    alike = [[list(100 + rng.normal(0, 1, 20)) for _ in range(10)] for _ in range(10)]
    different = [[[x + 5 * shift for x in block] for block in process] for shift, process in enumerate(alike)]
    (one,), (other,) = quantile_intervals(alike, (0.5,)), quantile_intervals(different, (0.5,))
    assert one.low <= 100 <= one.high
    assert one.high - one.low < 0.5
    assert other.high - other.low > 15
    assert quantile_intervals(different, (0.5,)) == (other,)  # the same seed, the same interval


def test_quantiles_of_many_samples_are_exact_and_in_order():
    blocks = [[[float(x) for x in range(start, 20_000, 40)] for start in range(p, p + 4)] for p in range(0, 40, 4)]
    p10, median, p90 = quantile_intervals(blocks, (0.1, 0.5, 0.9))
    assert (p10.value, median.value, p90.value) == (1999.0, 9999.0, 17999.0)
    assert p10.high < median.low
    assert median.low == pytest.approx(9999, rel=0.01)


def test_bootstrap_mean_brackets_the_mean():
    found = bootstrap_mean(np.arange(100.0))
    assert found.low < 49.5 < found.high
    assert found.value == 49.5
