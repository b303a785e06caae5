from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.shared_data import shared
from tests.tiny_models import dense_onnx, dense_tflite, model_file

from edgedl.core.artifacts import OpCost
from edgedl.core.errors import ModelError
from edgedl.core.model_facts import OpFacts
from edgedl.devices import SamplingPlan, cpu
from edgedl.devices.child import in_child
from edgedl.devices.results import op_table
from edgedl.devices.session import OpTime, OpTimes, median_of_means, random_input


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory):
    """Half the work in TFLite, all of it, and all of it in ONNX: one session."""
    folder = tmp_path_factory.mktemp("cpu")
    files = [
        dense_tflite(folder / "half.tflite", layers=4),
        dense_tflite(folder / "whole.tflite", layers=8),
        dense_onnx(folder / "whole.onnx", layers=8),
    ]
    return cpu.device.profile([model_file(path) for path in files], SamplingPlan(budget_s=6, seed=1))


def test_formats_mix_in_one_interleaved_session(report):
    assert [model.runtime.split()[0] for model in report.models] == ["LiteRT", "LiteRT", "ONNX"]
    rounds = [[len(process) for process in model.timing.blocks_us] for model in report.models]
    assert rounds[0] == rounds[1] == rounds[2]
    assert len(rounds[0]) == report.processes
    assert report.obtained == "measured"


def test_twice_the_work_takes_longer_by_a_factor_near_two(report):
    half, whole, _ = report.models
    assert half.timing.ratio is None
    assert 1.4 < whole.timing.ratio.value < 4  # beyond 2 where the caches hold only half
    assert whole.timing.ratio.low < whole.timing.ratio.value < whole.timing.ratio.high
    for model in report.models:
        timing = model.timing
        assert 0 < timing.p10_us.value <= timing.median_us.value <= timing.p90_us.value
        assert timing.p10_us.low <= timing.p10_us.value <= timing.p10_us.high


def test_every_op_is_listed_once_with_its_share_and_layer(report):
    for model, op in zip(report.models[1:], ("FULLY_CONNECTED", "MatMul"), strict=True):
        dense = [row for row in model.ops if row.op == op]
        assert [row.layer for row in dense] == [f"dense_{layer}" for layer in range(8)]
        assert sum(row.share for row in model.ops) == pytest.approx(1.0)
        assert sum(row.cost for row in dense) > 0.5 * sum(row.cost for row in model.ops)


def test_load_time_first_inference_and_memory_are_told(report):
    for model in report.models:
        assert model.timing.load_ms > 0
        assert model.timing.first_ms * 1e3 >= model.timing.p10_us.value
        assert model.memory.model_bytes >= 0
        assert model.memory.runtime_bytes > 5e6


def test_a_custom_op_is_one_clear_error(tmp_path: Path):
    path = dense_tflite(tmp_path / "custom.tflite", layers=1, custom_op="NoSuchOp")
    with pytest.raises(ModelError, match=r"custom\.tflite.*NoSuchOp"):
        cpu.device.profile([model_file(path)], SamplingPlan(budget_s=1))


def test_an_onnx_op_that_nobody_knows_is_one_clear_error(tmp_path: Path):
    path = dense_onnx(tmp_path / "unknown.onnx", layers=1, op="NoSuchOp")
    with pytest.raises(ModelError, match=r"unknown\.onnx.*NoSuchOp"):
        cpu.device.profile([model_file(path)], SamplingPlan(budget_s=1))


def test_a_runtime_that_aborts_is_one_clear_error():
    with pytest.raises(ModelError, match=r"bad\.tflite takes the runtime down.*SIGABRT"):
        in_child(os.abort, subject="bad.tflite")


def test_a_real_file_that_takes_the_runtime_down_is_one_clear_error():
    path = shared("tflm_models/tensorflow/lite/micro/models/keyword_scrambled_8bit.tflite")
    with pytest.raises(ModelError, match=r"keyword_scrambled_8bit\.tflite takes the runtime down.*SIG"):
        cpu.device.profile([model_file(path)], SamplingPlan(budget_s=1))


def test_a_model_with_state_runs_in_the_interpreter_and_says_so():
    path = shared("tflm_models/tensorflow/lite/micro/examples/mnist_lstm/trained_lstm.tflite")
    (model,) = cpu.device.profile([model_file(path)], SamplingPlan(budget_s=1)).models
    assert "Interpreter" in model.runtime
    assert any("variable tensors" in note for note in model.notes)
    assert model.ops == ()


def test_kernels_of_one_op_add_up_and_a_stray_one_keeps_its_name():
    facts = [
        OpFacts(i, op, op, layer, "float32", (1,), 0, 0, 0)
        for i, (op, layer) in enumerate([("ADD", "add"), ("X", None)])
    ]
    times = OpTimes((OpTime(0, "Add", 6.0), OpTime(0, "Clamp", 2.0), OpTime(None, "Copy", 2.0)))
    assert op_table(times, facts) == (
        OpCost(0, "ADD", "add", 8.0, "us", 0.8),
        OpCost(-1, "Copy", None, 2.0, "us", 0.2),
    )


def test_times_that_the_profiler_spoiled_are_told():
    assert cpu._profiler_cost(OpTimes((OpTime(0, "Add", 90.0),)), median_us=100.0) == ()
    assert "2.0 times" in cpu._profiler_cost(OpTimes((OpTime(0, "WHILE", 200.0),)), median_us=100.0)[0]


def test_a_mean_resolves_what_the_clock_cannot_and_shrugs_off_a_stall():
    assert median_of_means([0, 1, 0, 1] * 20) == pytest.approx(0.5)
    assert median_of_means([1] * 99 + [10_000]) == 1


def test_inputs_are_deterministic_and_of_every_type():
    assert (random_input((2, 3), "float32", 5) == random_input((2, 3), "float32", 5)).all()
    assert abs(random_input((100,), "float32", 5)).max() <= 1
    assert random_input((1000,), "int8", 5).min() < -100
    assert not random_input((4,), "int64", 5).any()
    assert random_input((-1, 3), "float16", 5).shape == (1, 3)
