"""Which layers stay float32 while all others are int8: how `mixed` and the last repair of int8 choose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgedl.core.artifacts import LayerSensitivity
from edgedl.core.errors import ConfigError, ModelError
from edgedl.export.tflite import write_tflite
from edgedl.export.tflite_quantizer import IO, int8_scheme
from edgedl.pipeline.compress.base import Conversion, Converted
from edgedl.pipeline.compress.sensitivity import Calibrated, Group, calibrated_model, layer_sensitivities
from edgedl.pipeline.compress.validation import Judged, ValidationJudge, validation_judge


def convert_mixed(job: Conversion, target: Path, *, keep: int | None, limit: float, io: IO) -> Converted:
    """Write the int8 file in which `keep` layers, or as few as the limit allows, are float32.

    Raises ConfigError, ModelError, StageError.
    """
    if job.fake_quant is not None:
        raise ModelError(
            f"{job.name}: mixed cannot follow quantization-aware training, which learnt the ranges of all layers",
            advice="Use int8 there, or mixed without it",
        )
    assert job.bench is not None and job.calibration is not None
    judge = validation_judge(
        job.float_tflite, job.trained.contract, job.bench.data, what="mixed", seed=job.bench.seed,
        limits=job.limits,
    )  # fmt: skip
    model = calibrated_model(job.saved_model, job.calibration, job.trained.layers, name=job.name, limits=job.limits)
    rows, plain = layer_sensitivities(model, judge, job.folder)
    most = len(model.groups) - 1
    if keep is not None and keep > most:
        raise ConfigError(
            f"mixed cannot keep {keep} layers of {job.name}",
            required=f"1 to {most}: the model has {len(model.groups)} layers that int8 can hold",
            received=f"keep {keep}",
            advice="Use float16 where nearly all layers have to stay float",
        )
    if keep is not None:
        content = model.without(worst(model, rows, keep))
        kept, found = keep, judge.judge_bytes(content, job.folder)
    else:
        kept, found = fewest(model, rows, judge, plain, limit, job.folder)
    content = model.without(worst(model, rows, kept), io)
    write_tflite(content, target, int8_scheme(io), job.trained.contract, name=job.name, layers=job.trained.layers)
    notes = kept_words(rows[:kept], plain, found, judge.n, limit if keep is None else None)
    if len(content) >= job.float_tflite.stat().st_size:
        notes.append("the file is not smaller than the float32 one: so much stays float32 that int8 does not pay here")
    return Converted(
        notes=tuple(notes),
        kept_float=tuple(rows[:kept]),
    )


def worst(model: Calibrated, rows: Sequence[LayerSensitivity], kept: int) -> list[Group]:
    """The groups of the first rows."""
    names = {row.layer for row in rows[:kept]}
    return [group for group in model.groups if group.layer in names]


def fewest(
    model: Calibrated,
    rows: Sequence[LayerSensitivity],
    judge: ValidationJudge,
    plain: Judged,
    limit: float,
    folder: Path,
    most: int | None = None,
) -> tuple[int, Judged]:
    """How few of the first rows, `most` at most, must stay float32 for the limit, and how that was judged.

    Where no number is enough, the best one. The last layer never stays: a file without int8 is no int8 file.
    """
    best = (0, plain)
    for kept in range(1, min(len(rows), (most or len(rows)) + 1)):
        if best[1].lost <= limit:
            break
        found = judge.judge_bytes(model.without(worst(model, rows, kept)), folder)
        if found.rank < best[1].rank:
            best = (kept, found)
    return best


def kept_words(
    rows: Sequence[LayerSensitivity], plain: Judged, found: Judged, n: int, limit: float | None
) -> list[str]:
    """What stays float32 and why, in sentences."""
    said = [f"all in int8: {plain.words} on {n} validation examples (measured)"]
    if not rows:
        said.append("no layer has to stay float32")
        return said
    listed = ", ".join(f"{row.layer} ({row.lost:+.3g} alone in int8)" for row in rows)
    said.append(f"{len(rows)} layers stay float32: {listed}; with them {found.words}")
    if limit is not None and found.lost > limit:
        said.append(f"the limit of {limit:g} was not reached with any number of layers in float32")
    return said
