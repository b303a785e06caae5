"""Arm's Vela behind the Ethos-U devices."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tests.shared_data import shared
from tests.tiny_models import dense_onnx, dense_tflite, model_file

from edgedl.core.errors import ModelError, UnavailableError
from edgedl.devices import SamplingPlan, ethos, find_device

TINY = "mlperf_tiny/image_classification/trained_models/pretrainedResnet{}.tflite"
PLAN = SamplingPlan()


@pytest.fixture(autouse=True)
def vela() -> None:
    pytest.importorskip("ethosu", reason="ethos-u-vela is not installed")


def test_an_integer_model_runs_on_the_npu_and_larger_ones_are_faster() -> None:
    files = [model_file(shared(TINY.format("_quant")))]
    reports = [ethos.u55.profile(files, PLAN, macs) for macs in ("32", "256")]
    slow, fast = (report.models[0] for report in reports)
    assert slow.estimate.latency_us.value > 2 * fast.estimate.latency_us.value
    assert {op.runs_on for op in fast.ops} == {"npu"}
    assert len(fast.ops) == len(files[0].facts.ops)
    assert sum(op.share for op in fast.ops) == pytest.approx(1.0)
    assert {op.unit for op in fast.ops} == {"cycles"}
    assert fast.memory.model_bytes > 10_000
    assert reports[0].obtained == "estimated"
    assert "Ethos_U55_High_End_Embedded" in reports[0].hardware


@pytest.mark.parametrize("spec", ["ethos-u55:128", "ethos-u65:256", "ethos-u85:512"])
def test_a_float_model_stays_on_the_cpu_and_has_no_estimate(tmp_path: Path, spec: str) -> None:
    device, target = find_device(spec)
    (model,) = device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 2))], PLAN, target).models
    assert {op.runs_on for op in model.ops} == {"cpu"}
    assert "Float32" in model.ops[0].note
    assert model.estimate is None
    assert "2 of 2 ops stay on the CPU" in model.notes[0]


def test_what_vela_cannot_compile_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="required a file in the format tflite"):
        ethos.u55.profile([model_file(dense_onnx(tmp_path / "m.onnx", 1))], PLAN, "128")
    with pytest.raises(UnavailableError, match="needs a target"):
        ethos.u55.profile([], PLAN)
    lstm = shared("tflm_models/tensorflow/lite/micro/examples/mnist_lstm/trained_lstm.tflite")
    with pytest.raises(ModelError, match=r"Vela cannot compile.*IFM must be INT8"):
        ethos.u55.profile([model_file(lstm)], PLAN, "128")


def test_without_vela_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"edgedl\[ethos\]"):
        ethos.u55.profile([], PLAN, "128")
