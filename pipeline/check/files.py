"""No slower, no bigger, no worse than before? A new file against an old one, and "inconclusive" is an answer.

What can be counted is compared exactly. Time is judged on both files interleaved in one session, beside the old file
once more: what that differs from itself is the machine's noise. Sampling goes on until the interval of the ratio lies
on one side of the limit, or to the end of the budget. That looks at the same growing sample up to five times, and each
look is a chance to be wrong, so each asks for a 99 % interval: together at most 5 % of sessions have an interval that
ever misses the true ratio (see `edgedl.devices.sampling`), and only half of those on the wrong side.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgedl.core.artifacts import ExportedModel, Finding, LatencyReport, Quality, QualityChange, Record, Verdict
from edgedl.core.errors import ConfigError, ModelError
from edgedl.core.model_facts import ModelFile
from edgedl.core.provenance import machine, versions
from edgedl.devices import Exact, SamplingPlan, find_device
from edgedl.pipeline.check.explain import explain, op_counts_in_words
from edgedl.pipeline.check.figures import figures_of
from edgedl.pipeline.check.interface import require_same_interface
from edgedl.pipeline.check.judge import judge_accuracy, judge_figures, judge_latency, judge_outputs, noise_floor
from edgedl.pipeline.check.limits import TIMED, Limits
from edgedl.pipeline.check.outcome import worst
from edgedl.pipeline.check.outputs import outputs_moved
from edgedl.pipeline.profile import checked, model_file

Accuracy = tuple[Quality, Quality] | QualityChange | None


def check(
    new: str | Path | ExportedModel,
    old: str | Path | ExportedModel,
    limits: Limits | None = None,
    *,
    accuracy: Accuracy = None,
    budget_s: float = 30.0,
    device: str = "cpu",
    threads: int = 1,
    seed: int = 0,
) -> Verdict:
    """Judge `new` against `old`.

    limits: what is allowed; without one on time or memory nothing is timed. accuracy: the qualities of (new, old)
    on whatever examples each was judged, or their paired change. budget_s: wall-clock seconds; device, threads, seed:
    as in `profile`.

    Raises ModelError when a file cannot be run or the two do not take and give the same tensors, ConfigError for a
    limit on what is not known, UnavailableError for a device that is not there.
    """
    limits = limits or Limits()
    _check_accuracy(limits, accuracy)
    old_file, new_file = model_file(old), model_file(new)
    require_same_interface(new_file, old_file)
    started = time.monotonic()
    report = _session(new_file, old_file, limits, device, SamplingPlan(budget_s, threads, seed=seed))
    findings = _findings(new_file, old_file, limits, report)
    if limits.max_output_change is not None:
        moved = outputs_moved(new_file, old_file, seed)
        findings.append(judge_outputs(moved.outputs, limits.max_output_change, moved.n))
    if accuracy is not None:
        findings.append(judge_accuracy(accuracy, limits.max_accuracy_drop))
    told = any(finding.outcome in ("regressed", "improved") for finding in findings)
    return Verdict(
        name=f"{new_file.path.name} against {old_file.path.name}",
        record=Record(seed=seed, versions=versions(), machine=machine(), seconds=time.monotonic() - started),
        new=str(new_file.path),
        old=str(old_file.path),
        outcome=worst(finding.outcome for finding in findings),
        findings=tuple(findings),
        device=report.device if report else "",
        latency=report,
        noise=noise_floor(report) if report else None,
        explanation=explain(old_file.facts, new_file.facts, report) if told else (),
        op_counts=op_counts_in_words(old_file.facts, new_file.facts),
        figures=figures_of(new_file.facts, report.models[1] if report else None, report),
        notes=_notes(report, findings, limits),
    )


def _notes(report: LatencyReport | None, findings: Sequence[Finding], limits: Limits) -> tuple[str, ...]:
    if report is None or limits.max_slowdown is None or any(one.what == "latency" for one in findings):
        return ()
    return (f"latency was not judged: {report.device} tells no speed of these files",)


def _session(new: ModelFile, old: ModelFile, limits: Limits, device: str, plan: SamplingPlan) -> LatencyReport | None:
    """Both files on the device; None where no limit asks for it."""
    chosen, target = find_device(device)
    exact = isinstance(chosen, Exact) and chosen.exact
    asked = [limits.max_slowdown, limits.max_memory_growth, limits.max_added_cpu_ops if exact else None]
    if all(limit is None for limit in asked):
        return None
    if exact:
        return chosen.profile([old, new], checked(plan), target)
    allowed = TIMED if limits.max_slowdown in ("auto", None) else limits.max_slowdown
    timed = replace(plan, decide_at=1 + allowed, control=True)
    return chosen.profile([old, new, old], checked(timed), target)


def _findings(new: ModelFile, old: ModelFile, limits: Limits, report: LatencyReport | None) -> list[Finding]:
    before, after = report.models[:2] if report else (None, None)
    findings: Sequence[Finding] = judge_figures(
        figures_of(new.facts, after, report), figures_of(old.facts, before, report), limits
    )
    latency = None
    if report is not None and limits.max_slowdown is not None:
        latency = judge_latency(report, limits.max_slowdown)
        if latency is None and limits.max_slowdown != "auto":
            raise ModelError(
                f"{report.device} tells no speed of these files",
                required="a device that times or counts",
                advice="Leave --max-slowdown out: ops and memory are judged there all the same",
            )
    return [latency, *findings] if latency else list(findings)


def _check_accuracy(limits: Limits, accuracy: Accuracy) -> None:
    if limits.max_accuracy_drop is not None and accuracy is None:
        raise ConfigError(
            "accuracy cannot be checked",
            required="how well both files do on held-out data",
            received="a limit on the accuracy drop alone",
            advice="Give the data, or check runs of edgedl, which know their accuracy",
        )
    if isinstance(accuracy, tuple) and accuracy[0].metric != accuracy[1].metric:
        received = f"{accuracy[0].metric} and {accuracy[1].metric}"
        raise ConfigError("the two qualities cannot be compared", required="the same metric", received=received)
