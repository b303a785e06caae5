"""The export stage: one variant of a trained model into one format, judged on the exported file."""

from __future__ import annotations

from pathlib import Path

from edgedl.core.artifacts import CompressedModel, ExportedModel, QualityChange, TrainedModel
from edgedl.core.files import gzip_size
from edgedl.core.isolation import DEFAULT_LIMITS, Limits
from edgedl.core.provenance import version_of
from edgedl.core.store import RunStore
from edgedl.export import Exporter, ExportSource
from edgedl.export.inspect import inspect_file
from edgedl.export.tflite import FLOAT32
from edgedl.pipeline.compiled import exporter_of, is_compiled
from edgedl.pipeline.compress.altering import model_behind
from edgedl.pipeline.data import Splits
from edgedl.pipeline.judge import judge


def refusal(variant: CompressedModel | None, format: str) -> str | None:
    """Why this variant is not written in this format, or None.

    Raises ConfigError for an unknown format, UnavailableError for a device whose compiler is not there.
    """
    if variant is not None and format == "onnx" and any(one.kept for one in variant.tried):
        return "its repairs are in the TFLite file; ONNX's int8 is quantized from the float model, without them"
    return exporter_of(format).refusal(variant.quantization if variant else FLOAT32)


def export_stage(
    store: RunStore,
    trained: TrainedModel,
    variant: CompressedModel | None,
    format: str,
    *,
    data: Splits | None,
    batch: int | None = 1,
    limits: Limits = DEFAULT_LIMITS,
) -> ExportedModel:
    """The variant (None: float32) in that format, found in the store or made now.

    data: judges the file on the test split; None leaves it unjudged. batch: static batch size, None leaves it open.
    Raises ModelError when the format cannot hold it, StageError when a converter is lost.
    """
    behind = model_behind(store.folder, trained, variant.altered if variant else None)
    made_from: list[CompressedModel | ExportedModel] = [variant] if variant else []
    needs: dict[str, Path] = {}
    exporter = exporter_of(format)
    for need in exporter.needs:
        if need == "tflite" or (need == "saved_model" and variant is not None):
            continue  # a variant brings its own .tflite file
        if need == "float_onnx" and variant is None:
            continue
        source_format = "onnx" if need.endswith("onnx") else "saved-model"
        precision = variant if need == "onnx" else None
        found = export_stage(
            store, trained if precision else behind, precision, source_format, data=data, batch=batch, limits=limits
        )
        needs[need] = found.model_path
        made_from.append(found)
    tflite = variant.path(variant.model_file) if variant else None
    if tflite is None and "tflite" in exporter.needs:
        float_tflite = export_stage(store, trained, None, "tflite", data=data, batch=batch, limits=limits)
        tflite = float_tflite.model_path
        made_from.append(float_tflite)
    name = variant.name if variant else "float32"
    tool = {"tool": f"{exporter.tool} {version_of(exporter.tool)}"} if exporter.tool else {}
    source = ExportSource(
        name=trained.name,
        variant=name,
        quantization=variant.quantization if variant else FLOAT32,
        contract=trained.contract,
        layers=behind.layers,
        keras=behind.path(behind.model_file),
        batch=batch,
        limits=limits,
        tflite=tflite,
        calibration=variant.path("calibration.npz") if variant and variant.calibration else None,
        **needs,
    )
    return store.build(
        ExportedModel,
        f"export-{name}-{format.replace(':', '-')}",
        lambda folder: _export(folder, source, exporter, trained, variant, data),
        config={"variant": name, "format": format, "batch": batch, "judged": data is not None, **tool},
        parents=[trained, *made_from],
    )


def _export(
    folder: Path,
    source: ExportSource,
    exporter: Exporter,
    trained: TrainedModel,
    variant: CompressedModel | None,
    data: Splits | None,
) -> ExportedModel:
    path, format = exporter.write(source, folder), exporter.format
    change: QualityChange | None = None
    if variant is not None and format in {"tflite", "c-array"}:
        change = variant.quality  # the same bytes
    elif data is not None and path.suffix in {".tflite", ".onnx"} and not is_compiled(format):
        change = judge(path, trained, data, of=f"{format} {source.quantization.method}", folder=folder)
    facts = inspect_file(path) if path.suffix in {".tflite", ".onnx", ".mlpackage"} else None
    notes = facts.notes if facts else ()
    if is_compiled(format):
        notes = (f"compiled for {format}: it runs there alone, so it is not judged here; its source file is", *notes)
    # A C array compiles to the bytes of its .tflite file; a folder is all of its files.
    counted = source.tflite if format == "c-array" and source.tflite is not None else path
    counted = folder if is_compiled(format) else counted
    files = [counted] if counted.is_file() else [one for one in counted.rglob("*") if one.is_file()]
    return ExportedModel(
        name=source.variant,
        folder=folder,
        format=format,
        precision=source.quantization.method,
        model_file=path.name,
        contract=source.contract,
        inputs=facts.inputs if facts else (),
        outputs=facts.outputs if facts else (),
        size_bytes=sum(one.stat().st_size for one in files),
        gzip_bytes=sum(gzip_size(one) for one in files),
        layers=source.layers,
        change=change,
        altered=variant.altered if variant else None,
        notes=notes,
    )
