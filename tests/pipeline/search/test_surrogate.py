"""What is proposed next: effects of options that multiply are found from few chains."""

from __future__ import annotations

import itertools
import math

import numpy as np

from edgedl.pipeline.search.front import hypervolume
from edgedl.pipeline.search.surrogate import propose

FACTORS = {"a": {"none": 1.0, "x": 0.5, "y": 0.7}, "b": {"none": 1.0, "x": 0.6}, "c": {"none": 1.0, "x": 0.9, "y": 0.4}}
LOSSES = {"a": {"none": 0.0, "x": 4.0, "y": 0.2}, "b": {"none": 0.0, "x": 0.3}, "c": {"none": 0.0, "x": 6.0, "y": 0.5}}
POINTS = {
    "+".join(options): dict(zip("abc", options, strict=True))
    for options in itertools.product(*map(list, FACTORS.values()))
}
REFERENCE = (1.0, 10.0)


def values(words: str) -> tuple[float, float]:
    point = POINTS[words]
    return (
        math.prod(FACTORS[name][option] for name, option in point.items()),
        sum(LOSSES[name][option] for name, option in point.items()),
    )


def searched(n: int, seed: int, limit: tuple[float, float] = REFERENCE) -> list[str]:
    done = ["none+none+none", "x+none+none", "none+x+none", "none+none+x", "none+none+y", "y+none+none"]
    while len(done) < n:
        known = {one: (POINTS[one], values(one)) for one in done}
        left = {one: point for one, point in POINTS.items() if one not in known}
        done.append(propose(known, left, [limit, REFERENCE], seed + len(done)))
    return done


def test_few_chains_cover_what_all_of_them_do() -> None:
    whole = hypervolume([values(one) for one in POINTS], REFERENCE)
    shares = [hypervolume([values(one) for one in searched(9, seed)], REFERENCE) / whole for seed in range(10)]
    assert min(shares) > 0.95
    drawn = [
        hypervolume(
            [values(one) for one in np.random.default_rng(seed).choice(list(POINTS), 9, replace=False)], REFERENCE
        )
        for seed in range(10)
    ]
    assert np.mean(shares) > np.mean(drawn) / whole


def test_what_keeps_the_limits_comes_first() -> None:
    best = "y+x+y"  # the smallest with a loss of 1 and less
    assert best in searched(8, 3, (1.0, 1.2))


def test_what_was_stopped_tells_what_it_knows_and_what_is_unknown_leaves_to_chance() -> None:
    known = {one: (POINTS[one], values(one)) for one in searched(6, 0)}
    known["x+x+x"] = (POINTS["x+x+x"], (0.27, None))  # pyright: ignore[reportArgumentType]
    left = {one: point for one, point in POINTS.items() if one not in known}
    assert propose(known, left, [REFERENCE], 1) == propose(known, left, [REFERENCE], 1)
    assert propose(known, left, [REFERENCE], 1) in left
    assert {propose({}, left, [REFERENCE], seed) for seed in range(30)} > {"y+x+y"}
