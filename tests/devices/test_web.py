"""Models in a real headless Chromium: the server, both runtimes, and what stands in the way."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
from tests.tiny_models import dense_onnx, dense_tflite, model_file

from edgedl.core.errors import ExitCode, ModelError, StageError, UnavailableError
from edgedl.devices import SamplingPlan, find_device
from edgedl.devices.web import answers, browser, packages, pages
from edgedl.devices.web.device import device
from edgedl.devices.web.server import served
from edgedl.pipeline.cli.output import Output
from edgedl.pipeline.cli.words import latency_table

PLAN = SamplingPlan(budget_s=2.0)
pytestmark = pytest.mark.xdist_group("web")  # one browser at a time: these measure


@pytest.fixture(scope="module")
def web() -> None:
    """Skips where Playwright, a browser or npm are missing; npm's packages are fetched once and kept in the cache."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright not installed (pip install 'edgedl[web]')")
    if browser.find_browser() is None:
        pytest.skip("no Chromium, Chrome or Edge (apt-get install chromium)")
    if packages.missing() and shutil.which("npm") is None:
        pytest.skip("npm's packages are not in the cache, and npm is not installed (apt-get install npm)")
    device.set_up()


@pytest.fixture
def clean() -> Generator[None]:
    """Nothing is left behind: no browser, no driver."""
    yield
    for _ in range(50):
        children = [child.name() for child in psutil.Process().children(recursive=True)]
        left = [name for name in children if "chrom" in name or "node" in name]
        if not left:
            return
        time.sleep(0.1)
    pytest.fail(f"left running: {left}")


# --- the server --------------------------------------------------------------------------------------------------


def fetched(address: str, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content


def test_the_server_gives_the_named_files_with_the_headers_for_threads(tmp_path: Path) -> None:
    for name in ("a.html", "b.mjs", "c.wasm", "model.tflite"):
        (tmp_path / name).write_text(name)
    with served({f"files/{path.name}": path for path in tmp_path.iterdir()}) as address:
        assert urlsplit(address).hostname == "127.0.0.1"
        root = urlsplit(address).path
        kinds = {"a.html": "text/html", "b.mjs": "text/javascript", "c.wasm": "application/wasm"}
        for name, kind in {**kinds, "model.tflite": "application/octet-stream"}.items():
            status, headers, content = fetched(address, f"{root}files/{name}")
            assert (status, content) == (200, name.encode())
            assert headers["content-type"].startswith(kind)
            assert headers["cross-origin-opener-policy"] == "same-origin"
            assert headers["cross-origin-embedder-policy"] == "require-corp"
    with pytest.raises(ConnectionRefusedError):
        fetched(address, "/")


def test_the_server_gives_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "page.html").write_text("page")
    (tmp_path / "secret").write_text("secret")
    with served({"page.html": tmp_path / "in" / "page.html", "gone": tmp_path / "gone"}) as address:
        root = urlsplit(address).path
        wrong = [
            "/",
            "/page.html",
            root,
            f"{root}../secret",
            f"{root}%2e%2e/secret",
            f"{root}./page.html",
            f"{root}gone",
        ]
        for path in [*wrong, "/etc/passwd", f"{root}/etc/passwd", str(tmp_path / "secret")]:
            status, _, content = fetched(address, path)
            assert (status, content) == (404, b""), path
        assert fetched(address, f"{root}page.html")[0] == 200
        assert fetched(address, f"{root}page.html", "POST")[0] == 501


# --- sessions ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_both_runtimes_are_timed_in_one_session(web: None, clean: None, tmp_path: Path) -> None:
    paths = [dense_tflite(tmp_path / "small é.tflite", 1), dense_onnx(tmp_path / "large.onnx", 30, 512)]
    report = device.profile([model_file(path) for path in paths], PLAN)
    assert (report.device, report.obtained, report.conditions.threads) == ("web:wasm", "measured", 1)
    assert report.processes >= 4
    assert "cross-origin isolated" in report.hardware
    assert "not cross-origin isolated" not in report.hardware
    assert report.runtimes["Chromium"] in report.hardware
    small, large = report.models
    assert small.timing is not None
    assert large.timing is not None
    assert small.runtime == f"LiteRT.js {packages.version_of(packages.LITERT)}, wasm"
    assert large.runtime == f"ONNX Runtime Web {packages.version_of(packages.ONNX_RUNTIME)}, wasm"
    assert len(small.timing.blocks_us) == len(large.timing.blocks_us) == report.processes
    assert large.timing.ratio is not None
    assert large.timing.ratio.value > 2
    assert small.timing.load_ms > 0
    assert small.timing.first_ms * 1e3 > small.timing.p10_us.value
    assert len(small.outputs) == 1
    assert any("clock ticks in" in note for note in small.notes)
    assert all(model.parity[0].outputs[0].relative_error < 1e-5 for model in report.models)
    assert small.ops == ()


def test_a_sample_is_long_against_the_clock_and_outputs_are_hashed(web: None, tmp_path: Path) -> None:
    files = [model_file(dense_tflite(tmp_path / "m.tflite", 1, 16))]
    with pages.opened(files, PLAN, "wasm", 1) as opened:
        assert opened.about.isolated
        assert 1 < opened.about.tick_us < 200
        (seen,) = opened.examine()
        (timed,) = opened.time_all(0.3, 1)
        assert opened.each[0][0] > 1
    fastest_us = min(min(block) for block in timed.blocks_us)
    # aimed at before the browser has optimised its code, which may make a sample some times shorter: a tick is still
    assert fastest_us * opened.each[0][0] > 20 * opened.about.tick_us  # at most 5 % of it
    assert timed.warm_up > 1
    assert seen.hashes == (fnv1a(seen.outputs[0]),)


def fnv1a(content: bytes) -> str:
    """As every device computes it: FNV-1a, 64 bits."""
    found = 0xCBF29CE484222325
    for byte in content:
        found = (found ^ byte) * 0x100000001B3 % 2**64
    return f"{found:016x}"


@pytest.mark.slow
def test_threads_are_real(web: None, clean: None, tmp_path: Path) -> None:
    files = [model_file(dense_tflite(tmp_path / "m.tflite", 2)), model_file(dense_onnx(tmp_path / "m.onnx", 2))]
    report = device.profile(files, PLAN, "wasm-threads")
    assert report.device == "web:wasm-threads"
    assert report.conditions.threads == 2
    assert all(model.timing for model in report.models)


@pytest.mark.slow
def test_a_software_gpu_gives_coverage_and_outputs_but_no_time(
    web: None, clean: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(browser, "GPU", browser.SOFTWARE_GPU)
    files = [model_file(dense_tflite(tmp_path / "m.tflite", 2)), model_file(dense_onnx(tmp_path / "m.onnx", 2))]
    report = device.profile(files, PLAN, "webgpu")
    assert "swiftshader" in report.hardware
    for model in report.models:
        assert model.timing is None
        assert report.speed(model) is None
        assert any("not timed: WebGPU is software here" in note for note in model.notes)
        assert 0 <= model.parity[0].outputs[0].relative_error < 1e-5
    assert "the GPU runs the whole file" in report.models[0].notes
    latency_table(Output(as_json=False, quiet=False), report)
    assert report.obtained == "emulated"
    assert "no latency: each file run once, not timed" in capsys.readouterr().out
    assert any("the GPU runs all of" in note for note in report.models[1].notes)


@pytest.mark.slow
def test_a_session_in_a_notebook_and_what_the_target_does_not_heed(web: None, clean: None, tmp_path: Path) -> None:
    files = [model_file(dense_tflite(tmp_path / "m.tflite", 1))]

    async def cell():
        return device.profile(files, SamplingPlan(budget_s=0.5, threads=4, xnnpack=False), "wasm")

    report = asyncio.run(cell())
    assert any("web:wasm-threads" in note for note in report.models[0].notes)
    assert any("XNNPACK" in note for note in report.models[0].notes)
    assert (report.conditions.threads, report.conditions.xnnpack) == (1, True)


@pytest.mark.slow
def test_from_the_command_line(web: None, tmp_path: Path) -> None:
    dense_tflite(tmp_path / "a.tflite", 1)
    dense_onnx(tmp_path / "b.onnx", 1)
    words = ["profile", "a.tflite", "b.onnx", "--device", "web", "--budget-s", "1"]
    edgedl = [sys.executable, "-m", "edgedl", *words, "--json"]
    done = subprocess.run(edgedl, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert [model["timing"]["load_ms"] > 0 for model in report["models"]] == [True, True]


# --- files that do not run ---------------------------------------------------------------------------------------


def test_an_op_that_litert_js_lacks_is_an_error_though_its_run_succeeds(web: None, clean: None, tmp_path: Path) -> None:
    file = model_file(dense_tflite(tmp_path / "custom.tflite", 1, custom_op="NoSuchOp"))
    with pytest.raises(ModelError, match=r"LiteRT\.js cannot run custom\.tflite.*NoSuchOp"):
        device.profile([file], PLAN)


@pytest.mark.slow
def test_an_op_that_onnx_runtime_lacks_names_the_file_among_others(web: None, clean: None, tmp_path: Path) -> None:
    good = model_file(dense_tflite(tmp_path / "good.tflite", 1))
    bad = model_file(dense_onnx(tmp_path / "bad.onnx", 1, op="NoSuchOp"))
    with pytest.raises(ModelError, match=r"ONNX Runtime Web cannot run bad\.onnx.*NoSuchOp"):
        device.profile([good, bad], PLAN)


def test_integer_inputs_are_refused_with_the_way_out(web: None, tmp_path: Path) -> None:
    file = model_file(relu_tflite(tmp_path / "int8.tflite", int8=True))
    with pytest.raises(ModelError, match=r"received int8.*compress MODEL --method int8 --io float") as caught:
        device.profile([file], PLAN)
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_a_dynamic_batch_is_refused_with_the_way_out(web: None, tmp_path: Path) -> None:
    file = model_file(relu_tflite(tmp_path / "open.tflite", batch=-1))
    with pytest.raises(ModelError, match=r"LiteRT\.js cannot run open\.tflite.*static shapes"):
        device.profile([file], PLAN)


def relu_tflite(path: Path, *, int8: bool = False, batch: int = 1) -> Path:
    """relu of 8 values. batch: in the shape's signature; -1 leaves it open."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    def tensor(name: str):
        scale = schema.QuantizationParametersT(scale=np.array([0.1], "<f4"), zeroPoint=np.array([0], np.int64))
        return schema.TensorT(
            name=name,
            shape=np.array([1, 8], np.int32),
            shapeSignature=np.array([batch, 8], np.int32),
            type=schema.TensorType.INT8 if int8 else schema.TensorType.FLOAT32,
            hasRank=True,
            buffer=0,
            quantization=scale if int8 else None,
        )

    code = schema.OperatorCodeT(builtinCode=19, deprecatedBuiltinCode=19)
    operator = schema.OperatorT(0, [0], [1])
    graph = schema.SubGraphT(tensors=[tensor("x"), tensor("y")], inputs=[0], outputs=[1], operators=[operator])
    signature = schema.SignatureDefT([schema.TensorMapT("x", 0)], [schema.TensorMapT("y", 1)], "serving_default")
    model = schema.ModelT(3, [code], [graph], buffers=[schema.BufferT()], signatureDefs=[signature])
    builder = Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's module, for a test to break."""
    folder = tmp_path / "page"
    folder.mkdir()
    for name in pages.PAGE_FILES:
        shutil.copy(pages.HERE / name, folder)
    monkeypatch.setattr(pages, "HERE", folder)
    return folder / "page.mjs"


@pytest.mark.slow
@pytest.mark.parametrize("body", ["await new Promise(() => {})", "for (;;) {}"])
def test_a_page_that_hangs_is_given_up_and_names_the_file(
    web: None, clean: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Path, body: str
) -> None:
    page.write_text(page.read_text().replace("const arrays = await model.invoke();", f"{body}; const arrays = [];"))
    monkeypatch.setattr(pages, "TIMEOUT_S", 8.0)
    file = model_file(dense_tflite(tmp_path / "slow.tflite", 1))
    with pytest.raises(ModelError, match=r"slow\.tflite takes the page down.*did not answer within 8 s"):
        device.profile([file], PLAN)


@pytest.mark.slow
def test_a_page_that_crashes_names_the_file(
    web: None, clean: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Path
) -> None:
    """Its process is killed, as the system does where memory runs out."""
    page.write_text(page.read_text().replace("const arrays = await model.invoke();", "await new Promise(() => {});"))
    file = model_file(dense_tflite(tmp_path / "heavy.tflite", 1))
    killer = killing("--type=renderer")
    with pytest.raises(ModelError, match=r"heavy\.tflite takes the page down.*crashed"):
        device.profile([file], PLAN)
    killer.join()


@pytest.mark.slow
def test_a_browser_that_dies_is_a_clear_error(web: None, clean: None, tmp_path: Path, page: Path) -> None:
    page.write_text(page.read_text().replace("const arrays = await model.invoke();", "await new Promise(() => {});"))
    killer = killing("--remote-debugging-p")
    with pytest.raises(StageError, match="the browser ended while a page ran"):
        device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 1))], PLAN)
    killer.join()


def killing(word: str) -> threading.Thread:
    """Kills this process's browser processes whose command line has the word, once a page has had time to hang."""

    def run() -> None:
        deadline, seen_at = time.monotonic() + 60, None
        while time.monotonic() < deadline:
            children = psutil.Process().children(recursive=True)
            chosen = [child for child in children if any(word in part for part in words_of(child))]
            seen_at = seen_at or (time.monotonic() if chosen else None)
            if seen_at and time.monotonic() > seen_at + 8:
                for child in chosen:
                    os.kill(child.pid, signal.SIGKILL)
                return
            time.sleep(0.2)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def words_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


# --- what is missing ---------------------------------------------------------------------------------------------


def test_without_playwright_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"edgedl\[web\]"):
        device.profile([], PLAN)


def test_without_a_browser_the_package_or_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("playwright", reason="playwright not installed")
    monkeypatch.setenv("EDGEDL_CHROMIUM", "/no/such/browser --headless")
    with pytest.raises(UnavailableError, match="EDGEDL_CHROMIUM='/no/such/browser --headless' is no program"):
        device.profile([], PLAN)
    monkeypatch.delenv("EDGEDL_CHROMIUM")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", "/no/such/folder")
    monkeypatch.setattr(browser, "PLACES", ())
    with pytest.raises(UnavailableError, match="apt-get install chromium"):
        device.profile([], PLAN)


def test_a_browser_that_playwright_downloaded_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(browser, "PLACES", ())
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    for number in (1100, 1200):
        program = tmp_path / f"chromium-{number}" / "chrome-linux64" / "chrome"
        program.parent.mkdir(parents=True)
        program.touch(0o755)
    assert browser.find_browser() == [str(tmp_path / "chromium-1200/chrome-linux64/chrome")]


def test_a_browser_that_does_not_start_says_why(web: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\necho 'ERROR: no screen, no fonts' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("EDGEDL_CHROMIUM", str(program))
    with pytest.raises(UnavailableError, match=r"does not start.*no screen, no fonts"):
        device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 1))], PLAN)


def test_without_the_packages_setup_is_named_and_without_npm_the_next_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("playwright", reason="playwright not installed")
    monkeypatch.setenv("EDGEDL_CACHE", str(tmp_path))
    monkeypatch.setenv("EDGEDL_CHROMIUM", sys.executable)
    with pytest.raises(UnavailableError, match=r"@litertjs/core@.*edgedl devices setup web"):
        device.profile([], PLAN)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match=r"npm, which is not installed.*Node"):
        device.set_up()


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        (
            "echo 'npm error code E404' >&2; echo 'npm error 404 Not Found' >&2; exit 1",
            UnavailableError,
            "404 Not Found",
        ),
        ("echo forged > litertjs-core-0.tgz", StageError, "is not the one that edgedl was written for"),
    ],
)
def test_what_npm_brings_must_be_what_was_pinned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, error: type[Exception], says: str
) -> None:
    pytest.importorskip("playwright", reason="playwright not installed")
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")
    monkeypatch.setenv("EDGEDL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(error, match=says):
        device.set_up()
    assert list((tmp_path / "cache" / "web").iterdir()) == []


# --- answers -----------------------------------------------------------------------------------------------------


def test_what_the_gpu_does_not_run_is_told_by_the_runtimes_log(tmp_path: Path) -> None:
    """Lines as LiteRT.js 2.5.3 and ONNX Runtime Web 1.30.0 write them."""
    tflite = model_file(dense_tflite(tmp_path / "m.tflite", 1))
    none = [
        "INFO: [gpu_registry.cc:87] Statically linked GPU accelerator registered.",
        "ERROR: Following operations are not supported by GPU delegate:",
        "PAD: Invalid paddings tensor shape: expected 4x2 or 3x2, got 2x2",
        "No operations will run on the GPU, and all 1 operations will run on the CPU.",
    ]
    said = answers.placement(tflite, none)
    assert said == f"the GPU runs none of 1 ops, the CPU the rest ({none[2]})"
    some = [
        *none[:3],
        "SLICE: too many axes",
        "SLICE: others",
        "31 operations will run on the GPU, and the remaining 66 ",
    ]
    some[-1] += "operations will run on the CPU."
    assert answers.placement(tflite, some).startswith("the GPU runs 31 of 97 ops, the CPU the rest (PAD: Invalid")
    assert answers.placement(tflite, some).count("SLICE") == 1
    assert "whole file" in answers.placement(tflite, ["Initializing WebGPU-based API from graph."])
    assert "does not tell" in answers.placement(tflite, [])
    assert not answers.complaints(some)
    onnx = model_file(dense_onnx(tmp_path / "m.onnx", 1))
    placed = [f" Node(s) placed on [{name}]. Number of nodes: {n}" for name, n in PROVIDERS.items()]
    assert answers.placement(onnx, placed) == "the GPU runs 4 of 7 nodes, as ONNX Runtime fused them"


PROVIDERS = {"WebGpuExecutionProvider": 4, "CPUExecutionProvider": 3}


def test_a_target_is_looked_up() -> None:
    assert find_device("web:wasm-threads")[1] == "wasm-threads"
    with pytest.raises(UnavailableError, match="Did you mean 'wasm-threads'"):
        find_device("web:wasm-thread")
