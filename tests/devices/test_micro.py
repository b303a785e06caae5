"""TFLM's interpreter behind `micro`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tests.shared_data import shared
from tests.tiny_models import dense_onnx, dense_tflite, model_file

from edgedl.core.errors import ModelError, UnavailableError
from edgedl.core.isolation import run_isolated
from edgedl.devices import SamplingPlan, micro

PLAN = SamplingPlan()


@pytest.fixture(autouse=True)
def tflm() -> None:
    pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")


def test_the_arena_is_the_smallest_and_nothing_is_timed(tmp_path: Path) -> None:
    path = dense_tflite(tmp_path / "m.tflite", 3)
    report = micro.device.profile([model_file(path)], PLAN)
    (model,) = report.models
    assert report.obtained == "emulated"
    assert report.speed(model) is None
    arena = model.memory.model_bytes
    assert 2 * 256 * 4 < arena < 3 * 256 * 4 + 4096  # two activations live at a time, and bookkeeping
    assert run_isolated(fits, path.read_bytes(), arena, stage="TFLM", subject="m", nursery="runtime")
    smaller = arena - micro.ALIGNMENT
    assert not run_isolated(fits, path.read_bytes(), smaller, stage="TFLM", subject="m", nursery="runtime")


def fits(content: bytes, arena: int) -> bool:
    return micro._tried(content, arena).done


def test_outputs_are_compared_with_the_host_s(tmp_path: Path) -> None:
    (model,) = micro.device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 3))], PLAN).models
    (found,) = model.parity
    assert 0 <= found.outputs[0].relative_error < 1e-5
    assert found.against.startswith("LiteRT")
    (spotter,) = micro.device.profile(
        [model_file(shared("mlperf_tiny/keyword_spotting/trained_models/kws_ref_model.tflite"))], PLAN
    ).models
    assert spotter.parity[0].outputs[0].max_abs_error <= 1  # a step of int8
    assert spotter.memory.model_bytes == pytest.approx(24_240, rel=0.02)  # as TFLM's own allocator records it


def test_every_kind_without_a_kernel_is_named_at_once(tmp_path: Path) -> None:
    path = dense_tflite(tmp_path / "m.tflite", 2, custom_op="TFLite_Detection_Nonsense")
    with pytest.raises(ModelError, match=r"m\.tflite does not run in TFLM.*received TFLite_Detection_Nonsense\."):
        micro.device.profile([model_file(path)], PLAN)


def test_what_tflm_says_of_a_type_arrives() -> None:
    file = model_file(shared("ai_edge_quantizer_models/partly_quantized_mnist.tflite"))
    with pytest.raises(ModelError, match=r"FLOAT32 with filter type: INT8 not supported.*FULLY_CONNECTED"):
        micro.device.profile([file], PLAN)


def test_a_file_that_litert_cannot_run_has_an_arena_and_is_not_compared() -> None:
    path = "tflm_models/tensorflow/lite/micro/models/keyword_scrambled_8bit.tflite"  # kills LiteRT's interpreter
    (model,) = micro.device.profile([model_file(shared(path))], PLAN).models
    assert model.memory.model_bytes > 1000
    assert "not compared" in model.notes[-1]
    assert model.parity == ()


def test_onnx_and_a_missing_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="required a file in the format tflite"):
        micro.device.profile([model_file(dense_onnx(tmp_path / "m.onnx", 1))], PLAN)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"edgedl\[micro\]"):
        micro.device.profile([], PLAN)
