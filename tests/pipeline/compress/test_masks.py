"""Masks by magnitude, and the starting points of shared values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedl.pipeline.compress.kernels import as_matrix, from_matrix
from edgedl.pipeline.compress.kmeans import linear, lloyd, plus_plus
from edgedl.pipeline.compress.masks import is_two_in_four, largest, largest_blocks, two_in_four


def test_the_largest_stay_and_of_equal_ones_exactly_as_many_as_asked_for() -> None:
    assert largest(np.array([0.1, 0.4, 0.3, 0.2]), 0.5).tolist() == [False, True, True, False]
    assert largest(np.ones(100), 0.75).sum() == 25
    assert largest(np.zeros(8), 0.99).sum() == 1  # never a layer of zeros


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.0, 0.99), st.integers(1, 5), st.integers(1, 5))
def test_blocks_are_whole_and_come_as_near_as_blocks_can(
    rows: int, columns: int, sparsity: float, height: int, width: int
) -> None:
    magnitudes = np.random.default_rng(0).random((rows, columns))
    mask = largest_blocks(magnitudes, sparsity, (height, width))
    assert mask.any()
    blocks = -(-rows // height) * -(-columns // width)
    assert abs(1.0 - mask.mean() - sparsity) <= height * width / mask.size or blocks == 1 or sparsity > 1 - 1 / blocks
    for top in range(0, rows, height):
        for left in range(0, columns, width):
            block = mask[top : top + height, left : left + width]
            assert block.all() or not block.any()


@given(st.integers(1, 9), st.integers(1, 30))
def test_two_in_four_holds_for_any_width(rows: int, columns: int) -> None:
    magnitudes = np.random.default_rng(0).random((rows, columns)) + 0.1
    mask = two_in_four(magnitudes)
    assert is_two_in_four(mask)
    assert mask.sum() == rows * (columns // 4 * 2 + min(2, columns % 4))
    assert not is_two_in_four(np.ones((1, 4)))
    first = np.sort(magnitudes[0, :4])[-2:]
    assert set(first) == set(magnitudes[0, :4][mask[0, :4]])


@pytest.mark.parametrize(
    ("shape", "layout", "matrix"),
    [
        ((5, 7), "inputs-outputs", (7, 5)),
        ((3, 3, 5, 7), "inputs-outputs", (63, 5)),
        ((3, 5, 7), "inputs-outputs", (21, 5)),
        ((3, 3, 7, 5), "outputs-inputs", (63, 5)),
    ],
)
def test_the_matrix_of_a_kernel_and_back(shape: tuple[int, ...], layout: str, matrix: tuple[int, int]) -> None:
    values = np.arange(np.prod(shape)).reshape(shape)
    found = as_matrix(values, layout)
    assert found is not None
    assert found.shape == matrix
    assert (from_matrix(found, shape, layout) == values).all()
    if layout == "inputs-outputs" and len(shape) == 4:
        assert (found[0] == values[0, 0, :, 0]).all()  # a row goes along the inputs
    assert as_matrix(np.zeros((3, 3, 8, 1)), "depthwise") is None


def test_k_means_finds_what_is_there_and_repeats() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([-1.0, -0.2, 0.3, 2.0])
    values = rng.choice(centres, 2000) + rng.normal(0, 0.01, 2000)
    found = lloyd(values, plus_plus(values, 4, seed=1))
    assert found == pytest.approx(centres, abs=0.01)
    assert (lloyd(values, plus_plus(values, 4, seed=1)) == found).all()
    spread = rng.normal(0, 1, 5000)
    for start in (plus_plus(spread, 16, seed=2), linear(spread, 16)):
        centroids = lloyd(spread, start)
        error = np.abs(spread[:, None] - centroids).min(axis=1)
        assert len(centroids) <= 16
        assert np.mean(error**2) < 0.02  # 16 values hold a normal distribution with a variance of 0.0095 at best
    assert len(lloyd(np.array([1.0, 1.0, 2.0]), plus_plus(np.array([1.0, 1.0, 2.0]), 8, seed=0))) == 2
