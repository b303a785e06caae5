"""The phone in a box with ONNX files: ONNX Runtime's Arm64 kernels in QEMU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.tiny_models import conv_onnx, dense_onnx, dense_tflite, model_file

from edgedl.core.artifacts import LatencyReport, from_json, to_json
from edgedl.core.errors import ExitCode, ModelError, UnavailableError
from edgedl.devices import SamplingPlan, onnx_runtime
from edgedl.devices.arm64.counting import BOXES, node_costs
from edgedl.devices.arm64.device import device
from edgedl.devices.native.runtime import ONNX_RUNTIME, library, library_place

pytestmark = pytest.mark.xdist_group("arm64-onnx")  # its files are made once

PLAN = SamplingPlan(seed=3)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("arm64-onnx")
    return [conv_onnx(folder / "float.onnx"), conv_onnx(folder / "int8.onnx", int8=True)]


@pytest.fixture(scope="module")
def report(emulated: None, two: list[Path]) -> LatencyReport:
    return device.profile([model_file(path) for path in two], PLAN, "cortex-a76")


def test_counts_repeat_to_the_instruction(report: LatencyReport, two: list[Path]) -> None:
    again = device.profile([model_file(two[1])], PLAN, "cortex-a76").models[0]
    first = report.models[1]
    assert again.instructions == first.instructions  # cache misses too
    assert [(op.index, op.cost) for op in again.ops] == [(op.index, op.cost) for op in first.ops]
    assert again.outputs == first.outputs


def test_nodes_add_up_to_the_whole_and_are_those_of_the_file(report: LatencyReport) -> None:
    for model in report.models:
        nodes = [op for op in model.ops if op.op != "between the kernels"]
        assert sum(op.cost for op in nodes) == pytest.approx(model.instructions.total, rel=0.01)
        assert sum(op.cost for op in model.ops) == model.instructions.total
        assert {op.unit for op in model.ops} == {"instructions"}
        costs = {op.op: op.cost for op in nodes if op.index >= 0}
        assert costs["Conv"] > costs["GlobalAveragePool"]
        convolutions = [op for op in nodes if op.op == "Conv"]
        assert len({op.index for op in convolutions}) == 3
        assert convolutions[1].cost == pytest.approx(convolutions[2].cost, rel=0.01)  # the same work
        small = model.instructions
        assert small.load + small.store + small.branch + small.simd + small.other == small.total


def test_a_core_gets_the_kernels_of_its_features(report: LatencyReport, two: list[Path]) -> None:
    dot = report.models[1].instructions
    old = device.profile([model_file(two[1])], PLAN, "cortex-a53").models[0]
    macs = 32 * 32 * 16 * 9 * (3 + 16 + 16)
    assert old.instructions.dot == 0
    assert macs / 16 <= dot.dot < 1.1 * macs / 16  # sixteen products an instruction
    assert old.instructions.total > 1.3 * dot.total
    assert old.outputs == report.models[1].outputs


def test_int8_answers_are_those_of_this_computer(report: LatencyReport, two: list[Path]) -> None:
    """Of float32, only the last digits differ: sums are taken in another order."""
    for path, model, exact in zip(two, report.models, (False, True), strict=True):
        session = onnx_runtime.open_session(path, threads=1, xnnpack=True, seed=PLAN.seed)
        session.invoke()
        same = model.outputs == tuple(fnv1a(one) for one in session.outputs())
        session.close()
        assert same or not exact


def fnv1a(values: np.ndarray) -> str:
    value = 14695981039346656037
    for byte in values.tobytes():
        value = (value ^ byte) * 1099511628211 % 2**64
    return f"{value:016x}"


def test_both_formats_in_one_session(emulated: None, two: list[Path], tmp_path: Path) -> None:
    files = [model_file(path) for path in (dense_tflite(tmp_path / "m.tflite", 4), dense_onnx(tmp_path / "m.onnx", 4))]
    report = device.profile(files, SamplingPlan(), "raspberry-pi-5")
    lite, onnx = report.models
    assert set(report.runtimes) == {"LiteRT", "ONNX Runtime"}
    assert (lite.runtime.split()[0], onnx.runtime.split()[:2]) == ("LiteRT", ["ONNX", "Runtime"])
    speed = report.speed(onnx)
    assert (speed.what, speed.obtained) == ("instructions", "emulated")
    assert speed.ratio.value == onnx.instructions.total / lite.instructions.total
    assert onnx.estimate is not None
    assert any("LiteRT's kernels" in note for note in onnx.notes)
    assert [op.layer for op in onnx.ops if op.index >= 0] == [f"dense_{layer}" for layer in range(4)]
    assert onnx.memory.model_bytes > 4 * 256 * 256
    assert from_json(LatencyReport, to_json(report)) == report


def test_weights_beside_the_file_change_nothing(report: LatencyReport, two: list[Path], tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "float.onnx"
    place = {"all_tensors_to_one_file": True, "location": "weights/float.data", "size_threshold": 0}
    (tmp_path / "weights").mkdir()
    onnx.save(onnx.load(two[0]), path, save_as_external_data=True, **place)
    model = device.profile([model_file(path)], PLAN, "cortex-a76").models[0]
    assert model.outputs == report.models[0].outputs
    assert model.instructions.total == pytest.approx(report.models[0].instructions.total, rel=0.001)


def test_what_does_not_run_is_one_clear_error(emulated: None, tmp_path: Path) -> None:
    unknown = model_file(dense_onnx(tmp_path / "unknown.onnx", 1, op="NoSuchOp"))
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot run unknown\.onnx.*NoSuchOp"):
        device.profile([unknown], PLAN, "cortex-a76")


def test_without_its_library_only_onnx_files_are_refused(
    emulated: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = library_place("aarch64")
    monkeypatch.setattr("edgedl.devices.native.runtime.cache_folder", lambda: tmp_path)
    lite = library_place("aarch64")
    lite.parent.mkdir(parents=True, exist_ok=True)
    if not lite.exists():
        lite.symlink_to(here)
    if library_place("aarch64", ONNX_RUNTIME).exists():
        pytest.skip("this machine is of the architecture: its own library stands in the shared wheel")
    status = device.status()
    assert status.available
    assert "setup arm64" in status.detail
    with pytest.raises(UnavailableError, match=r"no ONNX Runtime .* setup arm64") as caught:
        device.profile([model_file(dense_onnx(tmp_path / "m.onnx", 1))], PLAN, "cortex-a76")
    assert caught.value.exit_code == ExitCode.UNAVAILABLE
    assert library("aarch64").exists()


def test_nodes_without_a_step_each_have_no_costs() -> None:
    event = {"cat": "Node", "name": "a_kernel_time", "ts": 1, "args": {"op_name": "Relu"}}
    found = node_costs([event, event], [10, 30], (), ())
    assert found.ops == ()
    assert "2 nodes ran, and the executor took 1 steps" in found.notes[0]
    assert [op.time_us for op in node_costs([event, event], [10, 30, 35], (), ()).ops] == [20.0, 5.0]


def test_formats_are_those_that_the_host_runs() -> None:
    from edgedl.devices.session import RUNTIMES

    assert set(BOXES) == {name for name in RUNTIMES if "/" not in name}
