"""The questions of a check, each a pure function from figures to a finding: latency, exact figures, accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Literal

from edgedl.core.artifacts import (
    Figures,
    Finding,
    LatencyReport,
    NoiseFloor,
    Outcome,
    OutputParity,
    Quality,
    QualityChange,
    Speed,
)
from edgedl.core.statistics import Interval, exact, independent_difference
from edgedl.devices.sampling import LOOK_LEVEL, ratio_for_decision
from edgedl.pipeline.check.limits import COUNTED, TIMED, Limits


def judge_latency(report: LatencyReport, max_slowdown: float | Literal["auto"]) -> Finding | None:
    """The finding on a session of (old, new) or (old, new, old again); None where the device tells no speed at all."""
    old, new = report.models[:2]
    if old.timing is not None and new.timing is not None:
        return _judge_times(report, TIMED if max_slowdown == "auto" else max_slowdown)
    before, after = report.speed(old), report.speed(new)
    if before is None or after is None:
        return None
    return judge_counts(after, before, COUNTED if max_slowdown == "auto" else max_slowdown, report.device)


def _judge_times(report: LatencyReport, max_slowdown: float) -> Finding:
    """The interval of the ratio against 1 + max_slowdown."""
    old, new, *again = (model.timing for model in report.models)
    assert old is not None and new is not None
    ratio = ratio_for_decision(new.blocks_us, *(one.blocks_us for one in (old, *again) if one))
    outcome = latency_outcome(ratio, max_slowdown)
    limit = percent(max_slowdown)
    means = {
        "pass": f"within the {limit} allowed",
        "improved": f"faster by more than {limit}",
        "regressed": f"more than the {limit} allowed",
        "inconclusive": f"too close to the {limit} allowed to tell ({report.stopped}); a larger budget or a quieter "
        "machine would",
    }[outcome]
    floor = noise_floor(report)
    itself = ""
    if floor is not None:
        if outcome in ("regressed", "improved") and latency_outcome(floor.itself, max_slowdown) in (
            "regressed",
            "improved",
        ):
            outcome, means = "inconclusive", "but the old file against itself is as far off: this machine cannot tell"
        itself = f" The old file against itself: {_bounds(floor.itself)}"
        seen = f"; of {percent(floor.visible)} and more, nine in ten are seen."
        itself += seen if math.isfinite(floor.visible) else "."
    sentence = (
        f"Latency: {_change(ratio.value, 'slower', 'faster')} ({_bounds(ratio)} at {ratio.level:.0%} confidence) in "
        f"blocks timed side by side: {means}. p10 of the whole session {_time(old.p10_us.value)} → "
        f"{_time(new.p10_us.value)}; {report.obtained} on {report.device}, {old.n:,} and {new.n:,} inferences in "
        f"{report.processes} process{'es' if report.processes > 1 else ''}.{itself}"
    )
    values = old.p10_us.value, new.p10_us.value, ratio.value
    return Finding("latency", outcome, sentence, *values, 1 + max_slowdown, ratio, "us", report.obtained)


def noise_floor(report: LatencyReport) -> NoiseFloor | None:
    """What the session saw of the old file timed twice; None where it was not."""
    timings = [model.timing for model in report.models]
    if len(timings) < 3 or timings[0] is None or timings[2] is None:
        return None
    itself = ratio_for_decision(timings[2].blocks_us, timings[0].blocks_us)
    half = math.log(itself.high / itself.value) if math.isfinite(itself.high) else math.inf
    return NoiseFloor(itself, math.exp(half * POWER) - 1 if math.isfinite(half) else math.inf)


POWER = 1 + NormalDist().inv_cdf(0.9) / NormalDist().inv_cdf(0.5 + LOOK_LEVEL / 2)
"""An effect of so many half-widths is found with probability 0.9: 1 + z(0.9) / z(1 - α/2) (Cohen 1988, §1.5)."""


def judge_counts(new: Speed, old: Speed, max_slowdown: float, device: str) -> Finding:
    """The finding where nothing is timed: instructions (or estimates) compared. They have no noise, but where several
    threads, or a processor's own counter, make counts spread: then the ratio lies between their extremes."""
    value = new.value.value / old.value.value
    counted = new.unit == "instructions"
    ratio = Interval(value, new.value.low / old.value.high, new.value.high / old.value.low) if counted else exact(value)
    outcome = latency_outcome(ratio, max_slowdown)
    how = "exact" if ratio.low == ratio.high else f"repeated counts spread: {_bounds(ratio)}"
    sentence = (
        f"Latency: {_change(value, 'slower', 'faster')}: {percent(max_slowdown)} is allowed. {old.value.value:,.0f} → "
        f"{new.value.value:,.0f} {'instructions' if counted else 'µs'} an inference, {new.obtained} on {device}; {how}."
    )
    values = old.value.value, new.value.value, value
    return Finding("latency", outcome, sentence, *values, 1 + max_slowdown, ratio, new.unit, new.obtained)


def latency_outcome(ratio: Interval, max_slowdown: float) -> Outcome:
    """Two questions: is there a change (the interval excludes 1), and does it matter (the ratio is over the limit)?

    Regressed: both. Improved is its mirror image, so that swapping the two files would be a regression. Pass: the whole
    interval is within the limit. What lies between cannot be told.
    """
    limit = 1 + max_slowdown
    if ratio.value > limit and ratio.low > 1:
        return "regressed"
    if ratio.value < 1 / limit and ratio.high < 1:
        return "improved"
    return "pass" if ratio.high <= limit else "inconclusive"


def judge_figures(new: Figures, old: Figures, limits: Limits) -> list[Finding]:
    """The findings on what is exact, each where it has a limit or changed; the size always."""
    memory = f"{new.memory or 'memory'}, {new.obtained}"
    needed = _growth("memory", "Memory", old.memory_bytes, new.memory_bytes, limits.max_memory_growth, "bytes", memory)
    grown = [
        _growth("size", "Size", old.size_bytes, new.size_bytes, limits.max_size_growth, "bytes", "exact"),
        replace(needed, obtained=new.obtained) if needed else None,
        _growth("MACs", "MACs", old.macs, new.macs, limits.max_macs_growth, "MACs", "exact"),
    ]
    added = [
        _added("ops", "Ops", old.ops, new.ops, limits.max_added_ops, "ops in all"),
        _added("boundaries", "Boundaries", old.boundaries, new.boundaries, limits.max_added_boundaries,
               "ops that quantize or dequantize"),
        _added("CPU ops", "CPU", old.cpu_ops, new.cpu_ops, limits.max_added_cpu_ops, "ops on the CPU"),
    ]  # fmt: skip
    return [one for one in (*grown, *added) if one]


def _growth(
    what: Literal["size", "memory", "MACs"],
    name: str,
    old: int | None,
    new: int | None,
    limit: float | None,
    unit: str,
    how: str,
) -> Finding | None:
    if old is None or new is None or (limit is None and what != "size" and (new == old or what == "memory")):
        return None
    ratio = new / old if old else 1.0 if new == old else math.inf
    outcome: Outcome = "pass"
    means = "no limit was set"
    if limit is not None:
        outcome = "regressed" if ratio > 1 + limit else "improved" if ratio < 1 / (1 + limit) else "pass"
        means = f"{percent(limit)} of growth is allowed"
    more, less = ("more", "less") if what == "MACs" else ("larger", "smaller")
    words = "unchanged" if new == old else _change(ratio, more, less)
    sentence = f"{name}: {words}, {old:,} → {new:,} {unit}: {means}. {how[0].upper()}{how[1:]}."
    return Finding(what, outcome, sentence, old, new, ratio, None if limit is None else 1 + limit, None, unit)


def _added(
    what: Literal["ops", "boundaries", "CPU ops"],
    name: str,
    old: int | None,
    new: int | None,
    limit: int | None,
    words: str,
) -> Finding | None:
    if old is None or new is None or (limit is None and new == old):
        return None
    more = new - old
    outcome: Outcome = "pass"
    if limit is not None:
        outcome = "regressed" if more > limit else "improved" if more < -limit else "pass"
    means = "no limit was set" if limit is None else f"{limit} more are allowed"
    sentence = f"{name}: {old:,} → {new:,} {words} ({more:+d}): {means}. Exact."
    return Finding(what, outcome, sentence, old, new, more, limit, None, "ops")


def judge_outputs(outputs: Sequence[OutputParity], limit: float, n: int) -> Finding:
    """The finding on how far the outputs moved, on `n` random inputs, as a share of the largest old one."""
    worst = max(outputs, key=lambda one: one.relative_error)
    outcome: Outcome = "regressed" if not worst.relative_error <= limit else "pass"
    sentence = (
        f"Outputs: {worst.name} moved by {worst.relative_error:.2g} of its largest value on {n} random inputs: "
        f"{limit:.2g} is allowed. Measured."
    )
    return Finding("outputs", outcome, sentence, 0.0, worst.relative_error, worst.relative_error, limit, None, "share")


def judge_accuracy(accuracy: tuple[Quality, Quality] | QualityChange, max_drop: float | None) -> Finding:
    """The finding on quality; `change` is the loss, positive when worse, in points (accuracy) or the target's unit.

    The examples are given and cannot be sampled on, so the loss that was seen on them decides between pass and not;
    but only a loss whose whole interval is over the limit is a regression, else it may be chance: inconclusive.
    Improved: the interval lies wholly below zero.
    """
    old, new, loss = _loss(accuracy)
    outcome: Outcome = "pass"
    if loss.high < 0:
        outcome = "improved"
    elif max_drop is not None and loss.value > max_drop:
        outcome = "regressed" if loss.low > max_drop else "inconclusive"
    scale, unit = (100.0, "%") if new.is_share else (1.0, "")
    points = " points" if new.is_share else ""
    means = "no limit was set" if max_drop is None else f"a loss of {max_drop:g}{points} is allowed"
    if outcome == "inconclusive":
        means += ", but this one may be chance; more examples would tell"
    examples = f"{new.n:,} examples" if new.n == old.n else f"{new.n:,} and {old.n:,} examples"
    sentence = (
        f"{new.metric[0].upper()}{new.metric[1:]}: {_quality(old)} → {_quality(new)}, a loss of "
        f"{loss.value:.2g}{points} ({loss.low:.2g} to {loss.high:.2g} at {loss.level:.0%} confidence, {examples} of "
        f"{new.split}): {means}. {new.obtained.capitalize()}."
    )
    old_value, new_value = old.value * scale, new.value * scale
    return Finding(
        "accuracy",
        outcome,
        sentence,
        old_value,
        new_value,
        loss.value,
        max_drop,
        loss,
        unit or new.metric,
        new.obtained,
    )


def _loss(accuracy: tuple[Quality, Quality] | QualityChange) -> tuple[Quality, Quality, Interval]:
    """Old, new, and the loss with its interval."""
    if isinstance(accuracy, QualityChange):
        return accuracy.before, accuracy.after, accuracy.interval
    new, old = accuracy
    if new.is_share:
        return old, new, independent_difference(old.interval, new.interval).scaled(100)
    return old, new, independent_difference(new.interval, old.interval)


def _quality(judged: Quality) -> str:
    return f"{judged.value:.2%}".replace("%", " %") if judged.is_share else f"{judged.value:.4g}"


def percent(share: float) -> str:
    """ "2.5 %"."""
    return f"{share * 100:.3g} %"


def _change(ratio: float, more: str, less: str) -> str:
    return f"{abs(ratio - 1):.1%} {more if ratio >= 1 else less}".replace("%", " %")


def _bounds(ratio: Interval) -> str:
    if math.isinf(ratio.high):
        return "no bounds from a single process"
    return f"{ratio.low * 100 - 100:+.2f} to {ratio.high * 100 - 100:+.2f} %"


def _time(us: float) -> str:
    return f"{us / 1e3:.4g} ms" if us >= 1e3 else f"{us:.4g} µs"
