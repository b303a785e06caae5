"""What an audit looks at, as recipes say it."""

from __future__ import annotations

from typing import TypeAlias

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from edgedl.core.config import Section

Limit: TypeAlias = NonNegativeFloat | None


class AuditLimits(Section):
    """A variant beyond one of them makes the run end with exit code 1. Points are of 100; none is set by default."""

    per_class_drop: Limit = Field(default=None, description="Points of accuracy that any one class may lose.")
    changed: Limit = Field(
        default=None, description="Per cent of test examples whose answer may change; of values: relative difference."
    )
    calibration_error: Limit = Field(
        default=None, description="Points by which the expected calibration error may grow."
    )
    corruption_drop: Limit = Field(
        default=None, description="Points (or units of the error) that may be lost on inputs of any one corruption."
    )
    fgsm_drop: Limit = Field(default=None, description="The same on inputs attacked with FGSM.")
    disagreement: Limit = Field(
        default=None, description="Per cent of answers that may differ on inputs unlike the training data."
    )


class AuditConfig(Section):
    """Compare every variant with the uncompressed model beyond one accuracy number."""

    n: PositiveInt | None = Field(
        default=None, description="Test examples. Unless given at most 1,000, and fewer for models that take long."
    )
    severity: int = Field(default=3, ge=1, le=5, description="Of the corruptions (Hendrycks & Dietterich 2019).")
    fgsm_epsilon: PositiveFloat = Field(default=0.02, description="Step of FGSM, a share of the inputs' range.")
    limits: AuditLimits = AuditLimits()


def audit_section(value: object) -> object:
    """`true` is short for the defaults, `false` for null: no audit."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value
