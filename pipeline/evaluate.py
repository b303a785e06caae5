"""How well a model does its task: a measure turns its answers into evidence per example, and that into a quality.

Evidence is kept per example, so that two models are compared example by example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import Quality, QualityChange, QualityMetric
from edgedl.core.statistics import Interval, bootstrap, bootstrap_mean, paired_difference, wilson

Arrays = Mapping[str, NDArray[Any]]
Evidence = NDArray[Any]


@dataclass(frozen=True)
class Asked:
    """Some examples as a model is given them. inputs: by name, (n, …); targets: what is right, (n, …)."""

    inputs: Arrays
    targets: NDArray[Any]


class Measure(Protocol):
    """One way to judge. `evidence` is made batch by batch; `interval` and `loss` see all of it."""

    @property
    def metric(self) -> QualityMetric:
        """What it is called."""
        ...

    def evidence(self, output: NDArray[Any], asked: Asked) -> Evidence:
        """What to keep of the model's first output, shape (b, …), for every example: shape (b, …)."""
        ...

    def interval(self, evidence: Evidence) -> Interval:
        """The quality with its interval."""
        ...

    def loss(self, before: Evidence, after: Evidence) -> Interval:
        """What was lost between two models on the same examples: points of a share, or the error's increase."""
        ...


def quality(evidence: Evidence, measure: Measure, *, of: str, split: str = "test") -> Quality:
    """The quality of the model that gave the evidence. of: what was judged, in words."""
    interval = measure.interval(evidence)
    return Quality(measure.metric, interval.value, interval, len(evidence), split, of)


def quality_change(
    before: tuple[Quality, Evidence], after: tuple[Quality, Evidence], measure: Measure
) -> QualityChange:
    """The loss from one model to the other, both judged on the same examples."""
    loss = measure.loss(before[1], after[1])
    return QualityChange(before[0], after[0], loss.value, loss)


# --- one right answer an example -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proportion:
    """The share of examples with the right answer. right: (output, asked) → (b,) bool."""

    metric: QualityMetric
    right: Callable[[NDArray[Any], Asked], NDArray[np.bool_]]

    def evidence(self, output: NDArray[Any], asked: Asked) -> Evidence:
        """Right or wrong."""
        return self.right(output, asked)

    def interval(self, evidence: Evidence) -> Interval:
        """Wilson's score interval."""
        return wilson(int(evidence.sum()), len(evidence))

    def loss(self, before: Evidence, after: Evidence) -> Interval:
        """In points, Newcombe's paired interval."""
        return paired_difference(before, after).scaled(100.0)


def _class_is_right(output: NDArray[Any], asked: Asked) -> NDArray[np.bool_]:
    return output.reshape(len(output), -1).argmax(axis=1) == asked.targets


def _move_is_best(output: NDArray[Any], asked: Asked) -> NDArray[np.bool_]:
    """The chosen move is one of the best: a target above 0. targets: (n, moves + 1), the value last."""
    chosen = output.argmax(axis=1)
    return asked.targets[np.arange(len(output)), chosen] > 0


# --- the mean of a figure per example --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mean:
    """A mean over examples. score: (output, asked) → (b,); of_mean: what the metric is of that mean, increasing."""

    metric: QualityMetric
    score: Callable[[NDArray[Any], Asked], NDArray[np.float64]]
    of_mean: Callable[[float], float] = float

    def evidence(self, output: NDArray[Any], asked: Asked) -> Evidence:
        """The scores."""
        return self.score(output, asked)

    def interval(self, evidence: Evidence) -> Interval:
        """Bootstrap over examples."""
        found = bootstrap_mean(evidence)
        return Interval(self.of_mean(found.value), self.of_mean(found.low), self.of_mean(found.high), found.level)

    def loss(self, before: Evidence, after: Evidence) -> Interval:
        """Paired bootstrap; the metric's increase (an error) or, in points, its decrease (a share)."""
        if self.metric == "pixel accuracy":
            return bootstrap_mean(before - after).scaled(100.0)
        if self.of_mean is float:
            return bootstrap_mean(after - before)
        return bootstrap(
            lambda i: self.of_mean(float(after[i].mean())) - self.of_mean(float(before[i].mean())), len(after)
        )


def _absolute_error(output: NDArray[Any], asked: Asked) -> NDArray[np.float64]:
    """Mean absolute error, in the target's unit."""
    n = len(output)
    return np.abs(output.reshape(n, -1).astype(np.float64) - asked.targets.reshape(n, -1)).mean(axis=1)


def _squared_error(output: NDArray[Any], asked: Asked) -> NDArray[np.float64]:
    """Mean squared error."""
    n = len(output)
    return np.square(output.reshape(n, -1).astype(np.float64) - asked.targets.reshape(n, -1)).mean(axis=1)


def _right_pixels(output: NDArray[Any], asked: Asked) -> NDArray[np.float64]:
    """Share of right pixels. output: (b, h, w, classes); targets: (b, h, w)."""
    return (output.argmax(axis=-1) == asked.targets).reshape(len(output), -1).mean(axis=1)


def _nats_per_token(output: NDArray[Any], asked: Asked) -> NDArray[np.float64]:
    """Mean negative log-likelihood. output: logits (b, t, vocabulary); targets: (b, t)."""
    logits = output.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(logits, asked.targets[..., None].astype(np.int64), axis=-1)[..., 0]
    return (np.log(np.exp(logits).sum(axis=-1)) - chosen).mean(axis=-1)


# --- statistics of the whole set -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AnomalyAuc:
    """Area under the ROC curve of the reconstruction error as an anomaly score (Hanley & McNeil 1982, eq. for θ).

    Needs examples of both kinds. evidence: (b, 2): mean squared error, and 1 for an anomaly.
    """

    metric: QualityMetric = "AUC"

    def evidence(self, output: NDArray[Any], asked: Asked) -> Evidence:
        """Score and truth. The model's one input is what it should have reconstructed."""
        given = next(iter(asked.inputs.values()))
        return np.stack([_squared_error(output, Asked({}, given)), asked.targets], axis=1)

    def interval(self, evidence: Evidence) -> Interval:
        """Bootstrap over examples."""
        return bootstrap(lambda i: auc(evidence[i, 0], evidence[i, 1]), len(evidence))

    def loss(self, before: Evidence, after: Evidence) -> Interval:
        """In points (100 is from all right to all wrong), paired."""

        def lost(i: NDArray[np.int64]) -> float:
            return auc(before[i, 0], before[i, 1]) - auc(after[i, 0], after[i, 1])

        return bootstrap(lost, len(after)).scaled(100.0)


def auc(scores: NDArray[Any], anomalous: NDArray[Any]) -> float:
    """Probability that an anomaly scores above a normal example, ties count half (Mann & Whitney 1947).

    NaN-free: 0.5 where one of the kinds is absent.
    """
    from scipy.stats import rankdata

    positive = anomalous > 0
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return 0.5
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


@dataclass(frozen=True)
class EnergyDistance:
    """How far generated examples are from real ones: √(2 E|X−Y| − E|X−X′| − E|Y−Y′|) (Székely & Rizzo 2013, eq. 5).

    0 for the same distribution. evidence: (b, 2, d): generated, and real.
    """

    metric: QualityMetric = "energy distance"

    def evidence(self, output: NDArray[Any], asked: Asked) -> Evidence:
        """Both samples, flattened."""
        n = len(output)
        return np.stack([output.reshape(n, -1), asked.targets.reshape(n, -1)], axis=1).astype(np.float32)

    def interval(self, evidence: Evidence) -> Interval:
        """Bootstrap over pairs."""
        return bootstrap(self._statistic(evidence), len(evidence), draws=200)

    def loss(self, before: Evidence, after: Evidence) -> Interval:
        """The increase of the distance, paired by noise vector."""
        old, new = self._statistic(before), self._statistic(after)
        return bootstrap(lambda i: new(i) - old(i), len(after), draws=200)

    def _statistic(self, evidence: Evidence) -> Callable[[NDArray[np.int64]], float]:
        from scipy.spatial.distance import cdist

        made, real = evidence[:, 0], evidence[:, 1]
        across, within, among = cdist(made, real), cdist(made, made), cdist(real, real)
        n = len(evidence)

        def statistic(i: NDArray[np.int64]) -> float:
            weight = np.bincount(i, minlength=n) / n
            squared = weight @ (2 * across - within - among) @ weight
            return math.sqrt(max(0.0, float(squared)))

        return statistic


ACCURACY = Proportion("accuracy", _class_is_right)
MOVE_ACCURACY = Proportion("move accuracy", _move_is_best)
PIXEL_ACCURACY = Mean("pixel accuracy", _right_pixels)
MAE = Mean("mae", _absolute_error)
RECONSTRUCTION_ERROR = Mean("reconstruction error", _squared_error)
NOISE_ERROR = Mean("noise error", _squared_error)
PERPLEXITY = Mean("perplexity", _nats_per_token, math.exp)
ANOMALY_AUC = AnomalyAuc()
ENERGY_DISTANCE = EnergyDistance()
