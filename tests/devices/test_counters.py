"""Instructions on this computer's processor: under callgrind, and by perf (stand-ins decide what it says)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.tiny_models import dense_onnx, dense_tflite, model_file

from edgedl.core.artifacts import LatencyReport, from_json, to_json
from edgedl.core.errors import ExitCode, ModelError, UnavailableError
from edgedl.devices import SamplingPlan, onnx_runtime
from edgedl.devices.counters import callgrind, job, perf
from edgedl.devices.counters.device import device

SILENT = "#!/bin/sh\n"
PERF = """#!/bin/sh
# A stand-in for perf: a million instructions a process, and 5,000 an inference.
while [ "$1" != -- ]; do [ "$1" = -o ] && out=$2; shift; done; shift
echo "$((1000000 + 5000 * ${6:-0})),,instructions:u,1000,100.00,," > "$out"
exec "$@"
"""
NO_COUNTER = """#!/bin/sh
# A stand-in for perf in a virtual machine without counters.
while [ "$1" != -- ]; do [ "$1" = -o ] && out=$2; shift; done
echo "<not supported>,,instructions:u,0,100.00,," > "$out"
"""


@pytest.fixture(scope="session")
def counted() -> None:
    """Skips where callgrind cannot count."""
    if refusal := callgrind.refusal():
        pytest.skip(str(refusal))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("counters")
    files = [dense_tflite(folder / f"{layers}.tflite", layers) for layers in (4, 8)]
    return [*files, dense_onnx(folder / "4.onnx", 4)]


@pytest.fixture(scope="module")
def report(counted: None, three: list[Path]) -> LatencyReport:
    return device.profile([model_file(path) for path in three], SamplingPlan(), "callgrind")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder that is all of the PATH."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put(tools: Path, name: str, script: str) -> None:
    (tools / name).write_text(script)
    (tools / name).chmod(0o755)


def test_counts_repeat_to_the_instruction(report: LatencyReport, three: list[Path], tmp_path: Path) -> None:
    """In another folder, under other names and with more threads asked for too: one is counted."""
    for path, first in zip((three[0], three[2]), (report.models[0], report.models[2]), strict=True):
        other = tmp_path / f"the same under a name that is longer{path.suffix}"
        other.write_bytes(path.read_bytes())
        again = device.profile([model_file(other)], SamplingPlan(threads=2), "callgrind").models[0]
        assert any("at one thread, not 2" in note for note in again.notes)
        assert again.instructions == first.instructions  # cache misses too
        assert again.ops == first.ops
        assert again.outputs == first.outputs


def test_twice_the_layers_are_about_twice_the_work(report: LatencyReport) -> None:
    small, large, _ = (model.instructions for model in report.models)
    assert 1.7 < large.total / small.total < 2.1
    assert small.total > 4 * 256 * 256 / 8  # eight products an instruction
    assert small.total > small.load > small.store
    assert small.simd is None
    assert [(cache.level, cache.kib) for cache in small.caches] == [(1, 32), (2, 256)]
    assert small.caches[0].misses > 4 * 256 * 256 * 4 / 64 * 0.9  # the weights do not fit
    speed = report.speed(report.models[1])
    assert (speed.what, speed.obtained, speed.ratio.value) == ("instructions", "emulated", large.total / small.total)


def test_costs_per_op_add_up_and_name_layers(report: LatencyReport) -> None:
    for model, layers in zip(report.models[:2], (4, 8), strict=True):
        kernels = [op for op in model.ops if op.index >= 0]
        assert [op.layer for op in kernels] == [f"dense_{layer}" for layer in range(layers)]
        assert {op.unit for op in model.ops} == {"instructions"}
        assert sum(op.cost for op in model.ops) == model.instructions.total
        assert 0 < model.ops[-1].cost < 15_000  # between the kernels


def test_both_formats_in_one_session(report: LatencyReport, three: list[Path]) -> None:
    lite, _, onnx = report.models
    assert set(report.runtimes) == {"LiteRT", "ONNX Runtime"}
    assert onnx.instructions.total > 4 * 256 * 256 / 8
    assert {op.unit for op in onnx.ops} == {"MACs"}
    assert any("multiply–accumulates" in note for note in onnx.notes)
    assert onnx.memory.model_bytes > lite.memory.model_bytes > 0
    assert from_json(LatencyReport, to_json(report)) == report


@pytest.mark.slow
def test_weights_beside_the_file_are_found(counted: None, three: list[Path], tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "m.onnx"
    place = {"all_tensors_to_one_file": True, "location": "weights/m.data", "size_threshold": 0}
    (tmp_path / "weights").mkdir()
    onnx.save(onnx.load(three[2]), path, save_as_external_data=True, **place)
    assert onnx_runtime.external_files(path)
    assert (
        device.profile([model_file(path)], SamplingPlan(), "callgrind").models[0].instructions.total > 4 * 256 * 256 / 8
    )


def test_what_does_not_run_is_one_clear_error(counted: None, tmp_path: Path) -> None:
    custom = model_file(dense_tflite(tmp_path / "custom.tflite", 1, custom_op="NoSuchOp"))
    with pytest.raises(ModelError, match=r"custom\.tflite.*NoSuchOp"):
        device.profile([custom], SamplingPlan(), "callgrind")


def test_without_its_tools_the_device_says_what_brings_them(tools: Path, three: list[Path]) -> None:
    status = device.status()
    assert not status.available
    assert (status.missing, status.command) == (("valgrind",), "apt-get install valgrind")
    for target, says in ((None, "valgrind is not installed.*apt-get install valgrind"), ("perf", "linux-perf")):
        with pytest.raises(UnavailableError, match=says) as caught:
            device.profile([model_file(three[0])], SamplingPlan(), target)
        assert caught.value.exit_code == ExitCode.UNAVAILABLE


def test_a_processor_without_counters_is_one_clear_error(tools: Path, three: list[Path]) -> None:
    put(tools, "perf", NO_COUNTER)
    with pytest.raises(UnavailableError, match=r"counts no instructions.*<not supported>.*counters:callgrind"):
        device.profile([model_file(three[0])], SamplingPlan(), "perf")
    put(tools, "perf", SILENT)
    assert not device.status().available


def test_perf_is_tried_and_not_assumed(three: list[Path]) -> None:
    """The real one, where there is one: it counts, or says why not."""
    if refusal := perf.refusal():
        with pytest.raises(UnavailableError, match=refusal.what):
            device.profile([model_file(three[0])], SamplingPlan(), "perf")
    else:
        assert device.profile([model_file(three[0])], SamplingPlan(), "perf").obtained == "measured"


def test_perf_counts_what_an_inference_adds(tools: Path, three: list[Path]) -> None:
    put(tools, "perf", PERF)
    report = device.profile([model_file(three[0])], SamplingPlan())  # no valgrind: perf is taken
    instructions = report.models[0].instructions
    assert (report.device, report.obtained) == ("counters:perf", "measured")
    assert (instructions.total, instructions.spread, instructions.load) == (5000, 0, None)
    assert instructions.inferences == perf.PAIRS * perf.INFERENCES
    assert {op.unit for op in report.models[0].ops} == {"MACs"}


def test_kinds_of_cores_are_added_up() -> None:
    """As perf tells processors with two kinds, of which a process may have seen one alone."""
    rows = "# started on Sun\n\n{},,cpu_atom/instructions:u/,0,0.00,,\n70,,cpu_core/instructions:u/,9,100.00,,\n"
    assert perf._sum(rows.format("<not counted>")) == 70
    assert perf._sum(rows.format("5")) == 75
    assert perf._sum("<not supported>,,instructions:u,0,100.00,,") is None


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("kill -SEGV $$", r"4\.tflite takes LiteRT down.*killed by SIGSEGV"),
        ("/bin/sleep 61.7 & wait", r"4\.tflite could not be counted.*no end within 0\.3 s"),
    ],
)
def test_a_crash_or_hang_names_the_file_and_leaves_nothing(
    tools: Path, three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    put(tools, "valgrind", SILENT + script)
    monkeypatch.setattr(job, "TIMEOUT_S", 0.3)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    with pytest.raises(ModelError, match=says):
        device.profile([model_file(three[0])], SamplingPlan(), "callgrind")
    assert set(tmp_path.iterdir()) == before
    assert not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["/bin/sleep", "61.7"]]


def test_a_counter_that_does_not_start_is_not_the_file_s_fault(tools: Path, three: list[Path]) -> None:
    put(tools, "valgrind", SILENT + "echo 'valgrind: failed to start tool' >&2; exit 1")
    with pytest.raises(UnavailableError, match=r"valgrind does not run here.*failed to start tool"):
        device.profile([model_file(three[0])], SamplingPlan(), "callgrind")


@pytest.mark.slow
def test_an_interrupt_leaves_nothing(tools: Path, three: list[Path], tmp_path: Path) -> None:
    put(tools, "valgrind", SILENT + f"echo $$ > {tmp_path}/pid; exec /bin/sleep 60")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "edgedl", "profile", str(three[0]), "--device", "counters:callgrind"]
    with subprocess.Popen(command, env=os.environ | {"TMPDIR": str(temporary)}, stderr=subprocess.PIPE) as process:
        while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == ExitCode.INTERRUPTED
    assert list(temporary.iterdir()) == []
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
