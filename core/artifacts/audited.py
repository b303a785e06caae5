"""What the audit leads to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgedl.core.artifacts.base import Artifact, Obtained
from edgedl.core.artifacts.verdict import Outcome
from edgedl.core.statistics import Interval

AuditKey = Literal[
    "per_class_drop", "changed", "calibration_error", "corruption_drop", "fgsm_drop", "disagreement"
]  # fmt: skip
"""What limits of an audit are named by; `pipeline.audit` defines each."""


@dataclass(frozen=True)
class AuditFigure:
    """One thing that compression may have changed, on the same `n` examples before and after.

    what: in words, e.g. "noise". before, after: of the uncompressed Keras model and of the file; None where the figure
    is itself a comparison. change: positive is worse, with its interval. unit: "points", "%" of the examples, or
    that of the task's error. outcome: None where no limit was set; "inconclusive" where the interval holds the limit.
    """

    key: AuditKey
    what: str
    before: Interval | None
    after: Interval | None
    change: Interval
    unit: str
    n: int
    limit: float | None = None
    outcome: Outcome | None = None
    obtained: Obtained = "measured"


@dataclass(frozen=True, kw_only=True)
class AuditReference(Artifact):
    """The uncompressed Keras model's answers to an audit's inputs, which every variant is compared with.

    answers.npz: the first output by the inputs' name; attack.npz: the FGSM inputs, where there are any. positions: of
    the test examples. refused: inputs that do not apply to this model, with the reason.
    """

    positions: tuple[int, ...]
    inputs: tuple[str, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Audit(Artifact):
    """A compressed file compared with its origin beyond one accuracy number. name: the variant's.

    examples: what it was judged on, in words. does_not_apply: what was not judged, with the reason.
    """

    file: str
    examples: str
    figures: tuple[AuditFigure, ...]
    does_not_apply: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The worst of the figures that have a limit."""
        found = {one.outcome for one in self.figures}
        return "regressed" if "regressed" in found else "inconclusive" if "inconclusive" in found else "pass"
