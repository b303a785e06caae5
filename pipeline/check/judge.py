"""The questions of a check, each a pure function from figures to a finding: latency, size, accuracy."""

from __future__ import annotations

import math

from edgedl.core.artifacts import Finding, LatencyReport, Outcome, Quality, QualityChange
from edgedl.core.errors import ModelError
from edgedl.core.model_facts import ModelFile
from edgedl.core.statistics import Interval, independent_difference
from edgedl.devices.sampling import ratio_for_decision


def judge_latency(report: LatencyReport, max_slowdown: float) -> Finding:
    """The finding on a session of (old, new): the interval of the ratio against 1 + max_slowdown."""
    old, new = report.models
    if old.timing is None or new.timing is None:
        return _judge_counts(report, max_slowdown)
    ratio = ratio_for_decision(new.timing.blocks_us, old.timing.blocks_us)
    outcome = latency_outcome(ratio, max_slowdown)
    means = {
        "pass": f"within the {_percent(max_slowdown)} allowed",
        "improved": f"faster by more than {_percent(max_slowdown)}",
        "regressed": f"more than the {_percent(max_slowdown)} allowed",
        "inconclusive": f"too close to the {_percent(max_slowdown)} allowed to tell ({report.stopped}); a larger "
        "budget or a quieter machine would",
    }[outcome]
    old_us, new_us = old.timing.p10_us.value, new.timing.p10_us.value
    sentence = (
        f"Latency: {_change(ratio.value, 'slower', 'faster')} ({_bounds(ratio)} at {ratio.level:.0%} confidence) in "
        f"blocks timed side by side: {means}. p10 of the whole session {_time(old_us)} → {_time(new_us)}; "
        f"{report.obtained} on {report.device}, {old.timing.n:,} and {new.timing.n:,} inferences in "
        f"{report.processes} processes."
    )
    limit = 1 + max_slowdown
    return Finding("latency", outcome, sentence, old_us, new_us, ratio.value, limit, ratio, "us", report.obtained)


def _judge_counts(report: LatencyReport, max_slowdown: float) -> Finding:
    """The finding where nothing was timed: instructions (or estimates) compared, which have no noise."""
    old, new = (report.speed(model) for model in report.models)
    if old is None or new is None or new.ratio is None:
        raise ModelError(f"{report.device} tells no speed of these files", required="a device that times or counts")
    outcome = latency_outcome(new.ratio, max_slowdown)
    unit = "instructions" if new.unit == "instructions" else "µs"
    sentence = (
        f"Latency: {_change(new.ratio.value, 'slower', 'faster')}: {_percent(max_slowdown)} is allowed. "
        f"{old.value.value:,.0f} → {new.value.value:,.0f} {unit} an inference, "
        f"{new.obtained} on {report.device}; exact."
    )
    values = old.value.value, new.value.value, new.ratio.value
    return Finding("latency", outcome, sentence, *values, 1 + max_slowdown, new.ratio, new.unit, new.obtained)


def latency_outcome(ratio: Interval, max_slowdown: float) -> Outcome:
    """Regressed when even the low bound is over the limit; pass when even the high bound is not.

    Improved is the mirror image of regressed: even the high bound is below 1/(1 + limit), so that swapping the two
    files would be a regression.
    """
    limit = 1 + max_slowdown
    if ratio.low > limit:
        return "regressed"
    if ratio.high < 1 / limit:
        return "improved"
    return "pass" if ratio.high <= limit else "inconclusive"


def judge_size(new: ModelFile, old: ModelFile, max_growth: float | None) -> Finding:
    """The finding on the files' bytes. Exact, so never inconclusive; without a limit it only informs."""
    new_bytes, old_bytes = new.facts.size_bytes, old.facts.size_bytes
    ratio = new_bytes / old_bytes
    outcome: Outcome = "pass"
    means = "no limit was set"
    if max_growth is not None:
        outcome = "regressed" if ratio > 1 + max_growth else "improved" if ratio < 1 / (1 + max_growth) else "pass"
        means = f"{_percent(max_growth)} of growth is allowed"
    sentence = f"Size: {_change(ratio, 'larger', 'smaller')}, {old_bytes:,} → {new_bytes:,} bytes: {means}. Exact."
    limit = None if max_growth is None else 1 + max_growth
    return Finding("size", outcome, sentence, old_bytes, new_bytes, ratio, limit, None, "bytes")


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


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _change(ratio: float, more: str, less: str) -> str:
    return f"{abs(ratio - 1):.1%} {more if ratio >= 1 else less}".replace("%", " %")


def _bounds(ratio: Interval) -> str:
    if math.isinf(ratio.high):
        return "no bounds from a single process"
    return f"{ratio.low * 100 - 100:+.2f} to {ratio.high * 100 - 100:+.2f} %"


def _time(us: float) -> str:
    return f"{us / 1e3:.4g} ms" if us >= 1e3 else f"{us:.4g} µs"
