"""Sensitivity: what each layer costs when it alone is int8 and everything else stays float32.

Sensitivity analysis as Wu et al. 2020 ("Integer quantization for deep learning inference: principles and empirical
evaluation", arXiv:2004.09602, §6.1) do it for partial quantization, one layer at a time; judged by the task on
validation examples and by the noise of the output.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedl.core.artifacts import LayerSensitivity, SensitivityReport, SkippedLayer, TrainedModel
from edgedl.core.console import reporter
from edgedl.core.isolation import DEFAULT_LIMITS, Limits
from edgedl.core.store import RunStore
from edgedl.export.tflite_ops import ComputingOp, check_selected, computing_ops, precisions
from edgedl.export.tflite_quantizer import IO, calibrate_tflite, int8_scheme, quantize_calibrated
from edgedl.pipeline.compress.base import Calibration
from edgedl.pipeline.compress.validation import Judged, ValidationJudge, validation_judge
from edgedl.pipeline.data import Splits
from edgedl.pipeline.export import export_stage

PICTURE = "sensitivity.png"

MOVING = {
    "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "PAD", "MAX_POOL_2D", "SLICE", "STRIDED_SLICE", "SPLIT", "GATHER",
    "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND",
}  # fmt: skip
"""Ops whose output has the numbers of their input: what they are stored in follows the op before them."""

_CHUNK_BYTES = 256e6


@dataclass(frozen=True)
class Group:
    """The ops of one layer. tensors: names of their outputs, by which the quantizer is told."""

    layer: str
    ops: tuple[str, ...]
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class Calibrated:
    """A model ready to be quantized in parts. plain: the file with all in int8; groups: its layers in order."""

    content: bytes
    plain: bytes
    groups: tuple[Group, ...]
    skipped: tuple[SkippedLayer, ...]
    name: str
    limits: Limits

    def without(self, kept: Collection[Group], io: IO = "float") -> bytes:
        """The int8 file in which these layers stay float32, checked to be so. io: of its inputs and outputs."""
        return next(iter(self.each_without([kept], io)))

    def each_without(self, kept: Sequence[Collection[Group]], io: IO = "float") -> list[bytes]:
        """One file for each. Raises ModelError when the converter did otherwise."""
        names = [{tensor for group in groups for tensor in group.tensors} for groups in kept]
        size = max(1, int(_CHUNK_BYTES // len(self.content)))
        found: list[bytes] = []
        for start in range(0, len(names), size):
            part = names[start : start + size]
            found += quantize_calibrated(self.content, int8_scheme(io), part, name=self.name, limits=self.limits)
        for content, chosen in zip(found, names, strict=True):
            check_selected(content, self.plain, self.content, chosen, self.name)
        return found


def calibrated_model(
    saved_model: Path, calibration: Path, layers: Sequence[str], *, name: str, limits: Limits
) -> Calibrated:
    """Calibrate once. Raises ModelError, StageError."""
    content = calibrate_tflite(saved_model, calibration, int8_scheme(), name=name, limits=limits)
    (plain,) = quantize_calibrated(content, int8_scheme(), [()], name=name, limits=limits)
    ops, stored = computing_ops(content, name, layers), precisions(plain, name)
    groups, skipped = grouped(ops, stored)
    return Calibrated(content, plain, groups, skipped, name, limits)


def grouped(ops: Sequence[ComputingOp], stored: Sequence[str]) -> tuple[tuple[Group, ...], tuple[SkippedLayer, ...]]:
    """The ops by layer, in order; and the layers without any op in int8. stored: type of each op's output in int8."""
    owners: list[str] = []
    for op in ops:
        if op.op in MOVING and op.producer is not None:
            owners.append(owners[op.producer])
        else:
            before = "" if op.producer is None else f" after {owners[op.producer]}"
            owners.append(op.layer or f"{op.op}{before}")
    groups: list[Group] = []
    skipped: list[SkippedLayer] = []
    for layer in dict.fromkeys(owners):
        own = [i for i, owner in enumerate(owners) if owner == layer]
        integer = [i for i in own if stored[i] == "int8"]
        kinds = tuple(ops[i].op for i in own)
        if integer:
            groups.append(Group(layer, kinds, tuple(ops[i].tensor for i in integer)))
        else:
            skipped.append(SkippedLayer(layer, ", ".join(kinds), "the converter has no int8 form for it"))
    return tuple(groups), tuple(skipped)


def layer_sensitivities(
    model: Calibrated, judge: ValidationJudge, folder: Path
) -> tuple[tuple[LayerSensitivity, ...], Judged]:
    """Every layer alone in int8, the most sensitive first; and all of them together.

    folder: for candidates, which are removed again. Raises ModelError, StageError.
    """
    together = judge.judge_bytes(model.plain, folder)
    others = [[one for one in model.groups if one is not group] for group in model.groups]
    rows: list[tuple[Judged, LayerSensitivity]] = []
    with reporter().progress("sensitivity", len(others)) as bar:
        size = max(1, int(_CHUNK_BYTES // len(model.content)))
        for start in range(0, len(others), size):
            for content in model.each_without(others[start : start + size]):
                group = model.groups[len(rows)]
                found = judge.judge_bytes(content, folder)
                row = LayerSensitivity(group.layer, group.ops, group.tensors, found.lost, found.change, found.sqnr_db)
                rows.append((found, row))
                bar.update(len(rows), group.layer)
    rows.sort(key=lambda one: one[0].rank, reverse=True)
    return tuple(row for _, row in rows), together


def sensitivity_stage(
    store: RunStore,
    trained: TrainedModel,
    *,
    data: Splits,
    calibration: Calibration,
    seed: int,
    batch: int | None = 1,
    limits: Limits = DEFAULT_LIMITS,
) -> SensitivityReport:
    """The sensitivity of a model's layers to int8, found in the store or measured now.

    Raises ConfigError, ModelError, StageError.
    """
    plain = export_stage(store, trained, None, "tflite", data=data, batch=batch, limits=limits)
    saved = export_stage(store, trained, None, "saved-model", data=data, batch=batch, limits=limits)

    def make(folder: Path) -> SensitivityReport:
        from edgedl.pipeline.compress.calibration.examples import draw_examples
        from edgedl.pipeline.report.sensitivity_chart import sensitivity_png

        judge = validation_judge(plain.model_path, trained.contract, data, what="sensitivity", seed=seed, limits=limits)
        examples = folder / "calibration.npz"
        record = draw_examples(examples, calibration, trained.contract, data, seed)
        model = calibrated_model(saved.model_path, examples, trained.layers, name=trained.name, limits=limits)
        rows, together = layer_sensitivities(model, judge, folder)
        report = SensitivityReport(
            name=trained.name,
            folder=folder,
            plain=together.change,
            plain_lost=together.lost,
            plain_sqnr_db=together.sqnr_db,
            n=judge.n,
            rows=rows,
            skipped=model.skipped,
            calibration=record,
        )
        sensitivity_png(report, folder / PICTURE)
        return report

    return store.build(
        SensitivityReport,
        "sensitivity",
        make,
        config={"calibration": calibration.model_dump(mode="json"), "batch": batch},
        parents=[trained, plain, saved],
        inputs={"data": data.record.fingerprint},
        seed=seed,
    )
