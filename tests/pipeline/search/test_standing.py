"""Where candidates stand to a budget: kept, broken, undecided; the best, the nearest, and what is in the way."""

from __future__ import annotations

from edgedl.core.statistics import Interval, exact
from edgedl.pipeline.search.budget import Quantity, parse_budget
from edgedl.pipeline.search.result import Candidate, Figure
from edgedl.pipeline.search.standing import best_of, excess, nearest_to, obstacles, standing, with_standing

BUDGET = parse_budget("size<=60KB, latency<=0.5x, accuracy_drop<=0.5")
SIZE, LATENCY, LOSS = BUDGET.limits


def candidate(chain: str, size: float, loss: float, latency: tuple[float, float, float]) -> Candidate:
    figures: dict[Quantity, Figure] = {
        "size": Figure(size, "measured", exact(size), exact(size / 100_000)),
        "loss": Figure(loss, "measured", Interval(loss, loss - 1, loss + 1)),
        "latency": Figure(100 * latency[0], "measured", exact(100 * latency[0]), Interval(*latency)),
    }
    broken, undecided = with_standing(BUDGET, figures)
    return Candidate(chain, "judged", figures, broken, undecided)


def test_an_interval_that_spans_the_limit_on_latency_is_undecided() -> None:
    for latency, how in [((0.4, 0.38, 0.45), "kept"), ((0.49, 0.45, 0.53), "undecided"), ((0.6, 0.51, 0.7), "broken")]:
        one = candidate("x", 50_000, 0.0, latency)
        assert standing(LATENCY, one.figures) == how
    assert candidate("x", 50_000, 0.0, (0.49, 0.45, 0.53)).fits is None
    assert standing(LATENCY, {}) == "unknown"


def test_a_loss_is_taken_at_its_value() -> None:
    assert candidate("x", 50_000, 0.5, (0.4, 0.4, 0.4)).fits is True
    assert candidate("x", 50_000, 0.51, (0.4, 0.4, 0.4)).broken == (LOSS.words,)


def test_what_fits_for_certain_goes_before_what_may_fit() -> None:
    certain = candidate("certain", 55_000, 0.4, (0.4, 0.3, 0.45))
    perhaps = candidate("perhaps", 20_000, 0.0, (0.4, 0.3, 0.55))
    outside = candidate("outside", 10_000, 3.0, (0.1, 0.1, 0.1))
    assert best_of([perhaps, outside, certain], BUDGET) is certain
    assert best_of([perhaps, outside], BUDGET) is perhaps
    assert best_of([outside], BUDGET) is None


def test_the_best_is_the_smallest_in_the_goal() -> None:
    small, good = candidate("a", 40_000, 0.4, (0.4,) * 3), candidate("b", 50_000, 0.0, (0.2,) * 3)
    assert best_of([good, small], BUDGET) is small
    assert best_of([good, small], parse_budget(BUDGET.words, "latency")) is good
    assert best_of([good, small], parse_budget(BUDGET.words, "accuracy_drop")) is good


def test_the_nearest_misses_its_worst_limit_by_least() -> None:
    near, far = candidate("near", 66_000, 0.4, (0.4,) * 3), candidate("far", 50_000, 1.0, (0.4,) * 3)
    assert [one.chain for one in nearest_to([far, near], BUDGET)] == ["near", "far"]
    assert excess(SIZE, near.figures) == 0.1


def test_the_limit_in_the_way_is_named() -> None:
    found = obstacles([candidate("a", 80_000, 0.4, (0.4,) * 3), candidate("b", 90_000, 2.0, (0.4,) * 3)], BUDGET)
    assert found == [
        "size<=60KB: no candidate keeps it; the least is 80.0 kB",
        "size<=60KB alone keeps 1 out: a has 80.0 kB and keeps all else",
    ]
    several = obstacles([candidate("a", 50_000, 2.0, (0.6,) * 3), candidate("b", 90_000, 0.1, (0.7,) * 3)], BUDGET)
    assert several[-1].startswith("no single limit stands in the way")
    assert several[0].startswith("latency<=0.5x: no candidate keeps it; the least is 0.6x")
    stopped = Candidate("x", "stopped", {})
    assert "no candidate got far enough to tell" in obstacles([stopped], BUDGET)[0]
