"""From samples and profiled kernels to the parts of a `LatencyReport`: what devices share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from edgedl.core.artifacts import ModelLatency, OpCost, Timing
from edgedl.core.model_facts import OpFacts
from edgedl.core.statistics import quantile_intervals, quantile_ratio
from edgedl.devices.session import OpTimes

PEAK_MEMORY = "peak resident memory above the runtime's"

Blocks = tuple[tuple[tuple[float, ...], ...], ...]
"""Microseconds per inference, by process, then block."""


def timing_of(blocks_us: Blocks, *, load_ms: float, first_ms: float, seed: int) -> Timing:
    """The samples with their quantiles; intervals by bootstrap over processes and blocks."""
    p10_us, median_us, p90_us = quantile_intervals(blocks_us, (0.1, 0.5, 0.9), seed=seed)
    return Timing(blocks_us, p10_us, median_us, p90_us, load_ms, first_ms)


def with_ratios(models: Sequence[ModelLatency]) -> tuple[ModelLatency, ...]:
    """The same models, their timings related to the first one's. All were timed side by side."""
    first = models[0].timing
    return tuple(
        replace(model, timing=replace(timing, ratio=quantile_ratio(timing.blocks_us, first.blocks_us, 0.1)))
        if index and first and (timing := model.timing)
        else model
        for index, model in enumerate(models)
    )


def op_table(
    times: OpTimes, facts: Sequence[OpFacts], unit: Literal["us", "instructions"] = "us"
) -> tuple[OpCost, ...]:
    """One row per op of the file, its kernels added up, in order of execution.

    A kernel that could not be traced back to one op has a row of its own: index -1, the kernel's name, no layer.
    """
    total = sum(time.time_us for time in times.ops) or 1.0
    rows: dict[object, OpCost] = {}
    by_index = {fact.index: fact for fact in facts}
    for position, kernel in enumerate(times.ops):
        fact = by_index.get(kernel.index) if kernel.index is not None else None
        if fact is None:
            rows["kernel", position] = OpCost(-1, kernel.op, None, kernel.time_us, unit, kernel.time_us / total)
            continue
        cost = kernel.time_us + (rows[fact.index].cost if fact.index in rows else 0.0)
        rows[fact.index] = OpCost(fact.index, fact.op, fact.layer, cost, unit, cost / total)
    return tuple(rows.values())
