"""Formats that are a device's own: what its vendor's compiler makes of a variant."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.tiny_models import dense_onnx, dense_tflite, model_file

import edgedl
from edgedl.core.artifacts import CompressedModel, Run
from edgedl.core.errors import ConfigError, ModelError, UnavailableError
from edgedl.core.isolation import run_isolated
from edgedl.devices import find_device
from edgedl.export.inspect import inspect_file
from edgedl.pipeline.compiled import compilers
from edgedl.pipeline.export import refusal
from edgedl.pipeline.verbs import variants_of

pytestmark = pytest.mark.xdist_group("compiled")  # its files are made once


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


@pytest.fixture
def int8(tiny_run: Run, tmp_path: Path) -> CompressedModel:
    """The int8 variant of a copy of the run: what is exported goes there."""
    (found,) = variants_of(shutil.copytree(tiny_run.folder, tmp_path / "run"), "int8")
    assert found is not None
    return found


def test_vela_s_file_is_an_export(int8: CompressedModel) -> None:
    needs("ethosu")
    found = edgedl.export(int8, "ethos-u55:128")
    assert (found.format, found.precision) == ("ethos-u55:128", "int8")
    assert found.model_path.name == "tiny-int8-ethos-u55-128.tflite"
    assert "ethos-u" in inspect_file(found.model_path).op_counts
    assert found.size_bytes == found.model_path.stat().st_size
    assert found.quality is None
    assert int8.record.content_hash in found.record.parents
    assert "not judged here" in found.notes[0]
    assert edgedl.export(int8, "ethos-u55:128").folder == found.folder


def answers(compiled: Path, source: Path) -> tuple[np.ndarray, np.ndarray]:
    """In a child: of the compiled file in Qualcomm's emulator, and of its source file there."""
    import onnxruntime
    import onnxruntime_qnn

    name = onnxruntime_qnn.get_ep_name()
    onnxruntime.register_execution_provider_library(name, onnxruntime_qnn.get_library_path())
    devices = [one for one in onnxruntime.get_ep_devices() if one.ep_name == name][:1]
    found = []
    for path in (compiled, source):
        options = onnxruntime.SessionOptions()
        settings = {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "soc_model": "43"}
        options.add_provider_for_devices(devices, settings)
        session = onnxruntime.InferenceSession(path, options)
        one = session.get_inputs()[0]
        value = np.random.default_rng(3).uniform(0, 1, one.shape).astype(np.float32)
        found.append(np.asarray(session.run(None, {one.name: value})[0]))
    return found[0], found[1]


def test_qualcomm_s_context_binary_is_an_export_that_answers_as_its_source(int8: CompressedModel) -> None:
    needs("onnxruntime_qnn")
    found = edgedl.export(int8, "qualcomm:sm8550")
    assert inspect_file(found.model_path).op_counts["com.microsoft.EPContext"] == 1
    (binary,) = found.folder.glob("*.bin")
    assert found.size_bytes == binary.stat().st_size + found.model_path.stat().st_size
    assert {one.name for one in found.record.files} >= {binary.name, found.model_path.name}
    (source,) = found.folder.parent.glob("export-int8-onnx-*/*.onnx")
    arguments = found.model_path, source
    compiled, plain = run_isolated(answers, *arguments, stage="test", subject="qualcomm", nursery="runtime")
    assert np.array_equal(compiled, plain)
    assert np.ptp(compiled) > 0.1


def test_what_is_no_compiler_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(compilers()) >= {"ethos-u55", "ethos-u65", "ethos-u85", "qualcomm"}
    with pytest.raises(ConfigError, match="compiles nothing: required one of ethos-u55"):
        refusal(None, "arm64:cortex-a53")
    with pytest.raises(ConfigError, match=r"there is no format 'tflit'.*ethos-u55"):
        refusal(None, "tflit")
    with pytest.raises(UnavailableError, match="has no target '77'"):
        refusal(None, "ethos-u55:77")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"edgedl\[ethos\]"):
        refusal(None, "ethos-u55:128")


def test_a_float_variant_is_refused_before_anything_is_compiled() -> None:
    needs("ethosu")
    needs("onnxruntime_qnn")
    assert "integers only" in str(refusal(None, "ethos-u55:128"))
    assert "integers only" in str(refusal(None, "qualcomm:qcs6490"))
    assert refusal(None, "qualcomm:sm8550") is None


def test_a_file_of_which_nothing_would_run_on_the_npu_is_not_written(tmp_path: Path) -> None:
    needs("ethosu")
    needs("onnxruntime_qnn")
    for spec, file in (
        ("ethos-u55:128", dense_tflite(tmp_path / "m.tflite", 1, width=8)),
        ("qualcomm:qcs6490", dense_onnx(tmp_path / "m.onnx", 1, width=8)),
    ):
        device, target = find_device(spec)
        with pytest.raises(ModelError, match="nothing of m"):
            device.compile(model_file(file), target, tmp_path / f"compiled{file.suffix}")  # pyright: ignore[reportAttributeAccessIssue]
        assert {one.name for one in tmp_path.iterdir()} <= {"m.tflite", "m.onnx"}
