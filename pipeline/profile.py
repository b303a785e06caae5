"""Latency, memory and times per op of exported files on a device, all files interleaved in one session."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgedl.core.artifacts import ExportedModel, LatencyReport
from edgedl.core.errors import ConfigError, ModelError
from edgedl.core.model_facts import ModelFile
from edgedl.core.store import RunStore
from edgedl.devices import SamplingPlan, find_device
from edgedl.export.inspect import inspect_file
from edgedl.pipeline.recipe import Profile

FORMATS = ("tflite", "onnx")


def profile(
    files: str | Path | ExportedModel | Sequence[str | Path | ExportedModel],
    *,
    device: str = "cpu",
    budget_s: float = 10.0,
    threads: int = 1,
    xnnpack: bool = True,
    seed: int = 0,
) -> LatencyReport:
    """Profile files (paths, or artifacts of `export`) on a device; ratios are to the first file.

    device: a name, or `name:target`. budget_s: wall-clock seconds for the whole session; it ends earlier when every
    median is known to ±1 %. threads, xnnpack: how the runtime computes. seed: of the inputs and of the order in which
    files alternate.

    Raises UnavailableError for a device that is not there, ModelError (naming file and reason) for a file that is no
    TFLite or ONNX model or that the runtime cannot run, ConfigError for a budget or thread count below what works.
    """
    plan = checked(SamplingPlan(budget_s=budget_s, threads=threads, xnnpack=xnnpack, seed=seed))
    several = [files] if isinstance(files, (str, Path, ExportedModel)) else files
    if not several:
        raise ConfigError("there is nothing to profile", required="at least one TFLite or ONNX file")
    chosen, target = find_device(device)
    return chosen.profile([model_file(file) for file in several], plan, target)


def profile_stage(
    store: RunStore, files: Sequence[ExportedModel], device: str, config: Profile, seed: int
) -> LatencyReport:
    """One session with all the run's files, found in the store or taken now."""

    def take(folder: Path) -> LatencyReport:
        report = profile(
            files,
            device=device,
            budget_s=config.budget_s,
            threads=config.threads,
            xnnpack=config.xnnpack,
            seed=seed,
        )
        return replace(report, folder=folder)

    settings = {"device": device, **config.model_dump(mode="json", exclude={"devices"})}
    name = "profile-" + re.sub(r"[^\w.-]", "-", device)  # a target may hold any sign: pi@board, SERIAL/little
    return store.build(LatencyReport, name, take, config=settings, parents=files, seed=seed)


def checked(plan: SamplingPlan) -> SamplingPlan:
    """The plan. Raises ConfigError when no session can follow it."""
    if not plan.budget_s > 0:
        raise ConfigError("the budget is too small", required="more than 0 seconds", received=f"{plan.budget_s:g}")
    if plan.threads < 1:
        raise ConfigError("too few threads", required="1 or more", received=str(plan.threads))
    return plan


def model_file(file: str | Path | ExportedModel) -> ModelFile:
    """The file with its facts. Raises ModelError when a device cannot run what it is."""
    path = file.model_path if isinstance(file, ExportedModel) else Path(file)
    facts = inspect_file(path)
    if facts.kind not in FORMATS:
        raise ModelError(
            f"{path} is not a file that runs on a device",
            required="a TFLite or an ONNX file",
            received=facts.kind,
            advice="Core ML runs on Apple's systems alone"
            if facts.kind == "coreml"
            else f"`edgedl export {path}` makes them",
        )
    return ModelFile(path, facts)
