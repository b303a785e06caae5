"""No slower, no bigger, no worse than before? A new file against an old one, and "inconclusive" is an answer.

Latency is judged on both files interleaved in one session. The interval of their ratio must lie on one side of the
limit; until it does, sampling goes on, to the end of the budget. That looks at the same growing sample up to five
times, and each look is a chance to be wrong, so each asks for a 99 % interval: together at most 5 % of sessions have an
interval that ever misses the true ratio (see `edgedl.devices.sampling`), and only half of those on the wrong side.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from edgedl.core.artifacts import ExportedModel, LatencyReport, Quality, QualityChange, Record, Verdict
from edgedl.core.errors import ConfigError
from edgedl.core.provenance import machine, versions
from edgedl.devices import SamplingPlan, find_device
from edgedl.pipeline.check.explain import explain, op_counts_in_words
from edgedl.pipeline.check.interface import require_same_interface
from edgedl.pipeline.check.judge import judge_accuracy, judge_latency, judge_size
from edgedl.pipeline.check.outcome import worst
from edgedl.pipeline.profile import checked, model_file


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
    told = any(finding.outcome in ("regressed", "improved") for finding in findings)
    return Verdict(
        name=f"{new_file.path.name} against {old_file.path.name}",
        record=Record(seed=seed, versions=versions(), machine=machine(), seconds=time.monotonic() - started),
        new=str(new_file.path),
        old=str(old_file.path),
        outcome=worst(finding.outcome for finding in findings),
        findings=tuple(findings),
        latency=report,
        explanation=explain(old_file.facts, new_file.facts, report) if told else (),
        op_counts=op_counts_in_words(old_file.facts, new_file.facts),
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
