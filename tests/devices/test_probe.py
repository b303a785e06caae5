"""The probe: what it prints becomes facts, and a native one agrees with the Python driver of the same library."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.tiny_models import conv_onnx, dense_onnx, dense_tflite, model_file

from edgedl.core.errors import ModelError, StageError, UnavailableError
from edgedl.devices import litert, native, onnx_runtime
from edgedl.devices.native import runtime
from edgedl.devices.probe import ProbeFile, ProbeTask, Seen, input_bytes, read_facts, write_inputs


def library() -> Path:
    import ai_edge_litert

    return Path(ai_edge_litert.__path__[0]) / "libLiteRt.so"


def run_natively(task: ProbeTask, names: list[str]) -> Seen:
    probe = native.built("probe.c", native.host_architecture())
    done = subprocess.run(task.command(str(probe), str(library())), capture_output=True, text=True, check=False)
    return read_facts(done.stdout.splitlines(), names, said=done.stderr)


def run_onnx_natively(task: ProbeTask, names: list[str]) -> Seen:
    probe = native.built("probe_onnx.c", native.host_architecture())
    words = task.command(str(probe), str(runtime.library(native.host_architecture(), runtime.ONNX_RUNTIME)))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return read_facts(done.stdout.splitlines(), names, said=done.stderr, runtime="ONNX Runtime")


def test_two_files_are_timed_in_turns(tmp_path: Path) -> None:
    files = [model_file(dense_tflite(tmp_path / f"{layers}.tflite", layers)) for layers in (2, 8)]
    inputs = write_inputs(files, tmp_path, seed=0)
    jobs = [ProbeFile(str(file.path), str(at)) for file, at in zip(files, inputs, strict=True)]
    seen = run_natively(ProbeTask("time", jobs, count=4, seconds=0.2), ["2.tflite", "8.tflite"])
    small, large = seen.files
    assert len(small.blocks_us) == len(large.blocks_us) > 3
    assert all(len(block) == 4 for block in small.blocks_us)
    assert min(map(min, small.blocks_us)) < min(map(min, large.blocks_us))
    assert small.first_us is not None
    assert small.load_us > 0
    assert small.heap_bytes < large.heap_bytes
    assert seen.runtime_bytes > 1e6


def test_outputs_are_those_of_the_python_driver(tmp_path: Path) -> None:
    file = model_file(dense_tflite(tmp_path / "m.tflite", 3))
    (inputs,) = write_inputs([file], tmp_path, seed=5)
    outputs = tmp_path / "outputs"
    run_natively(ProbeTask("count", [ProbeFile(str(file.path), str(inputs), str(outputs))], count=2), ["m.tflite"])
    session = litert.open_session(file.path, threads=1, xnnpack=True, seed=5)
    session.invoke()
    assert outputs.read_bytes() == b"".join(one.tobytes() for one in session.outputs())


def test_a_refused_file_is_named_with_the_runtimes_reason(tmp_path: Path) -> None:
    file = model_file(dense_tflite(tmp_path / "custom.tflite", 1, custom_op="NoSuchOp"))
    (inputs,) = write_inputs([file], tmp_path, seed=0)
    with pytest.raises(ModelError, match=r"custom\.tflite.*NoSuchOp"):
        run_natively(ProbeTask("time", [ProbeFile(str(file.path), str(inputs))], 1, 0.1), ["custom.tflite"])


def test_inputs_of_the_wrong_size_are_refused(tmp_path: Path) -> None:
    path = dense_tflite(tmp_path / "m.tflite", 1)
    for content, says in ((b"12", "shorter"), (bytes(5000), "longer")):
        (tmp_path / "inputs").write_bytes(content)
        task = ProbeTask("time", [ProbeFile(str(path), str(tmp_path / "inputs"))], 1, 0.1)
        with pytest.raises(ModelError, match=says):
            run_natively(task, ["m.tflite"])
    assert len(input_bytes(model_file(path), 0)) == 4 * 256


def test_onnx_outputs_and_nodes_are_those_of_the_python_driver(tmp_path: Path) -> None:
    for file in (model_file(dense_onnx(tmp_path / "m.onnx", 3)), model_file(conv_onnx(tmp_path / "c.onnx"))):
        (inputs,) = write_inputs([file], tmp_path, seed=5)
        outputs, graph = tmp_path / "outputs", tmp_path / "graph"
        job = ProbeFile(str(file.path), str(inputs), str(outputs))
        seen = run_onnx_natively(ProbeTask("ops", [job], 2, profiling=str(graph)), [file.path.name])
        session = onnx_runtime.open_session(file.path, threads=1, xnnpack=True, seed=5)
        session.invoke()
        assert outputs.read_bytes() == b"".join(one.tobytes() for one in session.outputs())
        session.close()
        executed = onnx_runtime.read_graph(tmp_path / "graph-0.onnx")
        events = [event for event in seen.files[0].profile if onnx_runtime.is_node(event)]
        assert len(events) == 3 * len(executed)
        assert {onnx_runtime.name_and_op(event)[0] for event in events} == {node.name for node in executed}


def test_onnx_files_are_timed_in_turns(tmp_path: Path) -> None:
    files = [model_file(dense_onnx(tmp_path / f"{layers}.onnx", layers)) for layers in (2, 16)]
    inputs = write_inputs(files, tmp_path, seed=0)
    jobs = [ProbeFile(str(file.path), str(at)) for file, at in zip(files, inputs, strict=True)]
    small, large = run_onnx_natively(ProbeTask("time", jobs, count=4, seconds=0.2), ["2.onnx", "16.onnx"]).files
    assert len(small.blocks_us) == len(large.blocks_us) > 3
    assert min(map(min, small.blocks_us)) < min(map(min, large.blocks_us))


def test_onnx_files_that_do_not_run_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "inputs").write_bytes(b"12")
    for name, path, says in (
        ("op.onnx", dense_onnx(tmp_path / "op.onnx", 1, op="NoSuchOp"), r"ONNX Runtime cannot run op\.onnx.*NoSuchOp"),
        ("short.onnx", dense_onnx(tmp_path / "short.onnx", 1), r"short\.onnx.*shorter"),
        ("none.onnx", tmp_path / "none.onnx", r"none\.onnx.*(doesn't|does not) exist"),
    ):
        with pytest.raises(ModelError, match=says):
            run_onnx_natively(ProbeTask("time", [ProbeFile(str(path), str(tmp_path / "inputs"))], 1, 0.1), [name])


@pytest.mark.parametrize(
    ("lines", "error", "says"),
    [
        ([], StageError, "stops half-way"),
        (['{"fact":"runtime","peak_bytes":1}', '{"fact":"loa'], StageError, "lost while it ran a"),
        (['{"fact":"error","file":-1,"status":-1,"what":"no such library"}'], StageError, "no such library"),
        (['{"fact":"error","file":0,"status":500,"what":"CreateModelFromFile"}'], ModelError, "file I/O"),
    ],
)
def test_a_probe_that_fails_is_one_error(lines: list[str], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        read_facts(lines, ["a"])


def test_without_a_compiler_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEDL_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "compiler", lambda architecture: None)
    with pytest.raises(UnavailableError, match=r"edgedl\[arm64\]"):
        native.built("probe.c", "aarch64")


def test_code_that_does_not_compile_is_one_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEDL_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "FLAGS", native.FLAGS | {"probe.c": ("-not-an-option",)})
    with pytest.raises(StageError, match=r"probe\.c does not compile"):
        native.built("probe.c", native.host_architecture())
    assert not [path for path in (tmp_path / "native").iterdir() if path.is_file()]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The plugin as a library; what QEMU would give it is there but does nothing."""
    source = native.SOURCES / "instructions.c"
    given = sorted(set(re.findall(r"\b(qemu_plugin_(?:register|tb|insn|mem)\w+)\(", source.read_text())))
    code = f'#include "{source}"\n' + "".join(
        f'__attribute__((alias("nothing"))) extern __typeof__({name}) {name};\n' for name in given
    )
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "plugin.c").write_text("static int nothing(void) { return 0; }\n" + code)
    command = [*(native.compiler(native.host_architecture()) or ["cc"]), "-w", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", folder / "plugin.so", folder / "plugin.c"], check=True)
    return ctypes.CDLL(str(folder / "plugin.so"))


CLASSES = ("all", "load", "store", "branch", "simd", "dot", "multiply_add", "other")


@pytest.mark.parametrize(
    ("word", "kinds"),
    [
        (0x4E809420, {"simd", "dot"}),  # sdot v0.4s, v1.16b, v0.16b
        (0x6E809420, {"simd", "dot"}),  # udot v0.4s, v1.16b, v0.16b
        (0x4FA0E020, {"simd", "dot"}),  # sdot v0.4s, v1.16b, v0.4b[1]
        (0x4E80A420, {"simd", "dot"}),  # smmla v0.4s, v1.16b, v0.16b
        (0x4E20CC20, {"simd", "multiply_add"}),  # fmla v0.4s, v1.4s, v0.4s
        (0x4F801020, {"simd", "multiply_add"}),  # fmla v0.4s, v1.4s, v0.s[0]
        (0x0E608020, {"simd", "multiply_add"}),  # smlal v0.4s, v1.4h, v0.4h
        (0x1F000020, {"simd", "multiply_add"}),  # fmadd s0, s1, s0, s0
        (0x4E20D420, {"simd"}),  # fadd v0.4s, v1.4s, v0.4s
        (0x6E20DC20, {"simd"}),  # fmul v0.4s, v1.4s, v0.4s
        (0xF9400020, {"load"}),  # ldr x0, [x1]
        (0xF9000020, {"store"}),  # str x0, [x1]
        (0xA9400420, {"load"}),  # ldp x0, x1, [x1]
        (0xAD000420, {"store"}),  # stp q0, q1, [x1]
        (0x3DC00020, {"load"}),  # ldr q0, [x1]
        (0x3D800020, {"store"}),  # str q0, [x1]
        (0x4C407820, {"load"}),  # ld1 {v0.4s}, [x1]
        (0x4C007820, {"store"}),  # st1 {v0.4s}, [x1]
        (0x58000020, {"load"}),  # ldr x0, literal
        (0xB8A00020, {"load"}),  # ldadd w0, w0, [x1], acquire
        (0xF9800020, {"other"}),  # prfm pldl1keep, [x1]
        (0x54000040, {"branch"}),  # b.eq
        (0xD65F03C0, {"branch"}),  # ret
        (0x8B000020, {"other"}),  # add x0, x1, x0
        (0x91000420, {"other"}),  # add x0, x1, 1
    ],
)
def test_instructions_are_of_the_class_that_the_manual_gives(plugin: Any, word: int, kinds: set[str]) -> None:
    counts = (ctypes.c_uint64 * len(CLASSES))()
    plugin.classify(ctypes.c_uint32(word), counts)
    assert {name for name, count in zip(CLASSES, counts, strict=True) if count} == kinds | {"all"}
