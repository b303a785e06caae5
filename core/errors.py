"""The one error tree of edgedl.

    EdgedlError                  70  a fault of edgedl's own unless a subclass says otherwise
    ├── InputError                2  what was given cannot be used
    │   ├── ConfigError              a recipe, an option or a budget
    │   ├── DataError                a data set
    │   ├── ModelError               a model file, or a model that a format cannot hold
    │   ├── OutputError              the place to write to: read-only, full, in use
    │   └── StageError               a child process that crashed, hung or ate the memory
    ├── UnavailableError          3  a device or tool that was asked for is not there
    └── InconclusiveError         4  the question cannot be answered with this evidence

Only these become one line on the command line; everything else is a bug and exits with 70.
A check that fails is no error: it is a `Verdict` (exit code 1).
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells its caller."""

    FINE = 0
    CHECK_FAILED = 1
    BAD_INPUT = 2
    UNAVAILABLE = 3
    INCONCLUSIVE = 4
    OWN_FAULT = 70
    INTERRUPTED = 130


class EdgedlError(Exception):
    """One clear sentence: what happened, what was required, what was received, what would work.

    Parameters
    ----------
    what: the problem, naming the thing (file, key, stage) it is about.
    required: what would have been right.
    received: what was there instead.
    advice: the next step that would work.
    """

    exit_code = ExitCode.OWN_FAULT

    def __init__(
        self,
        what: str,
        *,
        required: str | None = None,
        received: str | None = None,
        advice: str | None = None,
    ) -> None:
        self.what, self.required, self.received, self.advice = what, required, received, advice
        super().__init__(what)

    def __str__(self) -> str:
        facts = [
            f"{label} {text}" for label, text in (("required", self.required), ("received", self.received)) if text
        ]
        line = self.what + (f": {', '.join(facts)}" if facts else "")
        return f"{line}. {self.advice}" if self.advice else line

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling; errors travel between processes.
        return _rebuild, (type(self), self.what, self.required, self.received, self.advice)


def own_fault(error: Exception) -> EdgedlError:
    """What nobody expected, as one line that names a file with all of it."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="edgedl-fault-", suffix=".txt", delete=False) as log:
        traceback.print_exception(error, file=log)
    return EdgedlError(f"a fault of edgedl's own ({type(error).__name__}: {error}); please report it with {log.name}")


def _rebuild(
    kind: type[EdgedlError],
    what: str,
    required: str | None,
    received: str | None,
    advice: str | None,
) -> EdgedlError:
    return kind(what, required=required, received=received, advice=advice)


class InputError(EdgedlError):
    """What was given cannot be used."""

    exit_code = ExitCode.BAD_INPUT


class ConfigError(InputError):
    """A recipe, an option or a budget is wrong."""


class DataError(InputError):
    """A data set cannot be used."""


class ModelError(InputError):
    """A model file cannot be read, or a format cannot hold this model."""


class OutputError(InputError):
    """The place to write to is read-only, full, or in use by another edgedl."""


class StageError(InputError):
    """The child process of a stage crashed, hung, or used more memory than it was allowed."""


class UnavailableError(EdgedlError):
    """A device or tool that was asked for is not there."""

    exit_code = ExitCode.UNAVAILABLE


class InconclusiveError(EdgedlError):
    """The question cannot be answered with this evidence."""

    exit_code = ExitCode.INCONCLUSIVE
