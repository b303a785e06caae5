"""Will it pay on this target? Plain sentences about variants that bring nothing there."""

from __future__ import annotations

from edgedl.core.artifacts import LatencyReport, ModelLatency

WORTH = 0.98
"""A ratio whose whole interval lies below this is a gain."""
SPARSE = 0.3
"""A share of zeros that only pruning makes."""


def does_not_pay(report: LatencyReport) -> list[str]:
    """A sentence for every file that is not faster than the session's first; which ops fell back is in the notes."""
    first, *others = report.models
    return [sentence for model in others if (sentence := _no_gain(report, model, first))]


def _no_gain(report: LatencyReport, model: ModelLatency, first: ModelLatency) -> str:
    speed = report.speed(model)
    if speed is None or speed.ratio is None or speed.ratio.high < WORTH:
        return ""
    ratio = speed.ratio
    compared = "slower than" if ratio.low > 1 else "not faster than"
    between = "" if ratio.low == ratio.high else f", {ratio.low:.2f} to {ratio.high:.2f}"
    unit = "instructions" if speed.unit == "instructions" else "time"
    size = model.size_bytes / first.size_bytes
    gain = f"; it brings size alone ({size:.0%})" if size < WORTH else "; it brings nothing here"
    if model.sparsity and model.sparsity >= SPARSE:
        gain = f" ({model.sparsity:.0%} of its weights are zeros, which does not help here){gain}"
    return (
        f"{model.file} is {compared} {first.file} on {report.device}: {ratio.value:.2f} times its {unit}"
        f"{between} ({speed.obtained}){gain}"
    )
