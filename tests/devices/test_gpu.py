"""The GPU's device over a software adapter: coverage and accuracy, and no latency."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.tiny_models import chain_tflite, conv_tflite, dense_onnx, dense_tflite, model_file

from edgedl.core.errors import ExitCode, ModelError, StageError, UnavailableError
from edgedl.core.isolation import Limits, run_isolated
from edgedl.core.model_facts import OpFacts
from edgedl.devices import SamplingPlan, find_device, parity
from edgedl.devices.gpu import device as gpu_device
from edgedl.devices.gpu import litert_gpu, onnx_gpu, placement, vulkan
from edgedl.devices.gpu.placement import ONE_PART, Told
from edgedl.devices.gpu.rows import coverage, op_rows
from edgedl.devices.litert_ops import Graph, GraphOp
from edgedl.devices.session import TimingTask

PLAN = SamplingPlan()
NOT_SUPPORTED = "Operation is not supported."


@pytest.fixture
def software(monkeypatch: pytest.MonkeyPatch) -> None:
    """SwiftShader, as Debian's chromium brings it, is the only adapter."""
    place = vulkan.swiftshader()
    if place is None:
        pytest.skip("no browser with SwiftShader is installed (Debian's chromium)")
    monkeypatch.setenv(vulkan.OURS, str(place))


@pytest.fixture(scope="session")
def webgpu() -> None:
    """ONNX Runtime for WebGPU; downloaded once and kept in the cache."""
    gpu_device.device.set_up()


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (vulkan.OURS, *vulkan.THEIRS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/nowhere")
    monkeypatch.setattr(vulkan, "FOLDERS", ())


# --- on a software adapter ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("software")
def test_a_float_model_runs_on_the_gpu_and_gives_the_cpus_answers(tmp_path: Path) -> None:
    files = [model_file(conv_tflite(tmp_path / "c.tflite")), model_file(dense_tflite(tmp_path / "d.tflite", 2))]
    report = find_device("gpu")[0].profile(files, PLAN)
    assert report.obtained == "emulated"
    assert "(cpu)" in report.hardware
    for model, file in zip(report.models, files, strict=True):
        assert {op.runs_on for op in model.ops} == {"gpu"}
        assert [op.cost for op in model.ops] == [fact.macs for fact in file.facts.ops]
        exact, rounded = model.parity
        assert (exact.arithmetic, rounded.arithmetic, exact.n) == ("float32", "float16", parity.EXAMPLES)
        assert exact.outputs[0].relative_error < 1e-5
        assert exact.outputs[0].relative_error < rounded.outputs[0].relative_error < 1e-2
        assert model.timing is None
        assert report.speed(model) is None
        assert any("no latency" in note and "software" in note for note in model.notes)


@pytest.mark.usefixtures("software")
def test_an_op_that_the_gpu_refuses_is_named_with_litert_s_reason(tmp_path: Path) -> None:
    dense, other = "FULLY_CONNECTED", "LOG_SOFTMAX"
    file = model_file(chain_tflite(tmp_path / "m.tflite", [dense, other, dense, dense, dense, other, dense, dense]))
    (model,) = gpu_device.device.profile([file], PLAN).models
    assert [op.runs_on for op in model.ops] == ["cpu", "cpu", "gpu", "gpu", "gpu", "cpu", "cpu", "cpu"]
    assert [op.note for op in model.ops] == [ONE_PART, NOT_SUPPORTED, "", "", "", NOT_SUPPORTED, ONE_PART, ONE_PART]
    assert model.notes[0].startswith("3 of 8 ops run on the GPU")
    assert any(f"{other} (1), {other} (5): {NOT_SUPPORTED}" in note for note in model.notes)


@pytest.mark.usefixtures("software")
def test_of_two_equal_parts_the_one_that_ran_on_the_gpu_is_found(tmp_path: Path) -> None:
    kinds = ["FULLY_CONNECTED", "LOG_SOFTMAX", "FULLY_CONNECTED"]
    (model,) = gpu_device.device.profile([model_file(chain_tflite(tmp_path / "m.tflite", kinds))], PLAN).models
    assert [op.runs_on for op in model.ops] == ["gpu", "cpu", "cpu"]


@pytest.mark.usefixtures("software")
def test_ops_of_one_kind_are_judged_one_at_a_time(tmp_path: Path) -> None:
    kinds = ["FULLY_CONNECTED", "STRIDED_SLICE", "FULLY_CONNECTED", "STRIDED_SLICE-"]
    (model,) = gpu_device.device.profile([model_file(chain_tflite(tmp_path / "m.tflite", kinds))], PLAN).models
    assert [op.runs_on for op in model.ops] == ["gpu", "gpu", "gpu", "cpu"]
    assert "shrink_axis_mask" in model.ops[3].note


@pytest.mark.usefixtures("software")
def test_a_model_with_state_is_one_clear_error(tmp_path: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    path = dense_tflite(tmp_path / "m.tflite", 2)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    model.subgraphs[0].tensors[3].isVariable = True
    builder = Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(ModelError, match=r"m\.tflite does not run on the GPU.*variable tensors"):
        gpu_device.device.profile([model_file(path)], PLAN)


@pytest.mark.usefixtures("software", "webgpu")
def test_onnx_nodes_are_placed_and_reasoned(tmp_path: Path) -> None:
    # 512: inputs of 2 kB are overwritten at once where the session does not keep them
    files = [model_file(dense_onnx(tmp_path / f"{op}.onnx", 1, 512, op=op)) for op in ("Relu", "Selu")]
    report = gpu_device.device.profile(files, PLAN)
    relu, selu = report.models
    assert "WebGPU" in relu.runtime
    assert {op.runs_on for op in relu.ops} == {"gpu"}
    assert selu.ops[2].runs_on == "cpu"
    assert "no kernel for this Selu" in selu.ops[2].note
    assert any("copies between GPU and CPU" in note for note in selu.notes)
    for model in report.models:
        assert model.parity[0].outputs[0].relative_error < 1e-5
        assert model.timing is None


@pytest.mark.usefixtures("software")
def test_the_command_line_tells_it_all(tmp_path: Path) -> None:
    path = chain_tflite(tmp_path / "m.tflite", ["FULLY_CONNECTED", "LOG_SOFTMAX"])
    words = [sys.executable, "-m", "edgedl", "profile", str(path), "--device", "gpu"]
    told, data = (
        subprocess.run([*words, *more], capture_output=True, text=True, check=True) for more in ([], ["--json"])
    )
    assert "MACs" in told.stdout
    assert "no latency" in told.stdout
    (report,) = json.loads(data.stdout)
    assert report["models"][0]["timing"] is None
    assert [op["runs_on"] for op in report["models"][0]["ops"]] == ["gpu", "cpu"]


@pytest.mark.usefixtures("software")
def test_what_would_be_timed_on_hardware_fetches_the_outputs(tmp_path: Path) -> None:
    path = dense_tflite(tmp_path / "m.tflite", 1, 16)
    task = TimingTask(((path, "tflite/gpu"),), threads=1, xnnpack=True, seed=0, order_seed=0, seconds=0.2)
    (timed,) = run_isolated(
        gpu_device.time_on_gpu, task, vulkan.drivers(), None, stage="profiling", subject=path.name, nursery="gpu"
    )
    assert sum(map(len, timed.blocks_us)) > 0
    assert "WebGPU" in timed.runtime


# --- when something is missing or breaks -------------------------------------------------------------------------


@pytest.mark.usefixtures("no_driver")
def test_without_vulkan_the_next_step_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vulkan, "SWIFTSHADER", ())
    status = gpu_device.device.status()
    assert not status.available
    assert status.missing == ("a Vulkan driver",)
    browser = tmp_path / "vk_swiftshader_icd.json"
    browser.write_text("{}")
    monkeypatch.setattr(vulkan, "SWIFTSHADER", (str(browser),))
    with pytest.raises(UnavailableError, match=f"`export EDGEDL_VULKAN_ICD={browser}`"):
        gpu_device.device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 1))], PLAN)
    monkeypatch.setenv("VK_DRIVER_FILES", str(tmp_path / "gone.json"))
    assert "gone.json is not there" in gpu_device.device.status().detail
    monkeypatch.setenv(vulkan.OURS, str(browser))
    monkeypatch.setattr(vulkan, "LOADER", "libvulkan-of-nobody.so.1")
    assert gpu_device.device.status().command == "apt-get install libvulkan1"


@pytest.mark.usefixtures("software")
def test_a_driver_that_offers_no_adapter_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "icd.json"
    library = tmp_path / "libnothing.so"
    broken.write_text(json.dumps({"file_format_version": "1.0.0", "ICD": {"library_path": str(library)}}))
    monkeypatch.setenv(vulkan.OURS, str(broken))
    loader = vulkan.SWIFTSHADER and Path(str(vulkan.swiftshader())).parent / vulkan.LOADER
    (tmp_path / vulkan.LOADER).symlink_to(loader or "")
    with pytest.raises(UnavailableError, match="Vulkan finds no adapter"):
        gpu_device.device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 1))], PLAN)


def test_onnx_without_a_gpu_build_names_what_brings_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDL_CACHE", str(tmp_path))
    monkeypatch.setattr(onnx_gpu, "PACKAGES", {"onnxruntime-of-nobody": onnx_gpu.CUDA})
    with pytest.raises(UnavailableError, match="edgedl devices setup gpu") as caught:
        gpu_device.device.profile([model_file(dense_onnx(tmp_path / "m.onnx", 1))], PLAN)
    assert caught.value.exit_code == ExitCode.UNAVAILABLE


def test_cuda_needs_no_vulkan(monkeypatch: pytest.MonkeyPatch, no_driver: None) -> None:
    monkeypatch.setattr(onnx_gpu, "version_of", lambda package: "1.31.1" if package == "onnxruntime-gpu" else None)
    assert gpu_device.device.status().available
    assert onnx_gpu.needed().words == "ONNX Runtime 1.31.1 CUDA"


def test_a_driver_that_crashes_or_hangs_is_one_error_that_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"m\.tflite takes the GPU's runtime or driver down.*SIGABRT"):
        gpu_device._isolated("m.tflite", os.abort)
    monkeypatch.setattr(gpu_device, "LIMITS", Limits(time_s=0.5))
    with pytest.raises(ModelError, match=r"m\.tflite takes .*time limit"):
        gpu_device._isolated("m.tflite", time.sleep, 60)


# --- pure parts --------------------------------------------------------------------------------------------------


def test_only_hardware_is_timed() -> None:
    card, chip = vulkan.Adapter("card", "discrete"), vulkan.Adapter("chip", "integrated")
    pipe = vulkan.Adapter("llvmpipe", "cpu")
    assert vulkan.no_latency([card, chip]) == ""
    assert "llvmpipe (cpu) is software" in vulkan.no_latency([pipe])
    assert "is not known" in vulkan.no_latency([card, pipe])
    assert "is not known" in vulkan.no_latency([])
    assert vulkan.no_latency([vulkan.Adapter("passed through", "virtual")])


def test_the_adapter_is_the_one_that_litert_says() -> None:
    line = "I0000 environment.cc:532] Selected adapter: {}, arch=x, vendor=y, backend=Vulkan, adapterType={}\n"
    card = litert_gpu.selected(line.format("Some GPU (TM)", "Discrete GPU"))
    assert card == vulkan.Adapter("Some GPU (TM)", "discrete")
    assert litert_gpu.selected(line.format("llvmpipe", "CPU / Software")) == vulkan.Adapter("llvmpipe", "cpu")
    assert litert_gpu.selected("nothing of the kind") is None


def test_what_litert_s_log_says() -> None:
    head = "ERROR: Following operations are not supported by GPU delegate:\n"
    said = f"{head}CAST: Not supported Cast case.\nDEQUANTIZE:\n2 operations will run on the GPU, and the remaining 3 "
    told = placement.read_log(said + "operations will run on the CPU.\n")
    assert told == Told((("CAST", "Not supported Cast case."), ("DEQUANTIZE", "")), 2, 3)
    none = placement.read_log(
        f"{head}X: y\nNo operations will run on the GPU, and all 1 operations will run on the CPU.\n"
    )
    assert none == Told((("X", "y"),), 0, 1)
    assert placement.read_log("INFO: all is well") is None


def test_a_place_that_is_not_certain_is_not_given() -> None:
    kinds = ["A", "X", "A", "X", "A"]
    graph = Graph(0, tuple(GraphOp(kind, (k,), (k + 1,)) for k, kind in enumerate(kinds)))
    told = Told((("X", NOT_SUPPORTED),), 1, 4)
    kernel = (8, 0, 0, "kernel", 1)
    first, middle = (
        [place.runs_on for place in placement.place(graph, told, {}, before)]
        for before in ((), (kernel, (2, 1, 0, "X", 1)))
    )
    assert first == ["gpu", "cpu", "cpu", "cpu", "cpu"]
    assert middle == ["", "cpu", "", "cpu", ""]  # op 2 or op 4: both come after op 1
    last = placement.place(graph, told, {}, (kernel, (2, 1, 0, "X", 1), kernel, (2, 3, 0, "X", 1)))
    assert [place.runs_on for place in last] == ["cpu", "cpu", "cpu", "cpu", "gpu"]
    another_count = placement.place(graph, Told(told.refused, 2, 3), {}, ())
    assert [place.runs_on for place in another_count] == ["", "cpu", "", "cpu", ""]
    assert "does not tell which" in another_count[0].why
    facts = [OpFacts(k, kind, kind, None, "float32", (1,), 10, 0, 0) for k, kind in enumerate(kinds)]
    told_of = coverage(op_rows(facts, another_count))
    assert told_of[0] == "at least 0 of 5 ops run on the GPU, with 0% of the multiply–accumulates"
    assert "not placed: A (0), A (2), A (4)" in told_of[2]


def test_a_question_without_an_answer_stays_open() -> None:
    graph = Graph(0, tuple(GraphOp("A", (k,), (k + 1,)) for k in range(3)))
    told = Told((("A", "too large"),), 2, 1)
    assert placement.open_questions(graph, told) == [0, 1, 2]
    places = placement.place(graph, told, {0: "", 1: "", 2: "too large"}, ())
    assert [(place.runs_on, place.why) for place in places] == [("gpu", ""), ("gpu", ""), ("cpu", "too large")]
    assert {place.runs_on for place in placement.place(graph, told, {0: ""}, ())} == {""}


def test_a_question_that_took_litert_down_has_no_answer(tmp_path: Path) -> None:
    answers = tmp_path / "answers"
    assert litert_gpu.read_answers(answers) == {}
    answers.write_text('[[1, 4], null]\n[[1, 4], ""]\n[[2], null]\n[[2], "too large"]\n[[3], null]\n')
    assert litert_gpu.read_answers(answers) == {1: "", 4: "", 2: "too large", 3: None}


def test_the_others_are_asked_in_another_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []

    def crash_at_2(subject: str, ask: object, path: Path, ops: list[int], *rest: object) -> None:
        asked.append(ops)
        for op in ops:
            with Path(str(rest[-1])).open("a") as lines:
                lines.write(f"[[{op}], null]\n")
                if op == 2:
                    raise StageError("the child process was killed")
                lines.write(f'[[{op}], ""]\n')

    monkeypatch.setattr(gpu_device, "_isolated", crash_at_2)
    assert gpu_device._ask(tmp_path, [1, 2, 3], PLAN, vulkan.Drivers()) == {1: "", 3: ""}
    assert asked == [[1, 2, 3], [3]]


def test_the_version_that_setup_brings_is_the_one_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDL_CACHE", str(tmp_path))
    installed = {name for name in onnx_gpu.PACKAGES if _is_installed(name)}
    if not installed:
        assert onnx_gpu.build() is None
        onnx_gpu.webgpu_folder().mkdir()
    found = onnx_gpu.build()
    assert found is not None
    assert installed or found.version == onnx_gpu.WEBGPU_VERSION


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
