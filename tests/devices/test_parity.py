"""How far a device's outputs are from the host's."""

from __future__ import annotations

import numpy as np
import pytest

from edgedl.devices.parity import parity, words

HERE = [np.array([0.0, -2.0, 1.0], np.float32), np.array([1, 2], np.int32)]


def of(first: list[float]):
    return parity("float32", "the CPU", ["a", "b"], [[np.array(first, np.float32), HERE[1]]], [HERE])


def test_differences_are_shares_of_the_largest_value() -> None:
    assert [one.relative_error for one in of([0.0, -2.0, 1.0]).outputs] == [0.0, 0.0]
    assert of([0.0, -2.0, 1.5]).outputs[0].relative_error == pytest.approx(0.25)
    assert of([0.0, np.nan, 1.0]).outputs[0].relative_error == float("inf")
    lost = [[np.array([np.nan, 4.0])]]
    assert parity("float32", "the CPU", ["a"], lost, lost).outputs[0].relative_error == 0.0


def test_words() -> None:
    assert words([], "the GPU") == []
    assert words([of([0.0, -2.0, 1.0])], "the GPU") == ["outputs equal the CPU's, on 1 random input"]
    near, far = of([0.0, -2.0, 1.0002]), of([0.0, -2.0, 1.5])
    (told,) = words([near], "the GPU")
    assert told == "outputs differ from the CPU's by at most 1.0e-04 (float32) of the largest, on 1 random input"
    assert "the GPU's answers are not the CPU's in float32" in words([far], "the GPU")[1]
