"""One candidate from its chain to its figures: the cheap ones first, and no further once a limit cannot be kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgedl.core.artifacts import (
    MANIFEST,
    CompressedModel,
    LatencyReport,
    Obtained,
    QualityChange,
    TrainedModel,
)
from edgedl.core.console import reporter
from edgedl.core.contract import Contract
from edgedl.core.errors import ConfigError, ModelError, StageError, UnavailableError
from edgedl.core.isolation import Limits
from edgedl.core.statistics import Interval, exact
from edgedl.core.store import RunStore
from edgedl.devices import SamplingPlan, find_device
from edgedl.pipeline.evaluate import Arrays, Evidence, quality, quality_change
from edgedl.pipeline.search.budget import Budget, Quantity
from edgedl.pipeline.search.front import dominates
from edgedl.pipeline.search.result import Candidate, Figure, State
from edgedl.pipeline.search.space import Space, option_of, technique
from edgedl.pipeline.search.standing import excess, standing, with_standing, worth

if TYPE_CHECKING:
    from edgedl.core.artifacts import ExportedModel
    from edgedl.pipeline.data import Splits
    from edgedl.pipeline.recipe import Recipe
    from edgedl.pipeline.verbs import Work

MARGIN = 0.05
"""What is only estimated has to miss a limit by more than this share of it."""

SHAPE: tuple[Quantity, ...] = ("parameters", "macs", "size")
"""What the shapes of the weights and the number format decide, whatever the weights are."""

EMULATED = "arm64:cortex-a76"
TIMED = "cpu"


@dataclass(frozen=True)
class Bar:
    """What candidates are held against: the float32 file, and its answers to the validation examples."""

    work: Work
    data: Splits
    recipe: Recipe
    budget: Budget
    space: Space
    plain: ExportedModel
    contract: Contract
    before: Evidence
    float32: Mapping[Quantity, Figure]
    limits: Limits
    latency_s: float


def bar_for(work: Work, budget: Budget, space: Space, limits: Limits, latency_s: float) -> Bar:
    """Judge float32 on the validation split. Raises ConfigError where the data cannot select, UnavailableError."""
    from edgedl.export.inference import run_file
    from edgedl.pipeline.export import export_stage
    from edgedl.pipeline.judge import evidence
    from edgedl.pipeline.tasks import TASKS

    data, recipe, trained = work.data, work.recipe, work.trained
    if data is None or recipe is None:
        raise ConfigError(
            "a search needs data to train, calibrate and judge with", advice="Give it with --data, e.g. --data npz:FILE"
        )
    if not len(data.validation):
        raise ConfigError(
            "a search needs a validation split to select on", required="data.split.validation above 0", received="0"
        )
    for name, spec in (("instructions", EMULATED), ("latency", TIMED)):
        if name in budget.objectives:
            _require(spec, name)
    contract = selecting(trained.contract, data)
    measure = TASKS[contract.task].measure
    plain = export_stage(work.store, trained, None, "tflite", data=data, batch=work.batch, limits=limits)
    before = evidence(
        lambda given: run_file(plain.model_path, given, limits=limits),
        contract,
        data,
        title="float32",
        split="validation",
    )
    judged = quality(before, measure, of="tflite float32", split="validation")
    if any(limit.points for limit in budget.limits) and not judged.is_share:
        raise ConfigError(
            "budget: accuracy_drop is in points of a share, which this task is not judged by",
            required=f"loss<=VALUE, in units of {judged.metric}",
            received=f"{trained.contract.task}, judged on the validation split by {judged.metric}",
        )
    float32: dict[Quantity, Figure] = {
        "parameters": _counted(trained.parameters, trained.parameters),
        "macs": _counted(trained.macs, trained.macs),
        "size": _counted(plain.size_bytes, plain.size_bytes),
        "gzip": _counted(plain.gzip_bytes, plain.gzip_bytes),
        "loss": Figure(0.0, "measured", exact(0.0)),
    }
    return Bar(work, data, recipe, budget, space, plain, contract, before, float32, limits, latency_s)


def selecting(contract: Contract, data: Splits) -> Contract:
    """What the validation split is judged by: the task itself; the reconstruction where it holds no anomalies."""
    if contract.task == "anomaly-detection" and len(set(data.validation.targets.tolist())) < 2:
        return replace(contract, task="reconstruction")
    return contract


def _require(spec: str, quantity: str) -> None:
    device, _ = find_device(spec)
    status = device.status()
    if not status.available:
        raise UnavailableError(
            f"budget: {quantity} needs the device {spec}", received=status.detail, advice=status.command
        )


@dataclass
class _Progress:
    """What is known of a candidate so far."""

    figures: dict[Quantity, Figure]
    validation: QualityChange | None = None
    model: CompressedModel | None = None
    first: str = ""  # the technique that is at work on the model as it is


class _StoppedError(Exception):
    """The candidate is not worth going on with; the message says why."""


def judge_candidate(bar: Bar, chain: str, judged: Sequence[Candidate]) -> Candidate:
    """What comes of the chain. judged: the candidates before it, which may beat it before it is finished.

    A technique that refuses the model makes a failed candidate; a full disk or lost data end the search.
    """
    started, before = time.monotonic(), _artifacts(bar.work.store.folder)
    known = _Progress({})
    state: State = "judged"
    reason = refused = ""
    try:
        _figures(bar, chain, judged, known)
    except _StoppedError as stopped:
        state, reason = "stopped", str(stopped)
    except (ModelError, StageError, ConfigError, UnavailableError) as error:
        state, reason = "failed", str(error)
        refused = known.first if isinstance(error, (ModelError, UnavailableError)) else ""
    broken, undecided = with_standing(bar.budget, known.figures)
    return Candidate(
        chain=chain,
        state=state,
        figures=known.figures,
        broken=broken,
        undecided=undecided,
        reason=reason,
        refused=refused,
        validation=known.validation,
        test=known.model.quality if known.model else None,
        folder=known.model.folder.name if known.model else None,
        made=_artifacts(bar.work.store.folder) - before,
        seconds=round(time.monotonic() - started, 3),
    )


def _artifacts(folder: Path) -> int:
    return sum(1 for _ in folder.glob(f"[!.]*/{MANIFEST}"))


def compress(bar: Bar, chain: str, *, store: RunStore | None = None, control: bool = False) -> CompressedModel:
    """The chain's variant, judged on the test split as every variant is. store: another than the search's own."""
    from edgedl.pipeline.compress.stage import compress_stage

    work = bar.work
    return compress_stage(
        store or work.store,
        work.trained,
        technique(chain, control=control),
        data=bar.data,
        recipe=bar.recipe,
        seed=work.seed,
        batch=work.batch,
        limits=bar.limits,
    )


def _figures(bar: Bar, chain: str, judged: Sequence[Candidate], known: _Progress) -> None:
    from edgedl.pipeline.compress.stage import Chain

    figures, trained = known.figures, bar.work.trained
    alterations = Chain.of(technique(chain)).alterations
    if alterations:
        _estimate_shape(bar, chain, known)
        known.first = option_of(chain)
        base = _alter(bar, alterations, known)
        loss = _keras_loss(bar, base)
        _stop_if_beaten(bar, judged, {**figures, "loss": loss})
        if (over := _over(bar, {"loss": loss}, use_low=True)) is not None:
            known.figures["loss"] = loss
            raise _StoppedError(f"{over} is broken before the number format: the Keras model loses {loss.interval}")
    known.first = "" if alterations else option_of(chain)
    model = known.model = compress(bar, chain)
    known.first = ""
    figures["parameters"] = _counted(model.parameters, trained.parameters)
    figures["macs"] = _counted(model.macs, trained.macs)
    figures["size"] = _counted(model.size_bytes, model.float_size_bytes)
    figures["gzip"] = _counted(model.gzip_bytes, model.float_gzip_bytes)
    known.validation = _change(bar, _runs_file(bar, model), f"tflite {model.name}")
    figures["loss"] = Figure(known.validation.loss, "measured", known.validation.interval)
    for name, obtain in (("instructions", _instructions), ("latency", _latency)):
        if name in bar.budget.objectives:
            if over := [limit.words for limit in bar.budget.limits if standing(limit, figures) == "broken"]:
                raise _StoppedError(f"{', '.join(over)} broken, so its {name} was not taken")
            figures[name] = obtain(bar, model)


def _runs_file(bar: Bar, model: CompressedModel) -> Callable[[Arrays], Arrays]:
    from edgedl.export.inference import run_file

    return lambda inputs: run_file(model.path(model.model_file), inputs, limits=bar.limits)


def _change(bar: Bar, run: Callable[[Arrays], Arrays], of: str) -> QualityChange:
    """The loss against float32 on the validation split."""
    from edgedl.pipeline.judge import evidence
    from edgedl.pipeline.tasks import TASKS

    measure = TASKS[bar.contract.task].measure
    found = evidence(run, bar.contract, bar.data, title=of, split="validation")
    before = quality(bar.before, measure, of="tflite float32", split="validation")
    return quality_change((before, bar.before), (quality(found, measure, of=of, split="validation"), found), measure)


# --- before the dear stages ----------------------------------------------------------------------------------------


def _estimate_shape(bar: Bar, chain: str, known: _Progress) -> None:
    """Stop where untrained weights of the same shapes in the same number format are too big already."""
    limits = [limit for limit in bar.budget.limits if limit.quantity in SHAPE]
    shape = bar.space.shape_of(chain)
    if not limits or shape is None:
        return
    if shape:
        model = compress(bar, shape)
        found = {"parameters": model.parameters, "macs": model.macs, "size": model.size_bytes}
    else:
        found = {name: bar.float32[name].value for name in SHAPE}
    known.figures |= {name: _counted(found[name], bar.float32[name].value, "estimated") for name in SHAPE}
    if (over := _over(bar, known.figures)) is not None:
        raise _StoppedError(f"{over} is broken before training: weights of these shapes take that much")


def _alter(bar: Bar, alterations: Iterable[object], known: _Progress) -> TrainedModel:
    """The altered Keras model, step by step, as the stage itself will find it in the store."""
    from edgedl.pipeline.compress.altering import alter_stage
    from edgedl.pipeline.compress.base import Alteration

    base = bar.work.trained
    for alteration in alterations:
        assert isinstance(alteration, Alteration)
        base = alter_stage(
            bar.work.store,
            bar.work.trained,
            base,
            alteration,
            data=bar.data,
            recipe=bar.recipe,
            seed=bar.work.seed,
            limits=bar.limits,
        )
        trained, known.first = bar.work.trained, ""
        known.figures["parameters"] = _counted(base.parameters, trained.parameters)
        known.figures["macs"] = _counted(base.macs, trained.macs)
        exactly: dict[Quantity, Figure] = {name: known.figures[name] for name in SHAPE[:2]}
        for limit in bar.budget.limits:
            if standing(limit, exactly) == "broken":
                raise _StoppedError(f"{limit.words} is broken after {alteration.method}")
    return base


def _keras_loss(bar: Bar, base: TrainedModel) -> Figure:
    """The loss of the Keras model, before its numbers are changed."""
    from edgedl.models.load import load_keras
    from edgedl.pipeline.train.stage import predict

    model = load_keras(base.path(base.model_file))
    change = _change(bar, lambda inputs: predict(model, inputs), "keras")
    return Figure(change.loss, "measured", change.interval)


def _over(bar: Bar, figures: Mapping[Quantity, Figure], *, use_low: bool = False) -> str | None:
    """The first limit that is missed beyond the margin; use_low: even by the low end of the interval."""
    for limit in bar.budget.limits:
        figure = figures.get(limit.quantity)
        if figure is None:
            continue
        if use_low and figure.interval is not None:
            figure = replace(figure, value=figure.interval.low)
        missed = excess(limit, {limit.quantity: figure})
        if missed is not None and missed > MARGIN:
            return limit.words
    return None


def _stop_if_beaten(bar: Bar, judged: Sequence[Candidate], figures: Mapping[Quantity, Figure]) -> None:
    """Stop where a finished candidate is better in all objectives even if the number format will cost no quality."""
    if any(name not in figures for name in bar.budget.objectives):
        return
    hoped = tuple(
        figures["loss"].interval.low if name == "loss" and figures["loss"].interval else worth(name, figures[name])
        for name in bar.budget.objectives
    )
    for one in judged:
        if one.state == "judged" and dominates(
            tuple(worth(name, one.figures[name]) for name in bar.budget.objectives), hoped
        ):
            raise _StoppedError(f"beaten before the number format by {one.chain}")


# --- the dear figures ------------------------------------------------------------------------------------------------


def _counted(value: float, of_float: float, obtained: Obtained = "measured") -> Figure:
    return Figure(value, obtained, exact(value), exact(value / max(1.0, of_float)))


def _instructions(bar: Bar, model: CompressedModel) -> Figure:
    report = _session(bar, model, EMULATED, None)
    counts = [one.instructions for one in report.models]
    if counts[0] is None or counts[1] is None:
        raise UnavailableError(f"{EMULATED} counted no instructions", received=report.stopped)
    return _counted(counts[1].total, counts[0].total, report.obtained)


def _latency(bar: Bar, model: CompressedModel) -> Figure:
    """Both files interleaved in one session; sampling goes on until a relative limit is decided, or time is up."""
    from edgedl.devices.sampling import ratio_for_decision

    decide_at = next(
        (limit.value for limit in bar.budget.limits if limit.quantity == "latency" and limit.relative), None
    )
    report = _session(bar, model, TIMED, decide_at)
    before, after = (one.timing for one in report.models)
    if before is None or after is None or after.ratio is None:
        raise UnavailableError(f"{TIMED} took no times", received=report.stopped)
    ratio: Interval = ratio_for_decision(after.blocks_us, before.blocks_us) if decide_at else after.ratio
    return Figure(after.median_us.value, report.obtained, after.median_us, ratio)


def _session(bar: Bar, model: CompressedModel, spec: str, decide_at: float | None) -> LatencyReport:
    from edgedl.pipeline.profile import model_file

    device, target = find_device(spec)
    plan = SamplingPlan(budget_s=bar.latency_s, seed=bar.work.seed, decide_at=decide_at)
    files = [model_file(bar.plain.model_path), model_file(model.path(model.model_file))]
    reporter().note(f"{model.name}: {spec}")
    return device.profile(files, plan, target)
