"""The main job, end to end, on a tiny model: what was promised is asserted on the exported files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedl
from edgedl.core.artifacts import CompressedModel, ExportedModel, Run, TrainedModel, load_artifact
from edgedl.core.errors import ConfigError, ExitCode, ModelError, StageError
from edgedl.core.isolation import Limits
from edgedl.export.inspect import inspect_file
from edgedl.pipeline.run import exit_code, load_run

pytestmark = pytest.mark.tensorflow


def exported(run: Run, name: str, format: str) -> ExportedModel:
    return next(one for one in run.exported if (one.name, one.format) == (name, format))


def test_every_file_is_there_and_gives_the_keras_models_answers(tiny_run: Run) -> None:
    assert {(one.name, one.format) for one in tiny_run.exported} == {
        ("float32", "tflite"), ("float32", "onnx"), ("int8", "tflite"), ("int8", "onnx"), ("dynamic-range", "tflite"),
    }  # fmt: skip
    assert all(one.model_path.is_file() for one in tiny_run.exported)
    assert all(report.passed and report.n == 200 for report in tiny_run.parity)
    float_parity = [report for report in tiny_run.parity if report.precision == "float32"]
    assert all(report.outputs[0].relative_error < 1e-5 for report in float_parity)
    assert exit_code(tiny_run) == ExitCode.FINE


def test_what_a_format_has_not_is_noted(tiny_run: Run) -> None:
    assert any("dynamic-range is not written as onnx" in note for note in tiny_run.notes)


def test_names_and_a_static_batch_of_one_in_every_file(tiny_run: Run) -> None:
    for one in tiny_run.exported:
        assert [(spec.name, spec.shape) for spec in one.inputs] == [("image", (1, 8, 8, 1))]
        assert [(spec.name, spec.shape) for spec in one.outputs] == [("probabilities", (1, 10))]


def test_int8_is_integer_through_and_through(tiny_run: Run) -> None:
    one = exported(tiny_run, "int8", "tflite")
    facts = inspect_file(one.model_path)
    assert facts.precision == "int8"
    assert {op.precision for op in facts.ops} == {"int8"}
    assert one.inputs[0].dtype == one.outputs[0].dtype == "int8"
    assert one.inputs[0].scale == pytest.approx(1 / 255, rel=0.01)  # inputs run from 0 to 1
    assert inspect_file(exported(tiny_run, "int8", "onnx").model_path).precision == "int8"


def test_the_compressed_model_says_what_it_did(tiny_run: Run) -> None:
    int8, dynamic = tiny_run.compressed
    assert int8.integer_ops == 1.0
    assert int8.float_ops == ()
    assert int8.calibration is not None
    assert (int8.calibration.n, int8.calibration.seed, int8.calibration.split) == (200, 3, "train")
    assert int8.quality is not None
    assert int8.quality.interval.low <= int8.quality.loss <= int8.quality.interval.high
    assert int8.size_bytes < 0.5 * int8.float_size_bytes
    assert dynamic.calibration is None


def test_the_same_bytes_are_judged_and_shipped(tiny_run: Run) -> None:
    judged = tiny_run.compressed[0].path("model.tflite").read_bytes()
    assert exported(tiny_run, "int8", "tflite").model_path.read_bytes() == judged


def test_the_contract_travels_with_every_file(tiny_run: Run) -> None:
    from edgedl.export.metadata import read_metadata

    for one in tiny_run.exported:
        assert one.contract == tiny_run.trained.contract
        if one.format == "tflite":
            metadata = read_metadata(one.model_path)
            assert metadata.contract == tiny_run.trained.contract
            assert metadata.description == "Reads one digit."
    contract = tiny_run.trained.contract
    assert contract.outputs[0].labels == tuple("0123456789")
    assert (contract.inputs[0].mean, contract.inputs[0].std, contract.inputs[0].raw_range) == ((0.0,), (16.0,), (0, 16))


def test_latency_is_of_every_file_in_one_session(tiny_run: Run) -> None:
    (report,) = tiny_run.latency
    assert report.obtained == "measured"
    assert [model.file for model in report.models] == [one.model_file for one in tiny_run.exported]
    layers = {op.layer for op in report.models[0].ops}
    assert {"stage1_conv1", "stage2_conv2"} <= layers
    assert all(model.timing and model.timing.n > 100 for model in report.models)


def test_the_report_holds_the_same_facts(tiny_run: Run) -> None:
    page = (tiny_run.folder / "report.html").read_text()
    facts = json.loads((tiny_run.folder / "report.json").read_text())
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    assert len(facts["variants"]) == 5
    assert f"{tiny_run.exported[0].size_bytes / 1000:.0f}" in page or "KiB" in page or "kB" in page


def test_run_again_does_nothing_again(tiny_run: Run, tiny_recipe: dict[str, Any]) -> None:
    again = edgedl.run(tiny_recipe, out=tiny_run.folder)
    made = [tiny_run.trained, *tiny_run.compressed, *tiny_run.exported, *tiny_run.parity, *tiny_run.latency]
    assert {one.folder.name for one in made} <= set(again.reused)
    assert again.trained == tiny_run.trained
    assert again.exported == tiny_run.exported


def test_a_changed_stage_redoes_itself_and_what_follows(
    tiny_run: Run, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_run.folder, folder)
    changed = tiny_recipe | {"compress": [{"method": "int8", "calibration": {"n": 50}}, "dynamic-range"]}
    again = edgedl.run(changed | {"profile": {"devices": []}}, out=folder)
    assert any(name.startswith("train-") for name in again.reused)
    assert any(name.startswith("compress-dynamic-range-") for name in again.reused)
    assert not any("int8" in name for name in again.reused)
    int8 = again.compressed[0]
    assert int8.calibration is not None
    assert int8.calibration.n == 50
    assert int8.folder.is_dir()


def test_a_finished_run_is_read_back(tiny_run: Run) -> None:
    assert load_run(tiny_run.folder).exported == tiny_run.exported
    assert load_run(tiny_run.folder).verdicts == tiny_run.verdicts


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(tiny_run: Run, tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    other = edgedl.run(tiny_recipe | {"profile": {"devices": []}, "compress": ["int8"]}, out=tmp_path / "other")
    for format in ("tflite", "onnx"):
        for name in ("float32", "int8"):
            mine, theirs = exported(other, name, format), exported(tiny_run, name, format)
            assert mine.model_path.read_bytes() == theirs.model_path.read_bytes(), (name, format)


@pytest.mark.slow
def test_every_technique_on_a_users_file(trained: TrainedModel, tmp_path: Path) -> None:
    file = tmp_path / "mine.keras"
    shutil.copy(trained.path("model.keras"), file)
    for method in ("dynamic-range", "float16"):
        found = edgedl.compress(file, method, out=tmp_path / "run")
        assert found.quality is None
        assert found.size_bytes < found.float_size_bytes
    half = edgedl.compress(file, "float16", out=tmp_path / "run")
    assert inspect_file(half.path("model.tflite")).precision == "float16"
    with pytest.raises(ConfigError, match="int8 needs data"):
        edgedl.compress(file, "int8", out=tmp_path / "run")
    for section in ({"method": "int8", "io": "float"}, {"method": "int16x8"}, {"method": "int16x8", "io": "integer"}):
        found = edgedl.compress(file, section | {"name": "x"}, data="digits", out=tmp_path / "data")
        assert found.quality is not None
        assert found.quality.loss < 3
        assert found.integer_ops == 1.0
        spec = inspect_file(found.path("model.tflite")).inputs[0]
        assert spec.dtype == {"float": "float32", "integer": "int16"}[found.quantization.io]
        assert edgedl.export(found, "tflite").quality == found.quality.after


def test_the_other_formats(tiny_run: Run, tmp_path: Path) -> None:
    saved = edgedl.export(tiny_run.folder, "saved-model")
    assert (saved.model_path / "saved_model.pb").is_file()
    array = edgedl.export(tiny_run.compressed[0], "c-array")
    sources = list(array.folder.glob("*.c")) + list(array.folder.glob("*.cc"))
    assert sources
    subprocess.run(["gcc", "-std=c11", "-c", sources[0], "-I", array.folder, "-o", tmp_path / "a.o"], check=True)
    with pytest.raises(ModelError, match="cannot be written as onnx"):
        edgedl.export(tiny_run.compressed[1], "onnx")
    with pytest.raises(ConfigError, match="tflite, onnx"):
        edgedl.export(tiny_run.folder, "tflight")
    dynamic = edgedl.export(tiny_run.folder, "tflite", batch=None)
    assert dynamic.inputs[0].shape[0] in (-1, 1)
    four = edgedl.export(tiny_run.folder, "onnx", batch=4)
    assert four.inputs[0].shape == (4, 8, 8, 1)
    assert four.quality == exported(tiny_run, "float32", "onnx").quality or four.quality is not None


def test_verify_tells_a_file_of_another_model(tiny_run: Run, tmp_path: Path) -> None:
    file = exported(tiny_run, "float32", "tflite").model_path
    good = edgedl.verify(file, tiny_run.trained.path("model.keras"))
    assert good.passed
    assert "random inputs" in good.examples
    other = edgedl.train(
        {"data": {"source": "digits"}, "model": {"family": "mlp"}, "train": {"epochs": 1}}, out=tmp_path / "other"
    )
    bad = edgedl.verify(file, other)
    assert not bad.passed
    assert "relative error" in bad.failures[0]


def test_check_of_accuracy_and_size(tiny_run: Run) -> None:
    new, old = (exported(tiny_run, name, "tflite") for name in ("int8", "float32"))
    verdict = edgedl.check(new, old, max_slowdown=None, max_size_growth=0.0, max_accuracy_drop=5.0, data="digits")
    assert {finding.what: finding.outcome for finding in verdict.findings}["size"] == "improved"
    assert verdict.latency is None
    worse = edgedl.check(old, new, max_slowdown=None, max_size_growth=0.1)
    assert worse.outcome == "regressed"


def test_weights_that_float16_cannot_hold_are_refused(tmp_path: Path) -> None:
    import tf_keras

    model = tf_keras.Sequential([tf_keras.Input((4,), name="x"), tf_keras.layers.Dense(3, use_bias=False, name="big")])
    model.set_weights([np.full((4, 3), 1e6, np.float32)])
    with pytest.raises(ModelError, match="float16 cannot hold the weights"):
        edgedl.compress(model, "float16", out=tmp_path)


# --- what takes the converter down -------------------------------------------------------------------------------


@pytest.fixture
def gru(tmp_path: Path) -> Path:
    """int8 calibration of a tf_keras GRU crashes TensorFlow's calibrator (seen with 2.21)."""
    import tf_keras
    from tf_keras import layers

    head = layers.Dense(3, activation="softmax")
    model = tf_keras.Sequential([tf_keras.Input((8, 4), name="x"), layers.GRU(8), head])
    model.save(tmp_path / "gru.keras", save_format="keras")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.normal(size=(90, 8, 4)).astype("f4"), y=np.arange(90) % 3)
    return tmp_path / "gru.keras"


def test_a_converter_that_crashes_is_one_clear_error_and_harms_nothing(gru: Path, tmp_path: Path) -> None:
    data, run = f"npz:{tmp_path / 'd.npz'}", tmp_path / "run"
    before = edgedl.compress(gru, "dynamic-range", data=data, out=run)
    with pytest.raises(StageError) as caught:
        edgedl.compress(gru, "int8", data=data, out=run)
    text = str(caught.value)
    assert all(word in text for word in ("int8 conversion to TFLite", "gru", "SIGSEGV", "dynamic-range or float16"))
    assert load_artifact(before.folder) == before
    assert [one.name for one in _compressed(run)] == ["dynamic-range"]
    assert not list(run.glob(".*.partial"))


@pytest.mark.parametrize(
    ("limits", "words"), [(Limits(time_s=0.2), "time limit of 0.2 s"), (Limits(memory_mb=50), "memory limit of 50 MB")]
)
def test_a_converter_beyond_its_limits_is_stopped(
    trained: TrainedModel, tmp_path: Path, limits: Limits, words: str
) -> None:
    with pytest.raises(StageError, match=words):
        edgedl.export(trained.path("model.keras"), "tflite", out=tmp_path, limits=limits)
    assert not list(tmp_path.glob("export-*"))


def _compressed(folder: Path) -> list[CompressedModel]:
    found = [load_artifact(path.parent) for path in folder.glob("compress-*/manifest.json")]
    return [one for one in found if isinstance(one, CompressedModel)]
