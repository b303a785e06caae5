"""Common corruptions in the units of the raw inputs: (n, *shape) in, the same shape out, float32.

After Hendrycks & Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations",
arXiv:1903.12261: images take the constants of their published code, CIFAR-10-C's up to 64 pixels, else ImageNet-C's.
Brightness is added to all channels (theirs: to HSV's V); shift, and what sounds, series and vectors get, is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.contract import InputContract

Raw = NDArray[Any]


@dataclass(frozen=True)
class Range:
    """Where raw values lie. low, high: as the contract promises, or as seen; spread: high − low of images, else four
    standard deviations, for each feature of a vector and each channel of a series."""

    low: Any
    high: Any
    spread: Any
    hard: bool

    @staticmethod
    def of(raw: Raw, contract: InputContract) -> Range:
        """Of examples (n, *shape)."""
        found = raw.astype(np.float64)
        if contract.raw_range is not None and contract.content == "image":
            low, high = contract.raw_range
            return Range(low, high, high - low, hard=True)
        axes = tuple(range(found.ndim if found.shape[-1] == 1 and found.ndim > 2 else found.ndim - 1))
        low, high = found.min(axis=axes), found.max(axis=axes)
        spread = high - low if contract.content == "image" else 4.0 * found.std(axis=axes)
        return Range(low, high, spread, hard=False)

    def clip(self, raw: Raw) -> Raw:
        """To what a sensor can give, where the contract says so."""
        return (np.clip(raw, self.low, self.high) if self.hard else raw).astype(np.float32)


Corruption = Callable[[Raw, Range, int, np.random.Generator], Raw]
"""(raw float64, range, severity from 0 to 4, generator) → raw."""


def corruptions_for(contract: InputContract) -> Mapping[str, Corruption]:
    """What can befall this input, by name; nothing for tokens."""
    if not contract.dtype.startswith("float"):
        return {}
    if contract.content == "image" and len(contract.shape) == 3:
        small = max(contract.shape[:2]) <= 64
        return {
            "noise": _noise((0.04, 0.06, 0.08, 0.09, 0.10) if small else (0.08, 0.12, 0.18, 0.26, 0.38)),
            "blur": _blur((0.4, 0.6, 0.7, 0.8, 1.0) if small else (1.0, 2.0, 3.0, 4.0, 6.0)),
            "brightness": _brightness((0.05, 0.1, 0.15, 0.2, 0.3) if small else (0.1, 0.2, 0.3, 0.4, 0.5)),
            "shift": _shift(2),
        }
    found: dict[str, Corruption] = {"noise": _noise((0.02, 0.04, 0.06, 0.08, 0.10))}
    if len(contract.shape) > 1 or (contract.audio is not None and contract.audio.features == "waveform"):
        found["shift"] = _shift(1)
    if contract.audio is not None and contract.audio.features == "log-mel":
        found["loudness"] = _quieter
    elif contract.audio is None or contract.audio.features == "waveform":
        found["scaling"] = _scaling
    return found


def _noise(sigmas: tuple[float, ...]) -> Corruption:
    """Gaussian noise of `sigmas` · spread."""

    def noise(raw: Raw, where: Range, severity: int, rng: np.random.Generator) -> Raw:
        return where.clip(raw + sigmas[severity] * where.spread * rng.standard_normal(raw.shape))

    return noise


def _blur(sigmas: tuple[float, ...]) -> Corruption:
    """Gaussian blur over height and width."""

    def blur(raw: Raw, where: Range, severity: int, rng: np.random.Generator) -> Raw:
        from scipy.ndimage import gaussian_filter

        sigma = sigmas[severity]
        return where.clip(gaussian_filter(raw, (0.0, sigma, sigma, 0.0), mode="nearest"))

    return blur


def _brightness(shares: tuple[float, ...]) -> Corruption:
    """A share of the range more, everywhere."""

    def brightness(raw: Raw, where: Range, severity: int, rng: np.random.Generator) -> Raw:
        return where.clip(raw + shares[severity] * where.spread)

    return brightness


def _shift(axes: int) -> Corruption:
    """Moved along the first `axes` axes by 2 to 10 % of their length, one step at least; edges are repeated."""

    def shift(raw: Raw, where: Range, severity: int, rng: np.random.Generator) -> Raw:
        moved = raw
        signs = rng.choice([-1, 1], (axes, len(raw)))
        for axis in range(axes):
            length = raw.shape[axis + 1]
            by = max(1, math.floor(0.02 * (severity + 1) * length + 0.5))
            steps = np.clip(np.arange(length)[None] + by * signs[axis][:, None], 0, length - 1)
            shape = [len(raw), *(length if i == axis else 1 for i in range(raw.ndim - 1))]
            moved = np.take_along_axis(moved, steps.reshape(shape), axis=axis + 1)
        return where.clip(moved)

    return shift


def _scaling(raw: Raw, where: Range, severity: int, rng: np.random.Generator) -> Raw:
    """5 to 25 % larger or smaller, by a factor for each example."""
    factors = 1.0 + 0.05 * (severity + 1) * rng.choice([-1, 1], len(raw))
    return where.clip(raw * factors.reshape(-1, *[1] * (raw.ndim - 1)))


def _quieter(raw: Raw, where: Range, severity: int, rng: np.random.Generator) -> Raw:
    """The sound 3 to 15 dB quieter: a constant less in the logarithm of power."""
    return where.clip(raw - math.log(10.0 ** (0.3 * (severity + 1))))
