"""What a file is on a device, in the figures that a check has limits for; all but times and memory are exact."""

from __future__ import annotations

from edgedl.core.artifacts import Figures, LatencyReport, ModelLatency
from edgedl.core.model_facts import ModelFacts

BOUNDARIES = ("QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear")


def figures_of(facts: ModelFacts, on: ModelLatency | None = None, report: LatencyReport | None = None) -> Figures:
    """The figures of a file, and of its session on a device where there was one."""
    placed = [op.runs_on for model in report.models for op in model.ops] if report else []
    has_accelerator = any(place not in ("", "cpu") for place in placed)
    return Figures(
        size_bytes=facts.size_bytes,
        macs=facts.macs,
        ops=len(facts.ops),
        boundaries=sum(op.op in BOUNDARIES for op in facts.ops),
        cpu_ops=sum(op.runs_on == "cpu" for op in on.ops) if on and has_accelerator else None,
        memory_bytes=on.memory.model_bytes if on and on.memory else None,
        memory=on.memory.what if on and on.memory else "",
        instructions=on.instructions.total if on and on.instructions else None,
        obtained=report.obtained if report else "measured",
    )
