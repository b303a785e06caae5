"""From samples and profiled kernels to the parts of a `LatencyReport`: what devices share."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Literal

from edgedl.core.artifacts import Conditions, LatencyReport, ModelLatency, Obtained, OpCost, Record, Timing
from edgedl.core.model_facts import ModelFile, OpFacts
from edgedl.core.provenance import machine, versions
from edgedl.core.statistics import quantile_intervals, quantile_ratio
from edgedl.devices.protocol import SamplingPlan
from edgedl.devices.session import OpTimes, Timed

PEAK_MEMORY = "peak resident memory above the runtime's"

Blocks = tuple[tuple[tuple[float, ...], ...], ...]
"""Microseconds per inference, by process, then block."""


def blocks_of(timed: Sequence[Timed]) -> Blocks:
    """One file's samples, by process, then block."""
    return tuple(entry.blocks_us for entry in timed)


def timing_of(timed: Sequence[Timed], seed: int) -> Timing:
    """One file's samples in every process with their quantiles; intervals by bootstrap over processes and blocks."""
    blocks = blocks_of(timed)
    p10_us, median_us, p90_us = quantile_intervals(blocks, (0.1, 0.5, 0.9), seed=seed)
    load_ms = median(entry.load_us for entry in timed) / 1e3
    return Timing(blocks, p10_us, median_us, p90_us, load_ms, median(entry.first_us for entry in timed) / 1e3)


def latency_report(
    files: Sequence[ModelFile],
    models: Sequence[ModelLatency],
    plan: SamplingPlan,
    *,
    device: str,
    hardware: str,
    obtained: Obtained,
    started: float,
    stopped: str,
    runtimes: Mapping[str, str] | None = None,
    conditions: Conditions | None = None,
    processes: int = 0,
    warm_up: int = 0,
) -> LatencyReport:
    """The report of a session that began at `started` (monotonic). conditions: None where nothing ran."""
    seconds = time.monotonic() - started
    return LatencyReport(
        name=", ".join(file.path.name for file in files),
        record=Record(seed=plan.seed, versions=versions(), machine=machine(), seconds=seconds),
        device=device,
        hardware=hardware,
        obtained=obtained,
        runtimes=dict(runtimes or {}),
        models=with_ratios(
            [replace(model, sparsity=file.facts.sparsity) for file, model in zip(files, models, strict=True)]
        ),
        conditions=conditions or Conditions(None, None, None, threads=1, xnnpack=False),
        processes=processes,
        warm_up=warm_up,
        stopped=stopped,
        seconds=seconds,
    )


def with_ratios(models: Sequence[ModelLatency]) -> tuple[ModelLatency, ...]:
    """The same models, their timings related to the first one's. All were timed side by side."""
    first = models[0].timing
    return tuple(
        replace(model, timing=replace(timing, ratio=quantile_ratio(timing.blocks_us, first.blocks_us)))
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
