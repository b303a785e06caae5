"""Runtimes in child processes: one that crashes or hangs there is one error that names the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from edgedl.core.errors import ModelError, StageError
from edgedl.core.isolation import Limits, Nursery, run_isolated

T = TypeVar("T")

LIMITS = Limits(time_s=600.0)


def in_child(
    function: Callable[..., T],
    *args: object,
    subject: str,
    runs_in: str = "the runtime",
    nursery: Nursery = "runtime",
    limits: Limits = LIMITS,
    advice: str = "`edgedl inspect` shows what is in the file",
) -> T:
    """`run_isolated`; a child that is lost is the fault of the files, `subject`: a ModelError. runs_in: what went down.

    Without a subject, and where no child can be started, it stays a StageError.
    """
    try:
        return run_isolated(function, *args, stage="profiling", subject=subject, nursery=nursery, limits=limits)
    except StageError as error:
        if not subject or "could not be started" in error.what:
            raise
        raise ModelError(
            f"{subject} takes {runs_in} down",
            required="a file that it can load and run",
            received=", ".join(part for part in (error.what.partition(": ")[2], error.received) if part),
            advice=advice,
        ) from None
