"""No slower, no bigger, no worse than before? A new file against an old one, and "inconclusive" is an answer.

Latency is judged on both files interleaved in one session. The interval of their ratio must lie on one side of the
limit; until it does, sampling goes on, to the end of the budget. That looks at the same growing sample up to five
times, and each look is a chance to be wrong, so each asks for a 99 % interval: together at most 5 % of sessions have an
interval that ever misses the true ratio (see `edgedl.devices.sampling`), and only half of those on the wrong side.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from edgedl.core.artifacts import (
    ExportedModel,
    Finding,
    LatencyReport,
    Outcome,
    Quality,
    QualityChange,
    Record,
    TensorSpec,
    TrainedModel,
    Verdict,
)
from edgedl.core.errors import ConfigError, ExitCode, ModelError
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile
from edgedl.core.provenance import machine, versions
from edgedl.core.statistics import Interval, independent_difference
from edgedl.core.store import RunStore
from edgedl.devices import SamplingPlan, find_device
from edgedl.devices.sampling import ratio_for_decision
from edgedl.pipeline.profile import checked, model_file
from edgedl.pipeline.recipe import Check

_WORST_FIRST: Sequence[Outcome] = ("regressed", "inconclusive", "improved", "pass")
_EXIT = {
    "pass": ExitCode.FINE,
    "improved": ExitCode.FINE,
    "regressed": ExitCode.CHECK_FAILED,
    "inconclusive": ExitCode.INCONCLUSIVE,
}


def check(
    new: str | Path | ExportedModel,
    old: str | Path | ExportedModel,
    *,
    max_slowdown: float | None = 0.05,
    max_size_growth: float | None = None,
    max_accuracy_drop: float | None = None,
    accuracy: tuple[Quality, Quality] | QualityChange | None = None,
    budget_s: float = 30.0,
    device: str = "cpu",
    threads: int = 1,
    seed: int = 0,
) -> Verdict:
    """Judge `new` against `old`.

    max_slowdown, max_size_growth: shares (0.05 = 5 %); without a limit on the slowdown nothing is measured, without
    one on the growth the size only informs.
    max_accuracy_drop: in points for accuracy (0.5 = half a point of 100), in the target's unit for mae; needs
    `accuracy`: the qualities of (new, old) on whatever examples each was judged, or their paired change.
    budget_s: wall-clock seconds; device, threads, seed: as in `profile`.

    Raises ModelError when a file cannot be run or the two do not take and give the same tensors, ConfigError for
    limits that make no sense, UnavailableError for a device that is not there.
    """
    _check_limits(max_slowdown, max_size_growth, max_accuracy_drop, accuracy)
    old_file, new_file = model_file(old), model_file(new)
    require_same_interface(new_file, old_file)
    started = time.monotonic()
    findings = [judge_size(new_file, old_file, max_size_growth)]
    report: LatencyReport | None = None
    if max_slowdown is not None:
        plan = checked(SamplingPlan(budget_s=budget_s, threads=threads, seed=seed, decide_at=1 + max_slowdown))
        chosen, target = find_device(device)
        report = chosen.profile([old_file, new_file], plan, target)
        findings.insert(0, judge_latency(report, max_slowdown))
    if accuracy is not None:
        findings.append(judge_accuracy(accuracy, max_accuracy_drop))
    return Verdict(
        name=f"{new_file.path.name} against {old_file.path.name}",
        record=Record(seed=seed, versions=versions(), machine=machine(), seconds=time.monotonic() - started),
        new=str(new_file.path),
        old=str(old_file.path),
        outcome=worst(finding.outcome for finding in findings),
        findings=tuple(findings),
        latency=report,
    )


def exit_code(verdict: Verdict) -> ExitCode:
    """0 for pass and improved, 1 for regressed, 4 for inconclusive."""
    return _EXIT[verdict.outcome]


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome that decides: regressed, then inconclusive, improved, pass."""
    return min(outcomes, key=_WORST_FIRST.index)


def check_stage(
    store: RunStore,
    new: ExportedModel,
    trained: TrainedModel,
    baseline: Path | None,
    limits: Check,
    seed: int,
) -> Verdict:
    """One file of a run against the recipe's limits, found in the store or judged now.

    Its accuracy is held against the trained model, its latency and size against the baseline file, where one lies.
    """

    def judge(folder: Path) -> Verdict:
        verdict = Verdict(new=new.model_file, old=trained.name, outcome="pass", findings=(), name=new.name)
        if baseline is not None:
            verdict = check(
                new,
                baseline,
                max_slowdown=limits.max_slowdown,
                max_size_growth=limits.max_size_growth,
                budget_s=limits.budget_s,
                seed=seed,
            )
        findings = list(verdict.findings)
        if limits.max_accuracy_drop is not None and new.change is not None:
            findings.append(judge_accuracy(new.change, limits.max_accuracy_drop))
        outcome = worst(finding.outcome for finding in findings)
        return replace(
            verdict, name=new.name, folder=folder, new=new.model_file, findings=tuple(findings), outcome=outcome
        )

    return store.build(
        Verdict,
        f"check-{new.name}-{new.format}",
        judge,
        config=limits.model_dump(mode="json", exclude={"against"}),
        parents=[trained, new],
        inputs={"baseline": sha256_of(baseline)} if baseline is not None else {},
        seed=seed,
    )


def _check_limits(
    max_slowdown: float | None,
    max_size_growth: float | None,
    max_accuracy_drop: float | None,
    accuracy: tuple[Quality, Quality] | QualityChange | None,
) -> None:
    limits = {"slowdown": max_slowdown, "size growth": max_size_growth, "accuracy drop": max_accuracy_drop}
    for name, limit in limits.items():
        if limit is not None and not (0 <= limit < math.inf):
            raise ConfigError(f"the limit on {name} makes no sense", required="0 or more", received=f"{limit:g}")
    if max_accuracy_drop is not None and accuracy is None:
        raise ConfigError(
            "accuracy cannot be checked",
            required="how well both files do on held-out data",
            received="a limit on the accuracy drop alone",
            advice="Give the data, or check runs of edgedl, which know their accuracy",
        )
    if isinstance(accuracy, tuple) and accuracy[0].metric != accuracy[1].metric:
        received = f"{accuracy[0].metric} and {accuracy[1].metric}"
        raise ConfigError("the two qualities cannot be compared", required="the same metric", received=received)


# --- the same interface ------------------------------------------------------------------------------------------


def require_same_interface(new: ModelFile, old: ModelFile) -> None:
    """Raise ModelError unless an app can swap one file for the other: same tensor names, same shapes, same types.

    Dynamic axes agree with any size. A float tensor and its quantized form (an integer with a scale) count as the
    same type: quantizing a model is a change that `check` is there to judge.
    """
    for side in ("inputs", "outputs"):
        news, olds = _by_name(getattr(new.facts, side)), _by_name(getattr(old.facts, side))
        if set(news) != set(olds):
            raise _differ(new, old, f"{side} {_listed(olds)}", f"{side} {_listed(news)}")
        for name, tensor in news.items():
            if not _same_shape(tensor, olds[name]) or not _same_type(tensor, olds[name]):
                raise _differ(new, old, f"{side} {_described(olds[name])}", f"{side} {_described(tensor)}")


def _by_name(tensors: Iterable[TensorSpec]) -> dict[str, TensorSpec]:
    """By name, without the suffix that TFLite's converter gives to quantized inputs and outputs."""
    return {re.sub(r"_(u?int8|int16)$", "", tensor.name): tensor for tensor in tensors}


def _same_shape(a: TensorSpec, b: TensorSpec) -> bool:
    return len(a.shape) == len(b.shape) and all(x == y or x < 1 or y < 1 for x, y in zip(a.shape, b.shape, strict=True))


def _same_type(a: TensorSpec, b: TensorSpec) -> bool:
    return a.dtype == b.dtype or all(t.dtype.startswith("float") or t.scale is not None for t in (a, b))


def _differ(new: ModelFile, old: ModelFile, required: str, received: str) -> ModelError:
    return ModelError(
        f"{new.path.name} cannot take the place of {old.path.name}",
        required=required,
        received=received,
        advice="A check compares two versions of one model: export both with the same inputs and outputs",
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _described(tensor: TensorSpec) -> str:
    return f"{tensor.name} {tensor.dtype} [{', '.join(str(size) for size in tensor.shape)}]"


# --- judgements --------------------------------------------------------------------------------------------------


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


# --- for CI ------------------------------------------------------------------------------------------------------


def to_junit(verdict: Verdict) -> str:
    """The verdict as JUnit XML, a test case per finding: regressed is a failure, inconclusive is skipped."""
    counts = Counter(finding.outcome for finding in verdict.findings)
    suite = ElementTree.Element(
        "testsuite",
        name="edgedl check",
        tests=str(len(verdict.findings)),
        failures=str(counts["regressed"]),
        errors="0",
        skipped=str(counts["inconclusive"]),
        time=f"{verdict.record.seconds:.3f}",
    )
    for finding in verdict.findings:
        case = ElementTree.SubElement(suite, "testcase", classname=verdict.name, name=finding.what)
        if finding.outcome == "regressed":
            ElementTree.SubElement(case, "failure", type="regressed", message=finding.sentence)
        elif finding.outcome == "inconclusive":
            ElementTree.SubElement(case, "skipped", message=finding.sentence)
        ElementTree.SubElement(case, "system-out").text = finding.sentence
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"
