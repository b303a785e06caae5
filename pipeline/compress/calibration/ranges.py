"""Ranges of activations from their histograms: min–max, percentile, mean squared error, entropy. Pure numpy.

All methods cut the largest magnitudes: with a threshold T the range is [max(min, −T), min(max, T)], and holds 0, which
TFLite's integers have to represent exactly (padding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Method: TypeAlias = Literal["min-max", "percentile", "mse", "entropy"]
Range: TypeAlias = tuple[float, float]
Floats: TypeAlias = NDArray[np.float64]

LEVELS = 256
"""Integers of 8 bits."""

_SHIFT = 17
"""Bits cut off a float32: what is left are sign, exponent and 6 bits of mantissa, 64 bins an octave."""
_BINS = 1 << (31 - _SHIFT)
_INFINITY = 0x7F800000 >> _SHIFT
_OCTAVES = 10
"""Thresholds down to 2⁻¹⁰ of the largest magnitude are considered."""
_STEPS = 64
"""Thresholds an octave, for the squared error."""
_ENTROPY_BINS, _STRIDE = 2048, 8


@dataclass(frozen=True)
class Histogram:
    """How often values fell between `left` and `right`, shapes (bins,), ascending; bins that hold nothing are left out.

    A bin is at most 1/64 of its magnitude wide (a sketch with relative error, as in Masson et al. 2019, "DDSketch",
    PVLDB 12(12), §2), so an outlier does not cost the other values their resolution; zeros have a bin of no width.
    minimum, maximum: exact.
    """

    left: Floats
    right: Floats
    count: NDArray[np.int64]
    minimum: float
    maximum: float

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.count.sum())

    @property
    def peak(self) -> float:
        """Largest magnitude."""
        return max(abs(self.minimum), abs(self.maximum))


class Sketch:
    """Counts values into the bins of a `Histogram`, array by array."""

    def __init__(self) -> None:
        self._counts = np.zeros(2 * _BINS, np.int64)  # by sign and magnitude: the upper bits of the float32
        self._minimum, self._maximum = np.inf, -np.inf

    def add(self, values: NDArray[np.float32]) -> None:
        """Count finite float32 values of any shape."""
        if not values.size:
            return
        bits = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32) >> np.uint32(_SHIFT)
        self._counts += np.bincount(bits, minlength=2 * _BINS)
        self._minimum = min(self._minimum, float(values.min()))
        self._maximum = max(self._maximum, float(values.max()))

    def histogram(self) -> Histogram:
        """What was counted so far, at least one value."""
        places = np.minimum(np.arange(_BINS + 1, dtype=np.uint32), np.uint32(_INFINITY))
        edges = (places << np.uint32(_SHIFT)).view(np.float32).astype(np.float64)
        positive, negative = self._counts[:_BINS], self._counts[_BINS:]
        zeros = int(positive[0] + negative[0])  # with what is too small for a normal float32
        held = np.flatnonzero(positive[1:]) + 1
        below = (np.flatnonzero(negative[1:]) + 1)[::-1]
        return Histogram(
            left=np.concatenate([-edges[below + 1], [0.0] * (zeros > 0), edges[held]]).clip(
                self._minimum, self._maximum
            ),
            right=np.concatenate([-edges[below], [0.0] * (zeros > 0), edges[held + 1]]).clip(
                self._minimum, self._maximum
            ),
            count=np.concatenate([negative[below], [zeros] * (zeros > 0), positive[held]]).astype(np.int64),
            minimum=self._minimum,
            maximum=self._maximum,
        )


def histogram_of(values: NDArray[Any]) -> Histogram:
    """The histogram of an array of any shape with at least one value."""
    sketch = Sketch()
    sketch.add(np.asarray(values, np.float32))
    return sketch.histogram()


def find_range(histogram: Histogram, method: Method, percentile: float = 99.99) -> Range:
    """The range that the method gives an 8-bit tensor. percentile: 50 to 100, of the magnitudes."""
    if not histogram.peak:
        return 0.0, 0.0
    match method:
        case "min-max":
            threshold = histogram.peak
        case "percentile":
            threshold = percentile_threshold(histogram, percentile)
        case "mse":
            threshold = mse_threshold(histogram)
        case "entropy":
            threshold = entropy_threshold(histogram)
    return cut(histogram, threshold)


def cut(histogram: Histogram, threshold: float) -> Range:
    """[max(min, −T), min(max, T)], stretched to hold 0."""
    return min(0.0, max(histogram.minimum, -threshold)), max(0.0, min(histogram.maximum, threshold))


def magnitudes(histogram: Histogram) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """left, right and count of the bins of |x|, ascending by left; bins of either sign stay apart."""
    low = np.minimum(np.abs(histogram.left), np.abs(histogram.right))
    high = np.maximum(np.abs(histogram.left), np.abs(histogram.right))
    order = np.argsort(low, kind="stable")
    return low[order], high[order], histogram.count[order]


def percentile_threshold(histogram: Histogram, percentile: float) -> float:
    """The magnitude that `percentile` per cent of the values do not exceed, to 1/64 of itself.

    Wu et al. 2020, "Integer quantization for deep learning inference" (arXiv:2004.09602), §3.4: the range is a
    percentile of the distribution of absolute values seen in calibration.
    """
    low, high, count = magnitudes(histogram)
    up_to = np.cumsum(count)
    rank = percentile / 100.0 * up_to[-1]
    found = int(np.searchsorted(up_to, rank))
    found = min(found, len(count) - 1)
    inside = 1.0 - (up_to[found] - rank) / count[found]
    return float(low[found] + inside * (high[found] - low[found]))


def mse_threshold(histogram: Histogram, levels: int = LEVELS) -> float:
    """The threshold with the smallest mean squared error of `levels` even steps over the range, to 1/64 of an octave.

    Banner, Nahshan and Soudry 2019, "Post training 4-bit quantization of convolutional networks" (NeurIPS;
    arXiv:1810.05723), eq. 2: E[(x − Q(x))²] = clipping below + clipping above + rounding inside. Where they assume a
    Gaussian or Laplacian, the histogram itself is summed.
    """
    candidates = histogram.peak * 2.0 ** (-np.arange(_OCTAVES * _STEPS) / _STEPS)
    errors = [squared_error(histogram, *cut(histogram, float(one)), levels) for one in candidates]
    return float(candidates[int(np.argmin(errors))])


def squared_error(histogram: Histogram, low: float, high: float, levels: int = LEVELS) -> float:
    """Sum of (x − Q(x))² over the histogram for `levels` integers from `low` to `high`, 0 among them.

    Inside a bin values are taken to lie evenly. A bin wider than a step s has the mean squared error s²/12 of uniform
    rounding noise (Bennett 1948, "Spectra of quantized signals"); the values of a narrower one err like its middle.
    """
    step = (high - low) / (levels - 1)
    middle, width = (histogram.left + histogram.right) / 2, histogram.right - histogram.left
    clipped = np.clip(middle, low, high)
    inside = (middle >= low) & (middle <= high)
    off = np.where(inside, np.abs(middle - step * np.round(middle / step)) if step else 0.0, middle - clipped)
    errors = np.where(inside & (width >= step), step**2 / 12, off**2)
    return float((errors * histogram.count).sum())


def entropy_threshold(histogram: Histogram, levels: int | None = None) -> float:
    """The threshold that loses least information: the smallest Kullback–Leibler divergence of the quantized values.

    Migacz 2017, "8-bit inference with TensorRT" (GTC), its calibration algorithm: over 2,048 even bins of |x|, every
    threshold from `levels` bins up is tried. levels: magnitudes that the integers tell apart; 128 for values of both
    signs, as there, and 256 for those of one sign, to which TFLite's zero point gives all integers. Where the lowest
    threshold wins, the search goes on below it with finer bins, down to 2⁻¹⁰ of the peak: outliers would hide the rest
    otherwise. Every 8th threshold is tried, then all around the best.
    """
    if levels is None:
        levels = LEVELS if histogram.minimum >= 0 or histogram.maximum <= 0 else LEVELS // 2
    top = histogram.peak
    while True:
        index = entropy_index(even_bins(histogram, top, _ENTROPY_BINS), levels, _STRIDE)
        threshold = top * index / _ENTROPY_BINS
        if index > levels or threshold < histogram.peak * 2.0**-_OCTAVES:
            return threshold
        top = 2 * threshold


def even_bins(histogram: Histogram, top: float, bins: int) -> Floats:
    """Counts of 0 < |x| in `bins` even bins from 0 to `top`, and behind them one with all that is larger.

    Zeros are left out: they are exact in every range (Migacz's slides leave bin 0 out, too).
    """
    low, high, count = magnitudes(histogram)
    some = high > 0
    low, high, count = low[some], high[some], count[some]
    edges = np.linspace(0.0, top, bins + 1)
    # Mass below each edge, every sketch bin spread evenly: bins overlap at most with that of the other sign.
    width = np.where(high > low, high - low, 1.0)
    below = np.zeros(bins + 1)
    full_at, start_at = np.searchsorted(edges, high), np.searchsorted(edges, low)
    np.add.at(below, np.minimum(full_at, bins), np.where(full_at <= bins, count, 0))
    below = np.cumsum(below)
    for i in np.flatnonzero(full_at > start_at):  # partly covered edges
        part = edges[start_at[i] : full_at[i]]
        below[start_at[i] : full_at[i]] += count[i] * np.clip((part - low[i]) / width[i], 0.0, 1.0)
    found = np.diff(below)
    return np.append(found, count.sum() - below[-1])


def entropy_index(counts: Floats, levels: int, stride: int = 1) -> int:
    """How many of the bins `counts[:-1]` to keep; `counts[-1]` is what lies beyond them (Migacz 2017).

    For each i ≥ levels: P is the first i bins with all that is cut off added to the last; Q the same bins, without
    what is cut off, merged into `levels` and spread again over those that were not empty. argmin KL(P ‖ Q). With a
    stride, every so many i, then those around the best.
    """
    bins = len(counts) - 1
    coarse = range(min(levels, bins), bins + 1, stride)
    best = min(coarse, key=lambda i: _divergence(counts, i, levels))
    around = range(max(coarse[0], best - stride + 1), min(bins, best + stride - 1) + 1)
    return min(around, key=lambda i: _divergence(counts, i, levels))


def _divergence(counts: Floats, i: int, levels: int) -> float:
    kept = counts[:i]
    p = kept.copy()
    p[-1] += counts[i:].sum()
    if not p.sum() or not kept.sum():
        return float("inf")
    level = np.arange(i) * levels // i
    sums = np.bincount(level, kept, minlength=levels)
    held = np.bincount(level, p > 0, minlength=levels)
    q = np.where(p > 0, (sums / np.maximum(held, 1))[level], 0.0)
    p, q = p / p.sum(), q / q.sum()
    some = p > 0
    if (q[some] <= 0).any():
        q = np.where(some, np.maximum(q, 1e-12), q)
    return float((p[some] * np.log(p[some] / q[some])).sum())
