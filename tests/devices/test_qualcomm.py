"""Qualcomm's emulator behind `qualcomm:SOC`."""

from __future__ import annotations

import importlib.util
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.tiny_models import dense_onnx, dense_tflite, model_file

from edgedl.core.artifacts import ModelLatency
from edgedl.core.errors import ModelError, UnavailableError
from edgedl.core.isolation import run_isolated
from edgedl.core.model_facts import OpFacts
from edgedl.devices import SamplingPlan, find_device
from edgedl.devices.qualcomm.device import GONE, Qualcomm, device, place
from edgedl.devices.qualcomm.emulator import Placed, emulate
from edgedl.devices.qualcomm.socs import socs

PLAN = SamplingPlan(budget_s=4.0)


@pytest.fixture(autouse=True)
def emulator() -> None:
    pytest.importorskip("onnxruntime_qnn", reason="onnxruntime-qnn is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`float.onnx`, `int8.onnx`, and the same with an open batch: conv, relu, flatten, dense, softmax."""
    found = tmp_path_factory.mktemp("qualcomm")
    for suffix, batch in (("", 1), ("-open", "n")):
        conv_onnx(found / f"float{suffix}.onnx", batch)
        quantize(found / f"float{suffix}.onnx", found / f"int8{suffix}.onnx")
    return found


def conv_onnx(path: Path, batch: int | str) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(5)
    arrays = {"w": (4, 3, 3, 3), "b": (4,), "v": (4 * 8 * 8, 5), "c": (5,)}
    constants = [numpy_helper.from_array(rng.normal(0, 0.2, s).astype("f4"), n) for n, s in arrays.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["conv"], name="net/conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"], name="net/relu"),
        helper.make_node("Flatten", ["relu"], ["flat"], name="net/flatten"),
        helper.make_node("Gemm", ["flat", "v", "c"], ["logits"], name="net/dense"),
        helper.make_node("Softmax", ["logits"], ["y"], name="net/softmax"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5])
    graph = helper.make_graph(nodes, "net", [x], [y], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def quantize(source: Path, target: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(6)
            self.feeds = iter([{"x": rng.uniform(-1, 1, (1, 3, 8, 8)).astype("f4")} for _ in range(8)])

        def get_next(self):
            return next(self.feeds, None)

    kinds = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8}
    quantize_static(str(source), str(target), Reader(), per_channel=True, **kinds)


def profiled(path: Path, soc: str) -> ModelLatency:
    (model,) = device.profile([model_file(path)], PLAN, soc).models
    return model


def sqnr_db(model: ModelLatency) -> float:
    (found,) = model.parity
    assert found.n == 16
    assert found.against.startswith("ONNX Runtime")
    ratio = found.outputs[0].sqnr_db
    assert ratio is not None
    return ratio


def test_an_int8_file_runs_on_the_npu_but_for_its_float_edges(folder: Path) -> None:
    report = device.profile([model_file(folder / "int8.onnx")], PLAN, "sm8550")
    (model,) = report.models
    assert report.obtained == "emulated"
    assert (model.timing, model.estimate, report.speed(model)) == (None, None, None)
    where = {op.op: op.runs_on for op in model.ops if op.op in ("Conv", "Gemm", "Softmax", "Flatten")}
    assert set(where.values()) == {"npu"}
    on_cpu = [(op.op, op.note) for op in model.ops if op.runs_on == "cpu"]
    assert [kind for kind, _ in on_cpu] == ["QuantizeLinear", "DequantizeLinear"]
    assert all("graph" in reason for _, reason in on_cpu)
    assert {op.unit for op in model.ops} == {"MACs"}
    assert sum(op.share for op in model.ops) == pytest.approx(1)
    assert "100.0% of multiply–accumulates" in model.notes[0]
    assert 25 < sqnr_db(model) < 80
    assert any("context binary for SM8550 (HTP v73)" in note for note in model.notes)


def test_a_float_file_is_computed_in_float16(folder: Path) -> None:
    model = profiled(folder / "float.onnx", "sm8650")
    assert {op.runs_on for op in model.ops} == {"npu"}
    assert any("in float16" in note for note in model.notes)
    assert 45 < sqnr_db(model) < 90  # float32 would give more than 120 dB


def test_an_open_batch_leaves_everything_on_the_cpu_and_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = profiled(folder / "int8-open.onnx", "sm8550")
    assert {op.runs_on for op in model.ops} == {"cpu"}
    assert model.notes[0].startswith("NOTHING RUNS ON THE NPU: all 18 nodes fall back to the CPU")
    assert "x [-1, 3, 8, 8]" in model.notes[0]
    assert "--batch 1" in model.notes[0]
    assert len(model.notes) == 1  # no accuracy, no context binary of what did not run there
    assert {op.note for op in model.ops} == {"Cannot get shape"}


def test_a_chip_of_integers_refuses_float_and_takes_int8(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"float\.onnx does not load on .*QCS6490.*use an int8 ONNX file"):
        profiled(folder / "float.onnx", "qcs6490")
    assert "100.0% of multiply–accumulates" in profiled(folder / "int8.onnx", "qcs6490").notes[0]
    dense = profiled(dense_onnx(tmp_path / "dense.onnx", 1, width=8), "qcs6490")  # no layout to change: it loads
    assert "NOTHING RUNS ON THE NPU" in dense.notes[0]
    assert "QCS6490 computes integers only" in dense.notes[0]


QUICK = ("sm8450", "sm8850", "qcs6490")
CHIPS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in socs()]


@pytest.mark.parametrize("name", CHIPS)
def test_the_library_compiles_for_the_very_chip_that_the_data_file_says(
    name: str, folder: Path, tmp_path: Path
) -> None:
    soc = socs()[name]
    arguments = folder / "int8.onnx", soc, 0, 0.0, tmp_path
    found = run_isolated(emulate, *arguments, stage="emulation", subject=name, nursery="runtime")
    assert found.built_for == (soc.soc_type, soc.htp_arch)
    assert found.parity.n == 1
    (binary,) = tmp_path.glob("*.bin")
    assert binary.stat().st_size == found.context_bytes
    assert f"vtcm_size={soc.vtcm_mib << 20}".encode() in binary.read_bytes()


def test_a_number_that_the_library_does_not_know_is_no_silent_fallback(folder: Path, tmp_path: Path) -> None:
    unknown = socs()["sm8550"].model_copy(update={"soc_model": 999})
    arguments = folder / "int8.onnx", unknown, 0, 0.0, tmp_path
    with pytest.raises(UnavailableError, match="does not start"):
        run_isolated(emulate, *arguments, stage="emulation", subject="int8", nursery="runtime")


def test_bad_input_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="required a file in the format onnx"):
        profiled(dense_tflite(tmp_path / "m.tflite", 1), "sm8550")
    with pytest.raises(ModelError, match=r"m\.onnx does not load on .*NoSuchOp"):
        profiled(dense_onnx(tmp_path / "m.onnx", 1, op="NoSuchOp"), "sm8550")
    with pytest.raises(UnavailableError, match="needs a target"):
        device.profile([], PLAN)
    with pytest.raises(UnavailableError, match="Did you mean 'sm8550'"):
        find_device("qualcomm:sm8555")


def crash(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_crash_of_the_library_is_the_file_s_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedl.devices.qualcomm.device.emulate", crash)
    with pytest.raises(ModelError, match=r"float\.onnx takes Qualcomm's library down.*SIGSEGV"):
        profiled(folder / "float.onnx", "sm8550")


def test_without_the_package_extra_and_licence_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"AI Stack License.*edgedl\[qualcomm\]"):
        device.profile([], PLAN, "sm8550")
    monkeypatch.setattr("edgedl.devices.qualcomm.device.host_architecture", lambda: "aarch64")
    assert "x86-64" in Qualcomm().status().detail


def test_the_page_lists_the_chips() -> None:
    page = (Path(__file__).parents[2] / "docs/devices/qualcomm.md").read_text()
    for one in socs().values():
        row = f"| `{one.name}` | {one.summary} | v{one.htp_arch} | {'yes' if one.float16 else 'no'} |"
        assert row in page


def test_where_a_node_of_the_file_is_placed() -> None:
    fact = OpFacts(0, "Conv", "c", None, "int8", (1,), 10, 0, 0)
    facts = [fact, replace(fact, op="Add", name="", macs=0), replace(fact, op="Relu", name="r", macs=0)]
    placed = [Placed("c", "Conv", True), Placed("", "Add", False, "no"), Placed("", "Add", False, "no")]
    assert [(op.runs_on, op.note) for op in place(facts, placed)] == [("npu", ""), ("cpu", "no"), ("", GONE)]
    mixed = [*placed, Placed("", "Add", True)]
    assert place(facts, mixed)[1].runs_on == ""
