"""How well a model does its task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgedl.core.artifacts.base import Obtained
from edgedl.core.statistics import Interval

QualityMetric = Literal[
    "accuracy",
    "pixel accuracy",
    "move accuracy",
    "AUC",
    "mae",
    "reconstruction error",
    "noise error",
    "perplexity",
    "energy distance",
]
"""What quality is measured in; `pipeline.evaluate` defines each. The first four are shares, of which more is better."""

SHARES: tuple[QualityMetric, ...] = ("accuracy", "pixel accuracy", "move accuracy", "AUC")


@dataclass(frozen=True)
class Quality:
    """How well a model does its task on held-out data.

    value: the metric on `n` examples of `split`: a share from 0 to 1, or an error in the target's unit.
    interval: its 95 % confidence interval (Wilson's score interval for accuracies of one answer an example, percentile
        bootstrap over examples for the others).
    of: the precision and format that was judged, e.g. "keras float32", "tflite int8".
    """

    metric: QualityMetric
    value: float
    interval: Interval
    n: int
    split: str
    of: str
    obtained: Obtained = "measured"

    @property
    def is_share(self) -> bool:
        """Whether the metric is a share, told in per cent and points; larger is better then, and only then."""
        return self.metric in SHARES


@dataclass(frozen=True)
class QualityChange:
    """Quality after against before on the same examples, paired; positive `loss` means it got worse.

    For shares, in points (0.5 = half a point of 100); for errors, in their unit. The interval is Newcombe's for paired
    proportions (Newcombe 1998, Statistics in Medicine 17, method 10), or a paired bootstrap over examples.
    """

    before: Quality
    after: Quality
    loss: float
    interval: Interval
