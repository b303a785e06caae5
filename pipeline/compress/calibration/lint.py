"""The calibration linter, tensors: what the model does with the representative data that is going to hurt integers.

Every check is a pure function on statistics and returns warnings that name the layer. Thresholds are constants below;
they were set so that sound models (the zoo's, trained) say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from edgedl.core.artifacts import CalibrationWarning
from edgedl.pipeline.compress.calibration.ranges import Histogram, percentile_threshold
from edgedl.pipeline.compress.calibration.statistics import TensorStatistics

GROWTH = 0.25
"""A range that every second example leaves this much (of all examples' range) too narrow still grows."""
GROWING_SHARE = 0.25
"""Share of tensors whose range still grows from which on there are too few examples; one alone has an outlier."""
FEWEST = 16
"""Fewer examples than this are too few, whatever their ranges do."""
DEAD_SHARE = 0.25
"""Share of a layer's channels that may be constant: ReLU networks have some."""
AT_BOUND = 0.25
"""Share of values at the bound of a clipped activation (6 of relu6), or at an end of a sigmoid or tanh."""
OUTLIER = 8.0
"""Largest magnitude over the 99.9th percentile of those that are not zero: 8 bits leave 5 to those then."""
ENOUGH = 2000
"""Values of a tensor from which on its 99.9th percentile means something."""
_COMPUTING = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "CONV_3D"}
_BOUNDED = {"LOGISTIC": (0.0, 1.0), "TANH": (-1.0, 1.0)}
_CLIPPED = {"RELU6": 6.0, "RELU_N1_TO_1": 1.0}
_FIXED_SCALE = {"SOFTMAX", "LOGISTIC", "TANH", "LOG_SOFTMAX"}


Check = Callable[[Sequence[TensorStatistics], int], Iterable[CalibrationWarning]]


def lint_tensors(found: Sequence[TensorStatistics], n: int) -> tuple[CalibrationWarning, ...]:
    """All checks that look at the tensors of the float32 model over n examples."""
    checks: tuple[Check, ...] = (too_few, dead_channels, saturated, outliers)
    return tuple(warning for check in checks for warning in check(found, n))


def too_few(found: Sequence[TensorStatistics], n: int) -> Iterable[CalibrationWarning]:
    """Every second example against all: where ranges still grow, the next examples would be clipped."""
    growing = [one for one in found if _growth(one) > GROWTH]
    worst = max(found, key=_growth, default=None)
    if worst is not None and n >= FEWEST and len(growing) > max(1, GROWING_SHARE * len(found)):
        yield CalibrationWarning(
            "too-few-examples",
            worst.layer,
            f"{n} examples are too few: from every second one to all, {len(growing)} of {len(found)} ranges grow by "
            f"more than {GROWTH:.0%}, that of {_words(worst)} by {_growth(worst):.0%}; raise calibration.n",
        )
    elif n < FEWEST:
        grown = (
            f"; from every second to all, the range of {_words(worst)} grows by {_growth(worst):.0%}" if worst else ""
        )
        yield CalibrationWarning(
            "too-few-examples",
            worst.layer if worst else None,
            f"{n} examples are too few: {FEWEST} at least, 200 are usual{grown}",
        )


def _growth(one: TensorStatistics) -> float:
    """How much of the whole range lies outside the first half's, 0 to 1; 0 is counted as in every range."""
    low, high = min(0.0, one.histogram.minimum), max(0.0, one.histogram.maximum)
    half_low, half_high = min(0.0, one.first_half[0]), max(0.0, one.first_half[1])
    return ((half_low - low) + (high - half_high)) / (high - low) if high > low else 0.0


def dead_channels(found: Sequence[TensorStatistics], n: int) -> Iterable[CalibrationWarning]:
    """Channels of computing layers that have one value for all examples: work without effect."""
    for one in found:
        if one.op not in _COMPUTING or len(one.lows) < 2:
            continue
        dead = np.flatnonzero(one.lows == one.highs)
        if len(dead) > DEAD_SHARE * len(one.lows):
            some = ", ".join(map(str, dead[:5])) + (" …" if len(dead) > 5 else "")
            yield CalibrationWarning(
                "dead-channels",
                one.layer,
                f"{len(dead)} of {len(one.lows)} channels of {_words(one)} are constant on all {n} examples ({some}): "
                "either these examples lack what they look for, or the layer can be made narrower",
            )


def saturated(found: Sequence[TensorStatistics], n: int) -> Iterable[CalibrationWarning]:
    """Values that pile up at the bound of their activation: its input is larger than it was made for."""
    for one in found:
        if one.output:
            continue  # a classifier that is sure of itself
        if one.fused in _CLIPPED or one.op in _CLIPPED:
            high = _CLIPPED.get(one.fused) or _CLIPPED[one.op]
            share = _share_from(one, high * (1 - 1e-6))
            bound = f"{high:g}"
        elif one.op in _BOUNDED:
            low, high = _BOUNDED[one.op]
            step = (high - low) / 256  # TFLite's fixed scale of their outputs
            share = _share_from(one, high - step) + _share_up_to(one, low + step)
            bound = f"{low:g} or {high:g}"
        else:
            continue
        if share > AT_BOUND:
            yield CalibrationWarning(
                "saturated",
                one.layer,
                f"{share:.0%} of the values of {_words(one)} lie at the activation's bound ({bound}): its inputs are "
                "larger than it can tell apart; are the calibration inputs scaled as in training?",
            )


def _share_from(one: TensorStatistics, value: float) -> float:
    some = one.histogram.left >= value - abs(value) / 64  # a bin's width
    top = one.histogram.right[some] >= value
    return float(one.histogram.count[some][top].sum() / one.histogram.total)


def _share_up_to(one: TensorStatistics, value: float) -> float:
    return float(one.histogram.count[one.histogram.right <= value].sum() / one.histogram.total)


def outliers(found: Sequence[TensorStatistics], n: int) -> Iterable[CalibrationWarning]:
    """Single values far beyond all others: min–max gives them the integers that the others need."""
    for one in found:
        if one.op in _FIXED_SCALE or one.histogram.total < ENOUGH or not one.histogram.peak:
            continue
        usual = percentile_threshold(_without_zeros(one.histogram), 99.9)
        ratio = one.histogram.peak / usual
        if ratio > OUTLIER:
            yield CalibrationWarning(
                "outliers",
                one.layer,
                f"the largest value of {_words(one)}, {one.histogram.peak:.3g}, is {ratio:.0f} times the 99.9th "
                f"percentile ({usual:.3g}): with min-max 8 bits leave {255 / ratio:.0f} steps to all other values; "
                "try calibration.method percentile or mse",
            )


def _without_zeros(histogram: Histogram) -> Histogram:
    some = (histogram.left != 0) | (histogram.right != 0)
    return replace(histogram, left=histogram.left[some], right=histogram.right[some], count=histogram.count[some])


def _words(one: TensorStatistics) -> str:
    return f"layer {one.layer}" if one.layer else (f"{one.op} {one.name}" if one.op else f"input {one.name}")
