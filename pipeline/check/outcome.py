"""The four answers of a check, and what they mean to a shell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgedl.core.artifacts import Outcome, Verdict
from edgedl.core.errors import ExitCode

_WORST_FIRST: Sequence[Outcome] = ("regressed", "inconclusive", "improved", "pass")
_EXIT = {
    "pass": ExitCode.FINE,
    "improved": ExitCode.FINE,
    "regressed": ExitCode.CHECK_FAILED,
    "inconclusive": ExitCode.INCONCLUSIVE,
}


def exit_code(verdict: Verdict) -> ExitCode:
    """0 for pass and improved, 1 for regressed, 4 for inconclusive."""
    return _EXIT[verdict.outcome]


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome that decides: regressed, then inconclusive, improved, pass."""
    return min(outcomes, key=_WORST_FIRST.index)
