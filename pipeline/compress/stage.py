"""The compression stage: a chain of techniques on one trained model, judged on the TFLite file that comes out.

trained ─► alteration ─► … ─► Keras model ─► float32 exports ─► scheme ─► model.tflite, judged, promises checked
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from edgedl.core.artifacts import (
    AlteredModel,
    CalibrationRecord,
    CompressedModel,
    ExportedModel,
    FloatOp,
    LayerSensitivity,
    TrainedModel,
)
from edgedl.core.errors import ConfigError
from edgedl.core.files import gzip_size
from edgedl.core.isolation import DEFAULT_LIMITS, Limits
from edgedl.core.model_facts import ModelFacts
from edgedl.core.store import RunStore
from edgedl.export.inspect import inspect_file
from edgedl.export.tflite import FLOAT32
from edgedl.export.tflite_strip import strip_tflite
from edgedl.pipeline.compress.altering import alter_stage, step_of
from edgedl.pipeline.compress.base import Alteration, Bench, Calibration, Conversion, Converted, Scheme, Technique
from edgedl.pipeline.compress.calibration.examples import draw_examples, lint_calibration
from edgedl.pipeline.compress.promises import kept_promises
from edgedl.pipeline.data import Splits
from edgedl.pipeline.export import export_stage
from edgedl.pipeline.judge import judge
from edgedl.pipeline.recipe import Recipe

MODEL_FILE = "model.tflite"
CALIBRATION_FILE = "calibration.npz"

SLOW_ON_X86 = "int16 kernels are reference kernels on x86: expect many times float32's latency there"


def compress_stage(
    store: RunStore,
    trained: TrainedModel,
    technique: Technique,
    *,
    data: Splits | None,
    recipe: Recipe | None = None,
    seed: int,
    batch: int | None = 1,
    limits: Limits = DEFAULT_LIMITS,
) -> CompressedModel:
    """The variant that the technique, and the chain after it, makes of the model: found in the store or made now.

    data: trains, calibrates and judges; None where there is none. recipe: its `train` section fine-tunes. Raises
    ConfigError when the chain is none or needs data; ModelError, StageError from the converter.
    """
    chain = Chain.of(technique)
    for one in technique.chain():
        if one.needs_data and (data is None or recipe is None):
            why = "to see the ranges of the activations" if isinstance(one, Scheme) else "to train on"
            raise ConfigError(
                f"{one.method} needs data {why}",
                advice="Give it with --data, for example --data npz:FILE, or use dynamic-range or float16",
            )
    base, steps = trained, list[AlteredModel]()
    for alteration in chain.alterations:
        assert data is not None and recipe is not None
        base = alter_stage(store, trained, base, alteration, data=data, recipe=recipe, seed=seed, limits=limits)
        steps.append(base)
    plain = export_stage(store, trained, None, "tflite", data=data, batch=batch, limits=limits)
    saved = export_stage(store, base, None, "saved-model", data=data, batch=batch, limits=limits)
    source = (
        plain if base is trained else export_stage(store, base, None, "tflite", data=data, batch=batch, limits=limits)
    )
    parts = _Parts(trained, base, steps, chain, technique, plain, source, saved)
    return store.build(
        CompressedModel,
        f"compress-{technique.variant}",
        lambda folder: _compress(folder, parts, data, recipe, seed, limits),
        config={**technique.model_dump(mode="json"), "judged": data is not None},
        parents=[trained, *steps, saved, plain],
        seed=seed,
    )


@dataclass(frozen=True)
class Chain:
    """A chain taken apart. scheme: None for float32."""

    alterations: Sequence[Alteration]
    scheme: Scheme | None

    @staticmethod
    def of(technique: Technique) -> Chain:
        """Raises ConfigError when a number format is not the last."""
        found = list(technique.chain())
        for one, after in itertools.pairwise(found):
            if isinstance(one, Scheme):
                raise ConfigError(
                    f"{after.method} cannot follow {one.method}",
                    required="number formats (int8, float16 …) at the end of a chain",
                    received=" + ".join(each.method for each in found),
                )
        last = found[-1]
        if isinstance(last, Scheme):
            return Chain(cast(Sequence[Alteration], found[:-1]), last)
        alterations = cast(Sequence[Alteration], found)
        implied = [scheme for one in alterations if (scheme := one.implied_scheme()) is not None]
        return Chain(alterations, cast(Scheme, implied[-1]) if implied else None)


@dataclass(frozen=True)
class _Parts:
    """What a variant is made from. plain: the first model's float32 file; source, saved: those of the last step."""

    trained: TrainedModel
    base: TrainedModel
    steps: Sequence[AlteredModel]
    chain: Chain
    technique: Technique
    plain: ExportedModel
    source: ExportedModel
    saved: ExportedModel


def _compress(
    folder: Path, parts: _Parts, data: Splits | None, recipe: Recipe | None, seed: int, limits: Limits
) -> CompressedModel:
    trained, base, scheme = parts.trained, parts.base, parts.chain.scheme
    quantization = scheme.quantization() if scheme else FLOAT32
    calibration: CalibrationRecord | None = None
    notes: list[str] = []
    told = Converted()
    if scheme and quantization.needs_calibration:
        assert data is not None
        wanted: Calibration = getattr(scheme, "calibration")  # noqa: B009  # techniques with activations have one
        calibration = draw_examples(folder / CALIBRATION_FILE, wanted, trained.contract, data, seed)
        if calibration.n < wanted.n:
            notes.append(f"calibrated with all {calibration.n} training examples; {wanted.n} were asked for")
        warnings = lint_calibration(
            folder / CALIBRATION_FILE, parts.source.model_path, base, data, seed=seed, name=trained.name, limits=limits
        )
        calibration = replace(calibration, warnings=warnings)
        notes.extend(f"calibration: {one.said}" for one in warnings)
    path = folder / MODEL_FILE
    if scheme is None:
        shutil.copyfile(parts.source.model_path, path)
    else:
        fake_quant = base.fake_quant if isinstance(base, AlteredModel) else None
        bench = None
        if data is not None and recipe is not None:
            bench = Bench(trained, base, data, recipe, seed, folder, limits)
        job = Conversion(
            saved_model=parts.saved.model_path,
            float_tflite=parts.source.model_path,
            keras=base.path(base.model_file),
            trained=base,
            name=f"{trained.name} {parts.technique.variant}",
            folder=folder,
            limits=limits,
            calibration=folder / CALIBRATION_FILE if calibration else None,
            fake_quant=base.path(fake_quant) if fake_quant else None,
            bench=bench,
        )
        told = scheme.convert(job, path)
        notes.extend(told.notes)
    for one in parts.chain.alterations:
        notes.extend(one.finish(path, base, limits))
    facts = inspect_file(path)
    float_ops = _float_ops(facts, told.kept_float) if quantization.needs_calibration else ()
    if quantization.activations == "int16":
        notes.append(SLOW_ON_X86)
    kind = f"tflite {parts.technique.variant}"
    change = judge(path, trained, data, of=kind, folder=folder) if data is not None else None
    promises = base.promises if isinstance(base, AlteredModel) else ()
    kept = kept_promises(path, promises, base)
    if scheme and scheme.strip:
        notes.append(f"metadata and the names of inner tensors were left out: {strip_tflite(path):,} B less")
    return CompressedModel(
        name=parts.technique.variant,
        folder=folder,
        quantization=quantization,
        contract=trained.contract,
        size_bytes=path.stat().st_size,
        gzip_bytes=gzip_size(path),
        float_size_bytes=parts.plain.size_bytes,
        float_gzip_bytes=parts.plain.gzip_bytes,
        quality=change,
        integer_ops=_integer_share(facts),
        float_ops=float_ops,
        calibration=calibration,
        parameters=base.parameters,
        macs=base.macs,
        float_parameters=trained.parameters,
        float_macs=trained.macs,
        steps=tuple(step_of(one) for one in parts.steps),
        kept=kept,
        tried=told.tried,
        kept_float=told.kept_float,
        altered=base.folder.name if base is not trained else None,
        notes=tuple(notes),
        model_file=MODEL_FILE,
    )


MOVING = {"QUANTIZE", "DEQUANTIZE", "CAST"}
"""Ops that only change the number format; they are the border between integer and float."""


def _integer_share(facts: ModelFacts) -> float:
    computing = [op for op in facts.ops if op.op not in MOVING]
    return sum(_is_integer(op.precision) for op in computing) / max(1, len(computing))


def _is_integer(precision: str) -> bool:
    return precision.startswith(("int", "uint", "bool"))


def _float_ops(facts: ModelFacts, kept: Sequence[LayerSensitivity]) -> tuple[FloatOp, ...]:
    """The computing ops whose output is float, with the reason as far as the file tells it.

    kept: the layers that were left in float on purpose.
    """
    chosen = {tensor: one for one in kept for tensor in one.tensors}
    integer_kinds = {op.op for op in facts.ops if _is_integer(op.precision)}
    found: list[FloatOp] = []
    for op in facts.ops:
        if op.op in MOVING or _is_integer(op.precision):
            continue
        layer = chosen.get(op.name)
        if layer is not None:
            reason = f"kept in float: layer {layer.layer} alone in int8 costs {layer.lost:+.3g} on validation"
        elif op.op in integer_kinds:
            reason = f"other {op.op} of this file are integer: the converter found no range for this one"
        else:
            reason = f"no {op.op} of this file is integer: the converter has no integer form for it here"
        found.append(FloatOp(op.index, op.op, op.layer, reason))
    return tuple(found)
