"""What a report says, as plain JSON: `report.json` is this, and `report.html` shows nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedl.core.artifacts import (
    Artifact,
    Audit,
    CompressedModel,
    ExportedModel,
    LatencyReport,
    ModelLatency,
    QualityChange,
    Run,
    Verdict,
    kind_of,
    to_json,
)
from edgedl.pipeline.audit.words import failures, figure_words
from edgedl.pipeline.compress.words import step_words
from edgedl.pipeline.pays import does_not_pay
from edgedl.pipeline.report import words

CLASSES_SHOWN = 10  # of an audit, those that lost most; report.json has all
FORMAT = 1  # of report.json; raised when a key changes its meaning


def report_facts(run: Run) -> dict[str, Any]:
    """All that a report shows of a run, in JSON types. Raw latency samples stay in the latency manifests."""
    variants = _variants(run)
    status, sentence = _verdict(run, variants)
    return {
        "format": FORMAT,
        "name": run.name,
        "description": run.trained.contract.description,
        "status": status,
        "sentence": sentence,
        "headline": _headline(run, variants),
        "seconds": run.seconds,
        "created_at": max((one.record.created_at for one in _artifacts(run)), default=""),
        "task": run.trained.contract.task,
        "contract": to_json(run.trained.contract),
        "model": {
            "parameters": run.trained.parameters,
            "macs": run.trained.macs,
            "origin": run.trained.origin,
            "quality": _quality(run.trained.quality),
        },
        "data": to_json(run.trained.data) if run.trained.data else None,
        "training": {
            "history": [dict(epoch) for epoch in run.trained.history],
            "traces": dict(run.trained.traces),
            "stopped": run.trained.stopped,
            "best_epoch": run.trained.best_epoch,
            "seconds": run.trained.record.seconds,
        },
        "variants": variants,
        "parity": [_without(to_json(one), "record") for one in run.parity],
        "latency": [_latency(one) for one in run.latency],
        "checks": [_without(to_json(one), "record", "latency") for one in run.verdicts],
        "audits": [_audit(one) for one in run.audits],
        "notes": _notes(run),
        "recipe": dict(run.recipe),
        "provenance": {
            "machines": sorted({one.record.machine for one in _artifacts(run)} - {""}),
            "versions": dict(run.trained.record.versions),
            "artifacts": [_origin(one, run) for one in _artifacts(run)],
        },
    }


def _artifacts(run: Run) -> list[Artifact]:
    return [run.trained, *run.compressed, *run.exported, *run.parity, *run.latency, *run.verdicts, *run.audits]


def _without(data: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in keys}


def _quality(judged: Any) -> dict[str, Any] | None:
    return to_json(judged) if judged is not None else None


def _origin(artifact: Artifact, run: Run) -> dict[str, Any]:
    folder = artifact.folder.name
    return {
        "kind": kind_of(artifact),
        "name": artifact.name,
        "folder": folder,
        "content_hash": artifact.record.content_hash,
        "parents": list(artifact.record.parents),
        "seed": artifact.record.seed,
        "created_at": artifact.record.created_at,
        "seconds": artifact.record.seconds,
        "reused": folder in {Path(one).name for one in run.reused},
    }


# --- variants ----------------------------------------------------------------------------------------------------


def _variants(run: Run) -> list[dict[str, Any]]:
    """One row per exported file, and one per compressed model that was not exported."""
    compressed = {one.name: one for one in run.compressed}
    rows = [_exported_row(run, one, compressed.get(one.name)) for one in run.exported]
    exported = {one.name for one in run.exported}
    rows += [_compressed_row(run, one) for one in run.compressed if one.name not in exported]
    float_rows = {row["format"]: row for row in reversed(rows) if row["variant"] == "float32"}
    for row in rows:
        base = float_rows.get(row["format"])
        row["size_ratio"] = row["size_bytes"] / base["size_bytes"] if base and base is not row else None
        row["gzip_ratio"] = row["gzip_bytes"] / base["gzip_bytes"] if base and base is not row else None
    return rows


def _exported_row(run: Run, one: ExportedModel, compressed: CompressedModel | None) -> dict[str, Any]:
    file = Path(one.model_file).name
    parity = next((report for report in run.parity if report.name == one.name and report.format == one.format), None)
    return {
        "variant": one.name,
        "format": one.format,
        "precision": one.precision,
        "file": file,
        "size_bytes": one.size_bytes,
        "gzip_bytes": one.gzip_bytes,
        "quality": _quality(one.quality),
        "loss": _loss(one.change),
        "latency": [found for report in run.latency if (found := _latency_of(report, file, one)) is not None],
        "parity": None if parity is None else parity.passed,
        **_compression(compressed if one.format == "tflite" else None),
    }


def _compressed_row(run: Run, one: CompressedModel) -> dict[str, Any]:
    return {
        "variant": one.name,
        "format": "tflite",
        "precision": one.quantization.method,
        "file": one.model_file,
        "size_bytes": one.size_bytes,
        "gzip_bytes": one.gzip_bytes,
        "quality": _quality(one.quality.after if one.quality else None),
        "loss": _loss(one.quality),
        "latency": [],
        "parity": None,
        **_compression(one),
    }


def _compression(one: CompressedModel | None) -> dict[str, Any]:
    return {
        "integer_ops": one.integer_ops if one and one.quantization.needs_calibration else None,
        "float_ops": [to_json(op) for op in one.float_ops] if one else [],
        "calibration": to_json(one.calibration) if one and one.calibration else None,
    }


def _loss(change: QualityChange | None) -> dict[str, Any] | None:
    """Quality lost against the Keras model, judged on the same examples."""
    if change is None:
        return None
    unit = "points" if change.after.is_share else change.after.metric
    return {"value": change.loss, "unit": unit, "interval": to_json(change.interval)}


def _latency_of(report: LatencyReport, file: str, one: ExportedModel) -> dict[str, Any] | None:
    """This file's figures in a session; found by content, else by name."""
    hashes = {entry.sha256 for entry in one.record.files}
    found = next((model for model in report.models if model.sha256 in hashes), None) or next(
        (model for model in report.models if Path(model.file).name == file), None
    )
    if found is None:
        return None
    speed = report.speed(found)
    if speed is None:
        return None
    first = report.models[0]
    return {
        "device": report.device,
        "obtained": speed.obtained,
        "what": speed.what,
        "unit": speed.unit,
        "n": speed.n,
        "value": to_json(speed.value),
        "ratio": to_json(speed.ratio) if speed.ratio else None,
        "against": None if found is first else Path(first.file).name,
    }


def _audit(audit: Audit) -> dict[str, Any]:
    """The figures in groups that a page shows one after the other, the classes that lost most first."""
    content = _without(to_json(audit), "record")
    for one, words_of in zip(content["figures"], audit.figures, strict=True):
        one["words"] = figure_words(words_of)
    content["figures"].sort(key=lambda one: -one["change"]["value"] if one["key"] == "per_class_drop" else 0.0)
    order = [one.key for one in audit.figures]
    content["figures"].sort(key=lambda one: order.index(one["key"]))
    classes = [one for one in content["figures"] if one["key"] == "per_class_drop"]
    content["classes"], content["classes_shown"] = len(classes), min(len(classes), CLASSES_SHOWN)
    return content | {"outcome": audit.outcome if any(one.outcome for one in audit.figures) else None}


# --- latency, notes ----------------------------------------------------------------------------------------------


def _latency(report: LatencyReport) -> dict[str, Any]:
    facts = _without(to_json(report), "record", "models")
    models = [_model_latency(model) for model in report.models]
    return facts | {"models": models, "does_not_pay": does_not_pay(report)}


def _model_latency(model: ModelLatency) -> dict[str, Any]:
    timing = None
    if model.timing:
        timing = _without(to_json(model.timing), "blocks_us") | {"n": model.timing.n}
    return to_json(model) | {"timing": timing, "file": Path(model.file).name}


def _notes(run: Run) -> list[str]:
    """What was skipped, fell back or is worth knowing; each once, in order."""
    notes = list(run.notes)
    if run.trained.data:
        notes += [f"data: {one}" for one in run.trained.data.skipped]
    for one in run.compressed:
        notes += [f"{one.name}: {sentence}" for step in one.steps for sentence in step_words(step)]
        notes += [f"{one.name}: {note}" for note in one.notes]
        if one.float_ops:
            names = ", ".join(sorted({op.op for op in one.float_ops}))
            notes.append(f"{one.name}: {len(one.float_ops)} op(s) stayed in float ({names})")
    for one in run.exported:
        notes += [f"{one.name} {one.format}: {note}" for note in one.notes]
    for report in run.latency:
        for model in report.models:
            notes += [f"{Path(model.file).name} on {report.device}: {note}" for note in model.notes]
    return list(dict.fromkeys(notes))


# --- the verdict in a sentence, and the key figures --------------------------------------------------------------


def _verdict(run: Run, variants: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """("good" | "bad" | "open", one sentence): what failed comes first, else what was gained."""
    failed = [report for report in run.parity if not report.passed]
    regressed = [*_findings(run.verdicts, "regressed"), *_beyond(run, "regressed")]
    if failed:
        files = ", ".join(report.file for report in failed)
        return "bad", f"{len(failed)} of {len(run.parity)} files do not give the Keras model's answers: {files}."
    if regressed:
        return "bad", f"{len(regressed)} check(s) failed: {'; '.join(regressed)}."
    gained = _gained(run, variants)
    unclear = [*_findings(run.verdicts, "inconclusive"), *_beyond(run, "inconclusive")]
    if unclear:
        return "open", f"{gained} {len(unclear)} check(s) could not be decided: {'; '.join(unclear)}."
    return "good", gained


def _findings(verdicts: Sequence[Verdict], outcome: str) -> list[str]:
    return [finding.sentence.rstrip(".") for one in verdicts for finding in one.findings if finding.outcome == outcome]


def _beyond(run: Run, outcome: str) -> list[str]:
    return [f"audit of {sentence}" for one in run.audits for sentence in failures(one, outcome)]


def _gained(run: Run, variants: Sequence[Mapping[str, Any]]) -> str:
    smaller = [row for row in variants if row["gzip_ratio"] is not None and row["gzip_ratio"] < 1]
    agreed = f"All {len(run.parity)} files give the Keras model's answers; " if len(run.parity) > 1 else ""
    if not smaller:
        return agreed + _plain(run, variants)
    best = min(smaller, key=lambda row: (row["gzip_bytes"], row["format"] != "tflite"))
    the = "the" if agreed else "The"
    sentence = (
        f"{the} smallest, {best['variant']} as {best['format']}, is {1 / best['gzip_ratio']:.1f}× smaller than float32"
    )
    if best["loss"] is not None:
        sentence += f", {_loss_in_words(best['loss'])}"
    ratio = _ratio_to_float32(best, variants)
    if ratio is not None:
        speed = f"{1 / ratio:.1f}× faster" if ratio < 0.95 else f"{ratio:.1f}× slower" if ratio > 1.05 else "as fast"
        device, how = best["latency"][0]["device"], best["latency"][0]["obtained"]
        sentence += f"{', but' if ratio > 1.05 else ' and'} {speed} on {device} ({how})"
    return f"{agreed}{sentence}{_fastest_instead(best, variants)}."


def _fastest_instead(best: Mapping[str, Any], variants: Sequence[Mapping[str, Any]]) -> str:
    """The variant that is clearly faster than float32, where it is not the smallest one; else nothing."""
    ratios = [(ratio, row) for row in variants if (ratio := _ratio_to_float32(row, variants)) is not None]
    ratio, row = min(ratios, key=lambda pair: pair[0], default=(1.0, best))
    if row is best or ratio >= 0.95:
        return ""
    return f"; the fastest, {row['variant']} as {row['format']}, is {1 / ratio:.1f}× faster than float32"


def _loss_in_words(loss: Mapping[str, Any]) -> str:
    unit = "points of accuracy" if loss["unit"] == "points" else f"of {loss['unit']}"
    value = loss["value"]
    if abs(value) < 0.005 if loss["unit"] == "points" else value == 0:
        return f"with no change {'in accuracy' if loss['unit'] == 'points' else 'in ' + loss['unit']}"
    amount = f"{abs(value):.2f}" if loss["unit"] == "points" else words.number(abs(value))
    if loss["unit"] == "points":
        return f"{'losing' if value > 0 else 'gaining'} {amount} {unit}"
    return f"with {amount} {'more' if value > 0 else 'less'} {loss['unit']}"


def _ratio_to_float32(row: Mapping[str, Any], variants: Sequence[Mapping[str, Any]]) -> float | None:
    """Speed over that of the float32 file of the same format in the same session."""
    base = next((one for one in variants if one["variant"] == "float32" and one["format"] == row["format"]), None)
    if base is None or base is row or not base["latency"] or not row["latency"]:
        return None
    return row["latency"][0]["value"]["value"] / base["latency"][0]["value"]["value"]


def _plain(run: Run, variants: Sequence[Mapping[str, Any]]) -> str:
    judged = _quality(run.trained.quality)
    parts = (
        [f"{words.quality(judged)} {words.metric(judged['metric'])} on {judged['n']} {judged['split']} examples"]
        if judged
        else []
    )
    if variants:
        parts.append(f"{words.size(variants[0]['size_bytes'])} as {variants[0]['format']}")
        if variants[0]["latency"]:
            found = variants[0]["latency"][0]
            parts.append(f"{words.speed(found)} on {found['device']} ({found['obtained']})")
    parts = parts or [f"{words.count(run.trained.parameters)} parameters"]
    return f"{run.name}: {', '.join(parts)}."


def _headline(run: Run, variants: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Key figures: label, value, and how it came to be."""
    cards: list[dict[str, str]] = []
    judged = _quality(run.trained.quality)
    if judged:
        detail = f"95 % interval {words.quality_range(judged)}; {judged['n']} {judged['split']} examples"
        name = words.metric(judged["metric"])
        label = f"{name[0].upper()}{name[1:]}, float32"
        cards.append({"label": label, "value": words.quality(judged), "detail": f"{detail}, {judged['obtained']}"})
    if variants:
        smallest = min(variants, key=lambda row: row["gzip_bytes"])
        detail = f"{smallest['variant']} {smallest['format']}, gzipped; {words.size(smallest['size_bytes'])} raw"
        cards.append({"label": "Smallest file", "value": words.size(smallest["gzip_bytes"]), "detail": detail})
    timed = [(row["latency"][0], row) for row in variants if row["latency"]]
    if timed:
        found, row = min(timed, key=lambda pair: pair[0]["value"]["value"])
        figures = f"p10 of {words.count(found['n'])}, {found['obtained']}" if found["n"] else found["obtained"]
        detail = f"{row['variant']} {row['format']} on {found['device']}, {figures}"
        cards.append({"label": "Fastest inference", "value": words.speed(found), "detail": detail})
    if run.parity:
        passed = sum(report.passed for report in run.parity)
        detail = "files give the Keras model's answers, measured"
        cards.append({"label": "Parity", "value": f"{passed} of {len(run.parity)}", "detail": detail})
    if run.verdicts:
        outcomes = [finding.outcome for one in run.verdicts for finding in one.findings]
        fine = sum(outcome in ("pass", "improved") for outcome in outcomes)
        cards.append({"label": "Checks", "value": f"{fine} of {len(outcomes)}", "detail": "within their limits"})
    return cards
