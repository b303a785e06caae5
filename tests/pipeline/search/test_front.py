"""Fronts and hypervolumes against brute force."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedl.pipeline.search.front import dominates, hypervolume, pareto_front

SIDE = 5


def points(dimensions: int) -> st.SearchStrategy[list[tuple[int, ...]]]:
    return st.lists(st.tuples(*[st.integers(0, SIDE)] * dimensions), max_size=8)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_hypervolume_counts_the_cells_that_some_point_dominates(dimensions: int) -> None:
    @given(points(dimensions))
    def check(given_points: list[tuple[int, ...]]) -> None:
        cells = itertools.product(range(SIDE), repeat=dimensions)
        counted = sum(
            any(all(a <= b for a, b in zip(point, cell, strict=True)) for point in given_points) for cell in cells
        )
        assert hypervolume(given_points, (SIDE,) * dimensions) == counted

    check()


@given(points(3))
def test_the_front_holds_what_nothing_beats_and_each_once(given_points: list[tuple[int, ...]]) -> None:
    front = [given_points[i] for i in pareto_front(given_points)]
    assert len(set(front)) == len(front)
    for point in given_points:
        assert any(one == point or dominates(one, point) for one in front)
    assert not any(dominates(one, other) for one in given_points for other in front)


def test_an_equal_point_dominates_nothing() -> None:
    assert not dominates((1, 2), (1, 2))
    assert dominates((1, 2), (1, 3))
    assert not dominates((1, 3), (2, 2))
    assert hypervolume([], (1.0, 1.0)) == 0.0
