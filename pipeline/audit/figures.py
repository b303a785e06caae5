"""What an audit computes of two models' answers to the same inputs. Pure functions of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.statistics import LEVEL, Interval, bootstrap, bootstrap_mean, paired_difference, wilson

Answers = NDArray[Any]

BINS = 15


def share(truths: NDArray[np.bool_]) -> Interval:
    """Per cent of examples, with Wilson's interval."""
    return wilson(int(truths.sum()), len(truths)).scaled(100.0)


def class_change(
    before: NDArray[np.bool_], after: NDArray[np.bool_], classes: int
) -> tuple[Interval, Interval, Interval]:
    """Accuracy of one class before and after (shares), and the loss in points; right or wrong, shape (n,).

    The loss has Newcombe's paired interval at the level that all `classes` of them hold together: 1 − 0.05 / classes
    (Bonferroni; Dunn 1961, JASA 56). Else of 20 classes one would seem to lose by chance.
    """
    loss = paired_difference(before, after, 1 - (1 - LEVEL) / classes)
    n = len(before)
    return wilson(int(before.sum()), n), wilson(int(after.sum()), n), loss.scaled(100.0)


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Expected calibration error: Σ |B_m|/n · |acc(B_m) − conf(B_m)| (Guo et al. 2017, arXiv:1706.04599, eq. 3).

    Bins hold equal numbers of examples (Nguyen & O'Connor 2015), by rising confidence; there are never more bins than
    examples. confidence: probability of the predicted class, shape (n,).
    """
    order = np.argsort(confidence, kind="stable")
    gaps = (right[order] - confidence[order]).astype(np.float64)
    ends = np.arange(min(bins, len(order)) + 1) * len(order) // min(bins, len(order))
    return float(np.abs(np.add.reduceat(gaps, ends[:-1])).sum() / len(order))


def calibration_change(
    before: tuple[NDArray[np.float64], NDArray[np.bool_]], after: tuple[NDArray[np.float64], NDArray[np.bool_]]
) -> tuple[Interval, Interval, Interval]:
    """Calibration errors (shares) of (confidence, right) before and after, and the growth in points.

    Bootstrap over examples, paired for the growth.
    """
    n = len(before[0])
    errors = [bootstrap(lambda i, one=one: calibration_error(one[0][i], one[1][i]), n) for one in (before, after)]
    growth = bootstrap(
        lambda i: calibration_error(after[0][i], after[1][i]) - calibration_error(before[0][i], before[1][i]), n
    )
    return errors[0], errors[1], growth.scaled(100.0)


def probabilities(answers: Answers, content: str) -> NDArray[np.float64]:
    """Classes' probabilities, (…, classes), of probabilities or logits."""
    found = answers.astype(np.float64)
    if content == "logits":
        found = np.exp(found - found.max(axis=-1, keepdims=True))
    return found / np.maximum(found.sum(axis=-1, keepdims=True), 1e-12)


def confidence(answers: Answers, content: str) -> NDArray[np.float64]:
    """The probability of the predicted class, (n,)."""
    return probabilities(answers, content).max(axis=-1)


def difference(before: Answers, after: Answers, content: str) -> Interval:
    """How much two models' answers differ, in per cent, with its interval over examples.

    Of classes: share of examples with another arg-max; of pixels or tokens, their mean share in an example. Of values:
    ‖after − before‖₂ of an example over the root mean square of ‖before‖₂ over all, a mean over examples.
    """
    n = len(before)
    if content == "values":
        old, new = (one.reshape(n, -1).astype(np.float64) for one in (before, after))
        scale = np.sqrt(np.square(old).sum(axis=1).mean()) or 1.0
        return bootstrap_mean(np.sqrt(np.square(new - old).sum(axis=1)) / scale).scaled(100.0)
    differs = before.argmax(axis=-1) != after.argmax(axis=-1)
    return share(differs) if differs.ndim == 1 else bootstrap_mean(differs.reshape(n, -1).mean(axis=1)).scaled(100.0)
