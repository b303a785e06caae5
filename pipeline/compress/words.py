"""Compression in sentences, for the terminal and the report."""

from __future__ import annotations

from edgedl.core.artifacts import QualityChange, Step

SHOWN = 5


def loss_words(change: QualityChange | None) -> str:
    """ "0.3 [-0.2, 0.9]" in points (shares) or the target's unit."""
    if change is None:
        return "–"
    return f"{change.loss:+.2g} [{change.interval.low:+.2g}, {change.interval.high:+.2g}]"


def step_words(step: Step) -> list[str]:
    """What one alteration of a chain did, beside its control."""
    sentences = [f"{step.method}: {sentence}" for sentence in step.said]
    if step.change is not None:
        words = f"{step.method}: loss of the Keras model {loss_words(step.change)}"
        if step.control is not None:
            words += f"; fine-tuned alike without it {loss_words(step.control)}"
        sentences.append(f"{words} (measured, n = {step.change.after.n})")
    if step.skipped:
        left = ", ".join(f"{one.layer} ({one.reason})" for one in step.skipped[:SHOWN])
        more = f" and {len(step.skipped) - SHOWN} more" if len(step.skipped) > SHOWN else ""
        sentences.append(f"{step.method}: left alone: {left}{more}")
    return sentences
