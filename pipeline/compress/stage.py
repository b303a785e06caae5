"""The compression stage: one technique on one trained model, judged on the TFLite file that comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgedl.core.artifacts import CalibrationRecord, CompressedModel, ExportedModel, FloatOp, TrainedModel
from edgedl.core.contract import Contract
from edgedl.core.errors import ConfigError
from edgedl.core.files import gzip_size, sha256_of
from edgedl.core.isolation import DEFAULT_LIMITS, Limits
from edgedl.core.model_facts import ModelFacts
from edgedl.core.store import RunStore
from edgedl.export.inspect import inspect_file
from edgedl.export.tflite import convert_tflite
from edgedl.pipeline.compress.base import Calibration, Technique
from edgedl.pipeline.data import Splits
from edgedl.pipeline.export import export_stage
from edgedl.pipeline.judge import judge
from edgedl.pipeline.tasks import TASKS

MODEL_FILE = "model.tflite"
CALIBRATION_FILE = "calibration.npz"

SLOW_ON_X86 = "int16 kernels are reference kernels on x86: expect many times float32's latency there"


def compress_stage(
    store: RunStore,
    trained: TrainedModel,
    technique: Technique,
    *,
    data: Splits | None,
    seed: int,
    batch: int | None = 1,
    limits: Limits = DEFAULT_LIMITS,
) -> CompressedModel:
    """The variant that the technique makes of the model, found in the store or made now.

    data: calibrates and judges; None where there is none. Raises ConfigError when the technique needs data;
    ModelError, StageError from the converter.
    """
    if technique.quantization().needs_calibration and data is None:
        raise ConfigError(
            f"{technique.method} needs data to see the ranges of the activations",
            advice="Give it with --data, for example --data npz:FILE, or use dynamic-range or float16",
        )
    saved = export_stage(store, trained, None, "saved-model", data=data, batch=batch, limits=limits)
    plain = export_stage(store, trained, None, "tflite", data=data, batch=batch, limits=limits)
    return store.build(
        CompressedModel,
        f"compress-{technique.variant}",
        lambda folder: _compress(folder, trained, technique, saved, plain, data, seed, limits),
        config={**technique.model_dump(mode="json"), "judged": data is not None},
        parents=[trained, saved, plain],
        seed=seed,
    )


def _compress(
    folder: Path,
    trained: TrainedModel,
    technique: Technique,
    saved: ExportedModel,
    plain: ExportedModel,
    data: Splits | None,
    seed: int,
    limits: Limits,
) -> CompressedModel:
    scheme = technique.quantization()
    calibration: CalibrationRecord | None = None
    notes: list[str] = []
    if scheme.needs_calibration:
        assert data is not None
        wanted: Calibration = getattr(technique, "calibration")  # noqa: B009  # techniques with activations have one
        calibration = _calibrate(folder / CALIBRATION_FILE, wanted, trained.contract, data, seed)
        if calibration.n < wanted.n:
            notes.append(f"calibrated with all {calibration.n} training examples; {wanted.n} were asked for")
    path = folder / MODEL_FILE
    convert_tflite(
        saved.model_path,
        path,
        scheme,
        trained.contract,
        name=f"{trained.name} {technique.variant}",
        layers=trained.layers,
        calibration=folder / CALIBRATION_FILE if calibration else None,
        limits=limits,
    )
    facts = inspect_file(path)
    float_ops = _float_ops(facts) if scheme.needs_calibration else ()
    if scheme.activations == "int16":
        notes.append(SLOW_ON_X86)
    change = judge(path, trained, data, of=f"tflite {scheme.method}", folder=folder) if data is not None else None
    return CompressedModel(
        name=technique.variant,
        folder=folder,
        quantization=scheme,
        contract=trained.contract,
        size_bytes=path.stat().st_size,
        gzip_bytes=gzip_size(path),
        float_size_bytes=plain.size_bytes,
        float_gzip_bytes=plain.gzip_bytes,
        quality=change,
        integer_ops=_integer_share(facts),
        float_ops=float_ops,
        calibration=calibration,
        notes=tuple(notes),
        model_file=MODEL_FILE,
    )


def _calibrate(path: Path, wanted: Calibration, contract: Contract, data: Splits, seed: int) -> CalibrationRecord:
    seed = wanted.seed if wanted.seed is not None else seed
    n = min(wanted.n, len(data.train))
    positions = np.sort(np.random.default_rng(seed).choice(len(data.train), n, replace=False))
    inputs = TASKS[contract.task].ask(contract, data, data.train, positions).inputs
    np.savez(path, allow_pickle=False, **inputs)
    return CalibrationRecord(
        n=n,
        seed=seed,
        split="train",
        sha256=sha256_of(path),
        minimum=tuple(float(one.min()) for one in inputs.values()),
        maximum=tuple(float(one.max()) for one in inputs.values()),
    )


MOVING = {"QUANTIZE", "DEQUANTIZE", "CAST"}
"""Ops that only change the number format; they are the border between integer and float."""


def _integer_share(facts: ModelFacts) -> float:
    computing = [op for op in facts.ops if op.op not in MOVING]
    return sum(_is_integer(op.precision) for op in computing) / max(1, len(computing))


def _is_integer(precision: str) -> bool:
    return precision.startswith(("int", "uint", "bool"))


def _float_ops(facts: ModelFacts) -> tuple[FloatOp, ...]:
    """The computing ops whose output is float, with the reason as far as the file tells it."""
    integer_kinds = {op.op for op in facts.ops if _is_integer(op.precision)}
    found: list[FloatOp] = []
    for op in facts.ops:
        if op.op in MOVING or _is_integer(op.precision):
            continue
        if op.op in integer_kinds:
            reason = f"other {op.op} of this file are integer: the converter found no range for this one"
        else:
            reason = f"no {op.op} of this file is integer: the converter has no integer form for it here"
        found.append(FloatOp(op.index, op.op, op.layer, reason))
    return tuple(found)
