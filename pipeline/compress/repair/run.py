"""Repairs of an int8 file that loses too much: tried in order of cost, judged on validation examples, the best kept.

equalise ─► bias correction ─► rounding ─► the worst layers in float32. Each begins where the best so far stands.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgedl.core.artifacts import AlteredModel, LayerSensitivity, RepairTried
from edgedl.core.console import reporter
from edgedl.core.errors import ConfigError, ModelError, StageError
from edgedl.core.isolation import run_isolated
from edgedl.core.tflite_schema import buffer_bytes, listed, op_names, read_tflite, tensors_of
from edgedl.export.layers import layer_of
from edgedl.export.tflite import write_tflite
from edgedl.export.tflite_quantizer import IO, int8_scheme
from edgedl.pipeline.compress.base import Conversion, Converted
from edgedl.pipeline.compress.float_layers import fewest, kept_words, worst
from edgedl.pipeline.compress.repair.child import INTEGERS, LAYER, SAVED_MODEL, WEIGHTS, Task, Told, repair_weights
from edgedl.pipeline.compress.repair.settings import Repair, RepairName
from edgedl.pipeline.compress.sensitivity import calibrated_model, layer_sensitivities
from edgedl.pipeline.compress.validation import Judged, ValidationJudge, validation_judge

Convert = Callable[[Conversion, Path], object]
"""Writes the int8 file of a job."""


@dataclass(frozen=True)
class _State:
    """The best so far. weights: of the repaired Keras model; None while it is as it was."""

    file: Path
    saved_model: Path
    judged: Judged
    weights: Path | None = None
    corrected: bool = False
    kept_float: tuple[LayerSensitivity, ...] = ()


def repair_int8(job: Conversion, target: Path, wanted: Repair, convert: Convert, *, io: IO) -> Converted:
    """Replace the plain int8 file `target` by the best repaired one, where it loses more than the limit.

    convert: writes the int8 file of a job. Raises ConfigError without validation examples; a repair that cannot be done
    is part of the result.
    """
    if job.fake_quant is not None:
        return Converted(("no repair tried: quantization-aware training has learnt weights and ranges for int8",))
    if job.bench is None or job.calibration is None:
        raise ConfigError("repairs need data to judge by", advice="Give it with --data, for example --data digits")
    judge = validation_judge(
        job.float_tflite, job.trained.contract, job.bench.data, what="repair", seed=job.bench.seed, limits=job.limits
    )
    plain = judge.judge(target)
    begin = f"int8 loses {plain.words} on {judge.n} validation examples (measured)"
    if plain.lost <= wanted.max_loss:
        return Converted((f"{begin}: within the limit of {wanted.max_loss:g}, no repair tried",))
    tried: list[RepairTried] = []
    with tempfile.TemporaryDirectory(prefix="edgedl-repair-") as scratch:
        best = _State(target, job.saved_model, plain)
        for name in wanted.in_order():
            if best.judged.lost <= wanted.max_loss:
                break
            reporter().note(f"{job.name}: trying {name}")
            folder = Path(scratch) / name
            folder.mkdir()
            attempt = _Attempt(job, wanted, name, convert, judge, folder, io)
            found, told = _tried(attempt, best)
            tried.append(told)
            best = found or best
        if best.file != target:
            shutil.copyfile(best.file, target)
    end = f"after repair {best.judged.words}" if any(one.kept for one in tried) else "no repair made it better"
    reached = "" if best.judged.lost <= wanted.max_loss else f"; the limit of {wanted.max_loss:g} was not reached"
    notes = (f"{begin}; {end}{reached}", *(repair_words(one) for one in tried))
    return Converted(notes, tuple(tried), best.kept_float)


@dataclass(frozen=True)
class _Attempt:
    job: Conversion
    wanted: Repair
    name: RepairName
    convert: Convert
    judge: ValidationJudge
    folder: Path
    io: IO


def _tried(attempt: _Attempt, best: _State) -> tuple[_State | None, RepairTried]:
    """One repair on top of the best so far: the new best, if it is one, and what is to be told."""
    started = time.monotonic()
    found, told = None, Told((), ())
    try:
        make = _keep_float if attempt.name == "fallback" else _change_weights
        found, told = make(attempt, best)
    except (ModelError, StageError) as error:
        told = Told((str(error),), ())
    judged = found.judged if found else None
    kept = judged is not None and judged.rank < best.judged.rank
    return (found if kept else None), RepairTried(
        repair=attempt.name,
        lost_before=best.judged.lost,
        lost_after=judged.lost if judged else None,
        change=judged.change if judged else None,
        sqnr_db_before=best.judged.sqnr_db,
        sqnr_db_after=judged.sqnr_db if judged else None,
        n=attempt.judge.n,
        seconds=round(time.monotonic() - started, 1),
        kept=kept,
        said=told.said,
        skipped=told.skipped,
    )


def _change_weights(attempt: _Attempt, best: _State) -> tuple[_State, Told]:
    job, name, folder = attempt.job, attempt.name, attempt.folder
    assert job.bench is not None and job.calibration is not None and name != "fallback"
    if job.trained.carried is not None and job.trained.carried.road == "frozen":
        raise ModelError(f"{name} needs the model's layers; this one is a frozen graph")
    promises = job.trained.promises if isinstance(job.trained, AlteredModel) else ()
    if name != "bias-correction" and any(one.clusters for one in promises):
        raise ModelError(f"{name} would take the clustered weights off their clusters")
    task = Task(
        repair=name,
        keras=job.keras,
        saved_model=job.saved_model,
        calibration=job.calibration,
        weights=best.weights,
        corrected=best.corrected,
        iterations=attempt.wanted.iterations,
        seed=job.bench.seed,
    )
    told = run_isolated(
        repair_weights,
        task,
        folder,
        stage=name,
        subject=job.name,
        limits=job.limits,
        advice="Raise the limits, or leave this repair out",
    )
    file = folder / "model.tflite"
    attempt.convert(replace(job, saved_model=folder / SAVED_MODEL), file)
    if name == "rounding":
        check_integers(file, folder / INTEGERS, job.trained.layers)
    corrected = best.corrected or name == "bias-correction"
    return _State(file, folder / SAVED_MODEL, attempt.judge.judge(file), folder / WEIGHTS, corrected), told


def _keep_float(attempt: _Attempt, best: _State) -> tuple[_State, Told]:
    job = attempt.job
    assert job.calibration is not None
    model = calibrated_model(best.saved_model, job.calibration, job.trained.layers, name=job.name, limits=job.limits)
    rows, plain = layer_sensitivities(model, attempt.judge, attempt.folder)
    limit = attempt.wanted.max_loss
    kept, found = fewest(model, rows, attempt.judge, plain, limit, attempt.folder, most=attempt.wanted.most_kept)
    file = attempt.folder / "model.tflite"
    content = model.without(worst(model, rows, kept), attempt.io)
    write_tflite(content, file, int8_scheme(attempt.io), job.trained.contract, name=job.name, layers=job.trained.layers)
    said = tuple(kept_words(rows[:kept], plain, found, attempt.judge.n, limit))
    judged = attempt.judge.judge(file)
    return replace(best, file=file, judged=judged, kept_float=tuple(rows[:kept])), Told(said, model.skipped)


def check_integers(file: Path, integers: Path, layers: tuple[str, ...]) -> int:
    """How many layers hold in the .tflite file the very integers that rounding chose (.npz by layer, Keras's shapes).

    Raises ModelError when one holds others.
    """
    content = file.read_bytes()
    model = read_tflite(content, file.name)
    graph, names = model.subgraphs[0], op_names(model)
    tensors = tensors_of(model, graph)
    stored: dict[str, tuple[str, bytes]] = {}
    for op in listed(graph.operators):
        kind = names[op.opcodeIndex]
        if kind in {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}:
            weights, layer = tensors[op.inputs[1]], layer_of(tensors[op.outputs[0]].name, layers)
            if layer is None:
                layer = layer_of(weights.name, layers)
            if layer is not None and weights.dtype == "int8" and weights.buffer:
                stored[layer] = (kind, buffer_bytes(model, content, weights.buffer))
    with np.load(integers, allow_pickle=False) as archive:
        chosen = {name.removeprefix(LAYER): archive[name] for name in archive.files}
    for layer, values in chosen.items():
        if layer not in stored:
            raise ModelError(f"the rounded weights of layer {layer} are not in the file as integers of its own")
        kind, data = stored[layer]
        wanted = values if kind == "DEPTHWISE_CONV_2D" else np.moveaxis(values, -1, 0)
        got = np.frombuffer(data, np.int8)
        if got.size != wanted.size or (got != wanted.reshape(-1)).any():
            different = float((got != wanted.reshape(-1)).mean()) if got.size == wanted.size else 1.0
            raise ModelError(f"the converter rounded {different:.1%} of layer {layer}'s weights otherwise")
    return len(chosen)


def repair_words(one: RepairTried) -> str:
    """What a repair did, and what came of it."""
    said = "; ".join(one.said)
    if one.lost_after is None:
        return f"{one.repair}: not possible: {said} ({one.seconds:g} s)"
    noise = ""
    if one.sqnr_db_before is not None and one.sqnr_db_after is not None:
        noise = f", SQNR {one.sqnr_db_before:.1f} → {one.sqnr_db_after:.1f} dB"
    verdict = "kept" if one.kept else "not kept"
    loss = f"loss {one.lost_before:+.3g} → {one.lost_after:+.3g}{noise}"
    return f"{one.repair}: {loss}, {verdict} ({one.seconds:g} s): {said}"
