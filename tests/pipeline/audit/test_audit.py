"""Whole audits: of the tiny run, of a file that was damaged, of other tasks; limits that gate."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedl.core.artifacts import Audit, Run, from_json, load_artifact, to_json
from edgedl.core.errors import ConfigError
from edgedl.core.statistics import exact
from edgedl.pipeline.audit.words import audit_lines, failures, figure_words
from edgedl.pipeline.run import exit_code, load_run

pytestmark = pytest.mark.tensorflow

KEYS = {"per_class_drop", "changed", "calibration_error", "corruption_drop", "fgsm_drop", "disagreement"}


def test_every_variant_of_a_run_has_one(tiny_run: Run):
    assert [one.name for one in tiny_run.audits] == [one.name for one in tiny_run.compressed]
    for audit in tiny_run.audits:
        assert {one.key for one in audit.figures} == KEYS
        assert all(one.obtained == "measured" and one.n > 0 for one in audit.figures)
        assert [one.what for one in audit.figures if one.key == "per_class_drop"] == [f"class {i}" for i in range(10)]
        assert from_json(Audit, to_json(audit)) == replace(audit, folder=Path())
        assert load_artifact(audit.folder) == audit
    assert load_run(tiny_run.folder).audits == tiny_run.audits


def test_its_figures_agree_with_the_files_judging(tiny_run: Run):
    """The classes' accuracies, weighted, are the accuracy; right to wrong less wrong to right is its loss."""
    for audit, variant in zip(tiny_run.audits, tiny_run.compressed, strict=True):
        assert variant.quality is not None
        classes = [one for one in audit.figures if one.key == "per_class_drop"]
        whole = sum(one.n for one in classes)
        assert whole == variant.quality.after.n
        for side, judged in (("before", variant.quality.before), ("after", variant.quality.after)):
            mean = sum(one.n * getattr(one, side).value for one in classes) / whole
            assert mean == pytest.approx(judged.value)
        turns = {one.what: one.change.value for one in audit.figures if one.key == "changed"}
        assert turns["right to wrong"] - turns["wrong to right"] == pytest.approx(variant.quality.loss)
        assert turns["changed predictions"] >= turns["right to wrong"] + turns["wrong to right"] - 1e-9


def test_corruption_and_attack_hurt_the_model_before(tiny_run: Run):
    figures = {one.what: one for one in tiny_run.audits[0].figures}
    quality = tiny_run.trained.quality
    assert quality is not None
    for name in ("noise", "blur", "shift", "FGSM"):
        before = figures[name].before
        assert before is not None and before.value <= quality.value + 0.01, name
    assert figures["blur"].before is not None and figures["blur"].before.value < quality.value


def test_the_report_and_the_terminal_show_it(tiny_run: Run):
    report = json.loads((tiny_run.folder / "report.json").read_text())
    assert [one["name"] for one in report["audits"]] == [one.name for one in tiny_run.audits]
    page = (tiny_run.folder / "report.html").read_text()
    assert 'id="audit"' in page and "shuffled pixels" in page
    lines = audit_lines(tiny_run.audits[0])
    assert len(lines) <= 8 and any("worst of 10 classes" in one for one in lines)


def test_the_same_seed_gives_the_same_audit(tiny_run: Run, tmp_path: Path):
    import edgedl

    folder = tmp_path / "again"
    shutil.copytree(tiny_run.folder, folder)
    for one in [*folder.glob("audit-*")]:
        shutil.rmtree(one)
    variant = load_artifact(folder / tiny_run.compressed[0].folder.name)
    again = edgedl.audit(variant)
    assert again.record.content_hash == tiny_run.audits[0].record.content_hash


def test_a_damaged_file_breaks_its_limits(tiny_run: Run, tmp_path: Path):
    """The int8 file's largest weights stand in reverse: it must not pass, and the sentences name what broke."""
    import edgedl
    from edgedl.core.store import RunStore
    from edgedl.pipeline.audit.config import AuditConfig
    from edgedl.pipeline.audit.stage import audit_stage
    from edgedl.pipeline.verbs import open_model

    folder = tmp_path / "damaged"
    shutil.copytree(tiny_run.folder, folder)
    variant = load_artifact(folder / tiny_run.compressed[0].folder.name)
    limits = dict.fromkeys(KEYS, 2.0)
    fine = edgedl.audit(variant, {"limits": {"changed": 90.0}})
    assert fine.outcome == "pass"
    path = variant.path("model.tflite")
    evidence = np.zeros(variant.quality.after.n, bool)  # type: ignore[attr-defined]
    np.savez(variant.path("test-evidence.npz"), evidence=evidence)
    path.write_bytes(_with_shuffled_weights(path))
    variant = replace(variant, record=replace(variant.record, content_hash="damaged"))
    with open_model(folder) as work:
        store = RunStore(folder)
        config = AuditConfig.model_validate({"limits": limits})
        audit = audit_stage(store, work.trained, variant, config, data=work.data, seed=work.seed)  # type: ignore[arg-type]
    assert audit is not None and audit.outcome == "regressed"
    broken = {one.key for one in audit.figures if one.outcome == "regressed"}
    assert {"per_class_drop", "changed", "corruption_drop", "fgsm_drop", "disagreement"} <= broken
    assert any("changed: changed predictions" in sentence for sentence in failures(audit))
    assert exit_code(replace(tiny_run, audits=(audit,))) == 1


def _with_shuffled_weights(path: Path) -> bytes:
    """The file with the bytes of its largest constant in reverse."""
    from edgedl.core.tflite_schema import buffer_bytes, read_tflite

    content = path.read_bytes()
    model = read_tflite(content, path.name)
    largest = max((buffer_bytes(model, content, i) for i in range(1, len(model.buffers))), key=len)
    assert content.count(largest) == 1
    return content.replace(largest, largest[::-1])


@pytest.mark.parametrize(
    ("data", "model", "judged", "missing"),
    [
        (
            "values",
            {"family": "mlp", "hidden": [16]},
            {"changed", "corruption_drop", "fgsm_drop"},
            "accuracy of each class",
        ),
        pytest.param(
            *("copy-sequence", {"family": "transformer-decoder"}, {"changed", "disagreement"}, "corruptions"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "digits",
            {"family": "autoencoder"},
            {"changed", "corruption_drop", "fgsm_drop", "disagreement"},
            "calibration",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_other_tasks_get_what_applies(data: str, model: dict[str, Any], judged: set[str], missing: str, tmp_path: Path):
    import edgedl

    source: dict[str, Any] = {"source": data, **({"n": 400} if data == "copy-sequence" else {})}
    if data == "values":
        x = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
        np.savez(tmp_path / "values.npz", x=x, y=(x[:, :2] @ [[1.0], [-2.0]] + 0.5).astype(np.float32))
        source = {"source": "npz", "file": str(tmp_path / "values.npz")}
    recipe = {"name": "t", "data": source, "model": model, "train": {"epochs": 1}}
    audit = edgedl.audit(edgedl.compress(edgedl.train(recipe, out=tmp_path / "run"), "dynamic-range"), {"n": 50})
    assert judged <= {one.key for one in audit.figures} <= KEYS - {"per_class_drop", "calibration_error"}
    assert any(missing in one for one in audit.does_not_apply)
    assert all(one.n == 50 for one in audit.figures)
    assert all(np.isfinite([one.change.low, one.change.value, one.change.high]).all() for one in audit.figures)


def test_no_data_no_audit(tiny_run: Run, tmp_path: Path):
    import edgedl

    variant = edgedl.compress(tiny_run.trained.folder / "model.keras", "dynamic-range", out=tmp_path / "run")
    with pytest.raises(ConfigError, match="needs test examples"):
        edgedl.audit(variant)


@pytest.mark.parametrize("config", [{"limits": {"changd": 1}}, {"limits": {"changed": -1}}, {"n": 0}, {"severity": 6}])
def test_settings_that_mean_nothing(config: dict[str, Any], tiny_run: Run):
    import edgedl

    with pytest.raises(ConfigError, match="audit"):
        edgedl.audit(tiny_run.compressed[0], config)


def test_words():
    from edgedl.core.artifacts import AuditFigure

    one = AuditFigure("corruption_drop", "noise", exact(0.9), exact(0.8), exact(10.0), "points", 9, 5.0, "regressed")
    assert figure_words(one) == "noise: 90 → 80 %, +10 points [10, 10], limit 5: regressed"
    other = AuditFigure("corruption_drop", "noise", exact(0.25), exact(0.5), exact(0.25), "mae", 9)
    assert figure_words(other) == "noise: 0.25 → 0.5, +0.25 [0.25, 0.25]"
