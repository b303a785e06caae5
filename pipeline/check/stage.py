"""The check of a run: each exported file against the recipe's limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgedl.core.artifacts import ExportedModel, TrainedModel, Verdict
from edgedl.core.files import sha256_of
from edgedl.core.store import RunStore
from edgedl.pipeline.check.files import check
from edgedl.pipeline.check.judge import judge_accuracy
from edgedl.pipeline.check.outcome import worst
from edgedl.pipeline.recipe import Check


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
            files = limits.model_copy(update={"max_accuracy_drop": None})
            verdict = check(new, baseline, files, budget_s=limits.budget_s, seed=seed)
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
