"""The whole pipeline on one recipe: every stage in order, each found in the store or done now, and the report."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

from edgedl.core.artifacts import (
    Audit,
    CompressedModel,
    ExportedModel,
    LatencyReport,
    Outcome,
    ParityReport,
    Run,
    TrainedModel,
    Verdict,
    load_artifact,
)
from edgedl.core.console import reporter
from edgedl.core.errors import ExitCode, InputError
from edgedl.core.store import RunStore, write_run_file
from edgedl.devices import find_device
from edgedl.pipeline.audit.stage import audit_stage
from edgedl.pipeline.begin import begin
from edgedl.pipeline.check.stage import check_stage
from edgedl.pipeline.compress.altering import model_behind
from edgedl.pipeline.compress.stage import compress_stage
from edgedl.pipeline.data import Splits
from edgedl.pipeline.export import export_stage, refusal
from edgedl.pipeline.profile import profile_stage
from edgedl.pipeline.recipe import Recipe, recipe_json
from edgedl.pipeline.report import write_report
from edgedl.pipeline.verify import verify_stage

RUNNABLE = ("tflite", "onnx")


def run_recipe(store: RunStore, recipe: Recipe) -> Run:
    """Train, compress, export, verify, profile, check, report; what is unchanged is used again.

    Raises EdgedlError of the stage that cannot go on. A failed check is a Verdict in the result, not an error.
    """
    started = time.monotonic()
    for device in recipe.profile.devices:
        find_device(device)  # an unknown one is told before an hour of training
    trained, data = begin(store, recipe)
    notes: list[str] = []
    batch = recipe.export.batch
    compressed = [
        compress_stage(store, trained, technique, data=data, recipe=recipe, seed=recipe.seed, batch=batch)
        for technique in recipe.compress
    ]
    audits = audit_all(store, trained, compressed, recipe, data)
    exported: list[ExportedModel] = []
    for variant in (None, *compressed):
        for format in recipe.export.formats:
            reason = refusal(variant, format)
            if reason is None:
                exported.append(export_stage(store, trained, variant, format, data=data, batch=batch))
            elif variant is not None:
                notes.append(f"{variant.name} is not written as {format}: {reason}")
    runnable = [one for one in exported if one.format in RUNNABLE]
    parity = [
        verify_stage(store, one, model_behind(store.folder, trained, one.altered), data=data, seed=recipe.seed)
        for one in runnable
    ]
    latency = [
        profile_stage(store, runnable, device, recipe.profile, recipe.seed)
        for device in recipe.profile.devices
        if runnable
    ]
    verdicts = _check(store, recipe, trained, runnable)
    run = Run(
        name=recipe.name,
        folder=store.folder,
        recipe=recipe_json(recipe),
        trained=trained,
        compressed=tuple(compressed),
        exported=tuple(exported),
        parity=tuple(parity),
        latency=tuple(latency),
        verdicts=tuple(verdicts),
        notes=tuple(notes),
        reused=tuple(store.reused),
        seconds=time.monotonic() - started,
        audits=audits,
    )
    save_run(store, run)
    write_report(run)
    return run


def audit_all(
    store: RunStore, trained: TrainedModel, compressed: Sequence[CompressedModel], recipe: Recipe, data: Splits
) -> tuple[Audit, ...]:
    """Every variant's audit, where the recipe wants it and there is something to judge on."""
    if recipe.audit is None:
        return ()
    found = [audit_stage(store, trained, one, recipe.audit, data=data, seed=recipe.seed) for one in compressed]
    return tuple(one for one in found if one is not None)


def _check(store: RunStore, recipe: Recipe, trained: TrainedModel, files: list[ExportedModel]) -> list[Verdict]:
    """Every file against the recipe's limits: its accuracy against the trained model, its baseline where one lies."""
    limits = recipe.check
    verdicts: list[Verdict] = []
    for one in files:
        baseline = limits.against / one.model_file if limits.against else None
        if baseline is not None and not baseline.is_file():
            reporter().warn(f"check: no baseline {baseline}; copy {one.model_path} there to set it")
            baseline = None
        if baseline is not None or (limits.max_accuracy_drop is not None and one.change is not None):
            verdicts.append(check_stage(store, one, trained, baseline, limits, recipe.seed))
    return verdicts


RUN_FILE = "run.json"


def save_run(store: RunStore, run: Run) -> None:
    """Write `run.json`: which artifacts in this folder are the run's."""
    kinds = ("compressed", "exported", "parity", "latency", "verdicts", "audits")
    content = {
        "name": run.name,
        "recipe": run.recipe,
        "trained": run.trained.folder.name,
        **{kind: [one.folder.name for one in getattr(run, kind)] for kind in kinds},
        "notes": run.notes,
        "reused": run.reused,
        "seconds": round(run.seconds, 3),
    }
    write_run_file(store.folder, RUN_FILE, content)


def load_run(folder: Path) -> Run:
    """The finished run in a folder. Raises InputError when there is none, or a part of it is gone."""
    try:
        content = json.loads((folder / RUN_FILE).read_text())
        names = {kind: content[kind] for kind in ("compressed", "exported", "parity", "latency", "verdicts")}
        load = load_artifact
        return Run(
            name=content["name"],
            folder=folder,
            recipe=content["recipe"],
            trained=cast(TrainedModel, load(folder / content["trained"])),
            compressed=tuple(cast(CompressedModel, load(folder / name)) for name in names["compressed"]),
            exported=tuple(cast(ExportedModel, load(folder / name)) for name in names["exported"]),
            parity=tuple(cast(ParityReport, load(folder / name)) for name in names["parity"]),
            latency=tuple(cast(LatencyReport, load(folder / name)) for name in names["latency"]),
            verdicts=tuple(cast(Verdict, load(folder / name)) for name in names["verdicts"]),
            notes=tuple(content["notes"]),
            reused=tuple(content["reused"]),
            seconds=content["seconds"],
            audits=tuple(cast(Audit, load(folder / name)) for name in content.get("audits", ())),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder} holds no finished run",
            required=f"a folder with the {RUN_FILE} that `edgedl run` writes",
            received=_short(error),
        ) from None


def _short(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror}: {error.filename}"
    return f"{type(error).__name__} in {RUN_FILE}: {error}"


def exit_code(run: Run) -> ExitCode:
    """1 when a file is not its Keras model's equal or breaks a limit, 4 when a limit could not be decided, else 0."""
    if not all(report.passed for report in run.parity):
        return ExitCode.CHECK_FAILED
    return worst(one.outcome for one in (*run.verdicts, *run.audits))


def worst(outcomes: Iterable[Outcome]) -> ExitCode:
    """The exit code of several answers."""
    found = set(outcomes)
    if "regressed" in found:
        return ExitCode.CHECK_FAILED
    return ExitCode.INCONCLUSIVE if "inconclusive" in found else ExitCode.FINE
