"""Which weights stay: masks by magnitude, in the three patterns. All take magnitudes and give True for what stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Magnitudes = NDArray[np.floating]
Mask = NDArray[np.bool_]


def largest(magnitudes: Magnitudes, sparsity: float) -> Mask:
    """(n,): the round(n · (1 − sparsity)) largest, at least one; of equal ones the first."""
    kept = max(1, round(len(magnitudes) * (1.0 - sparsity)))
    mask = np.zeros(len(magnitudes), np.bool_)
    mask[np.argsort(-magnitudes, kind="stable")[:kept]] = True
    return mask


def largest_blocks(matrix: Magnitudes, sparsity: float, block: tuple[int, int]) -> Mask:
    """(outputs, inputs): whole blocks (those at the edges may be smaller) by their mean magnitude, at least one."""
    rows, columns = matrix.shape
    height, width = block
    down, across = -(-rows // height), -(-columns // width)
    padded = np.zeros((down * height, across * width))
    padded[:rows, :columns] = matrix
    inside = np.zeros_like(padded)
    inside[:rows, :columns] = 1.0

    def per_block(values: NDArray[np.floating]) -> NDArray[np.floating]:
        return values.reshape(down, height, across, width).sum(axis=(1, 3)).ravel()

    sizes = per_block(inside)
    order = np.argsort(per_block(padded) / sizes, kind="stable")
    zeros = np.concatenate([[0.0], np.cumsum(sizes[order])])[:-1]  # one block stays
    dropped = int(np.argmin(np.abs(zeros - sparsity * matrix.size)))
    mask = np.ones(down * across, np.bool_)
    mask[order[:dropped]] = False
    return np.kron(mask.reshape(down, across), np.ones(block, np.bool_))[:rows, :columns].astype(np.bool_)


def two_in_four(matrix: Magnitudes) -> Mask:
    """(outputs, inputs): of every four in a row the two largest; of what is left at the end at most two."""
    rows, columns = matrix.shape
    groups = -(-columns // 4)
    padded = np.full((rows, groups * 4), -1.0)
    padded[:, :columns] = matrix
    order = np.argsort(-padded.reshape(rows, groups, 4), axis=2, kind="stable")
    mask = np.zeros((rows, groups, 4), np.bool_)
    np.put_along_axis(mask, order[:, :, :2], True, axis=2)
    return mask.reshape(rows, -1)[:, :columns]


def is_two_in_four(matrix: NDArray[np.generic]) -> bool:
    """(outputs, inputs): whether at most two in every four in a row are not zero."""
    rows, columns = matrix.shape
    padded = np.zeros((rows, -(-columns // 4) * 4), np.bool_)
    padded[:, :columns] = matrix != 0
    return bool((padded.reshape(rows, -1, 4).sum(axis=2) <= 2).all())
