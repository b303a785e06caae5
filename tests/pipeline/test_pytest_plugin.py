"""The plug-in in a pytest of its own, and what a test gets from each outcome."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.ci.repository import LAYERS, SLOWER, repository, snippet
from tests.tiny_models import dense_tflite

from edgedl.core.artifacts import Outcome, Verdict
from edgedl.core.errors import InconclusiveError, UnavailableError
from edgedl.pipeline.pytest_plugin import EdgedlLatency, Inconclusive, Settings


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, where edgedl's entry point brings the plug-in; the folder is the root."""
    (folder / "pytest.ini").touch()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def properties(junit: Path) -> dict[str, dict[str, str]]:
    """Of each test case."""
    return {
        str(case.get("name")): {str(one.get("name")): str(one.get("value")) for one in case.iter("property")}
        for case in ElementTree.parse(junit).iter("testcase")
    }


def test_the_documented_test_fails_where_the_model_got_slower(tmp_path: Path):
    folder = repository(tmp_path)
    (folder / "test_latency.py").write_text(snippet("pytest", "python"))
    dense_tflite(folder / "models" / "m.tflite", SLOWER)
    ran = run_pytest(folder, "--edgedl-budget-s", "4", "--junitxml", "junit.xml", "-W", "error")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "edgedl: regressed: models/m.tflite against m.tflite in HEAD" in ran.stdout
    assert "more than the 5 % allowed" in ran.stdout
    assert f"where: ops: +{SLOWER - LAYERS} FULLY_CONNECTED" in ran.stdout
    assert "Traceback" not in ran.stdout
    noted = properties(folder / "junit.xml")["test_latency"]
    assert noted["edgedl:models/m.tflite"] == "regressed"
    assert noted["edgedl:models/m.tflite:latency"].startswith("regressed: Latency: ")
    assert noted["edgedl:models/m.tflite:size"].startswith("pass: Size: ")


TESTS = """
import pytest

def test_within(edgedl_latency):
    verdict = edgedl_latency("models/m.tflite").at_most(slowdown=None, size_growth="1%")
    assert (verdict.outcome, verdict.latency) == ("pass", None)

def test_beyond(edgedl_latency):
    edgedl_latency("models/m.tflite", "git:HEAD").at_most(slowdown=None, added_ops=0)

def test_absent(edgedl_latency):
    edgedl_latency("models/absent.tflite").at_most()

def test_elsewhere(edgedl_latency, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    edgedl_latency("models/m.tflite").at_most(slowdown=None, added_ops=9)
    import os
    assert os.getcwd() == str(tmp_path)

def test_device(edgedl_latency):
    edgedl_latency("models/m.tflite", device="abacus").at_most()
"""


@pytest.mark.slow
def test_limits_and_mistakes(tmp_path: Path):
    folder = repository(tmp_path)
    (folder / "test_latency.py").write_text(TESTS)
    dense_tflite(folder / "models" / "m.tflite", SLOWER)
    ran = run_pytest(folder, "--tb=short", "-rA")
    told = [line for line in ran.stdout.splitlines() if line.startswith(("PASSED", "FAILED", "ERROR"))]
    assert [(line.split()[0], line.split()[1].split("::")[1]) for line in told] == [
        ("PASSED", "test_within"),
        ("PASSED", "test_elsewhere"),
        ("FAILED", "test_beyond"),
        ("FAILED", "test_absent"),
        ("FAILED", "test_device"),
    ], ran.stdout
    assert "ops: regressed: Ops: 8 → 14 ops in all (+6): 0 more are allowed" in ran.stdout
    for words in ("absent.tflite", "abacus"):
        assert any(line.startswith("edgedl: ") and words in line for line in ran.stdout.splitlines()), ran.stdout
    assert "Traceback" not in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "edgedl_inconclusive=maybe"], "required skip, fail or pass, received 'maybe'"),
        (["-o", "edgedl_budget_s=long"], "required seconds, received 'long'"),
    ],
)
def test_settings_that_cannot_be_end_the_run_before_it_begins(tmp_path: Path, arguments: list[str], says: str):
    ran = run_pytest(tmp_path, *arguments)
    assert (ran.returncode, says in ran.stderr) == (pytest.ExitCode.USAGE_ERROR, True), ran.stderr


STAND_IN = """
import time
from pathlib import Path
import pytest
from edgedl.core.artifacts import Verdict

@pytest.fixture(autouse=True)
def session(monkeypatch):
    def check(new, against, *, budget_s, **_):
        began = time.time()
        time.sleep(0.3)
        Path(f"{new}.times").write_text(f"{began} {time.time()} {against} {budget_s}")
        return Verdict(name="", new=new, old=against, outcome="pass", findings=())
    monkeypatch.setattr("edgedl.pipeline.verbs.check", check)
"""


@pytest.mark.slow
def test_workers_of_xdist_measure_one_at_a_time(tmp_path: Path):
    (tmp_path / "conftest.py").write_text(STAND_IN)
    (tmp_path / "test_them.py").write_text(
        "import pytest\n\n@pytest.mark.parametrize('name', 'abcd')\n"
        "def test_one(edgedl_latency, name):\n    edgedl_latency(name).at_most()\n"
    )
    settings = ["-o", "edgedl_against=git:v1", "-o", "edgedl_budget_s=7"]
    ran = run_pytest(tmp_path, "-n", "2", *settings, "--edgedl-against", "git:main")
    assert ran.returncode == 0, ran.stdout
    times = sorted(path.read_text().split() for path in tmp_path.glob("*.times"))
    assert len(times) == 4
    assert all(float(times[i][1]) <= float(times[i + 1][0]) for i in range(3)), times
    assert {tuple(one[2:]) for one in times} == {("git:main", "7.0")}


# --- each outcome, without a session -----------------------------------------------------------------------------


def latency(monkeypatch: pytest.MonkeyPatch, answer: Outcome | Exception, inconclusive: Inconclusive) -> EdgedlLatency:
    def check(new: str, against: str, **_: Any) -> Verdict:
        if isinstance(answer, Exception):
            raise answer
        return Verdict(name="", new=new, old=against, outcome=answer, findings=(), notes=("so it is",))

    monkeypatch.setattr("edgedl.pipeline.verbs.check", check)
    return EdgedlLatency(Settings(Path.cwd(), inconclusive=inconclusive))


@pytest.mark.parametrize("outcome", ["pass", "improved"])
def test_what_did_not_regress_passes_and_is_returned(monkeypatch: pytest.MonkeyPatch, outcome: Outcome):
    fixture = latency(monkeypatch, outcome, "skip")
    assert fixture("a.tflite", "b.tflite").at_most(slowdown=None).outcome == outcome
    assert fixture.properties == [("edgedl:a.tflite", outcome)]


@pytest.mark.parametrize("answer", ["inconclusive", InconclusiveError("so it is")])
def test_inconclusive_does_what_the_ini_file_says(monkeypatch: pytest.MonkeyPatch, answer: Outcome | Exception):
    with pytest.raises(pytest.skip.Exception, match=r"inconclusive: a.tflite against git:HEAD\n  note: so it is"):
        latency(monkeypatch, answer, "skip")("a.tflite").at_most(slowdown=None)
    with pytest.raises(pytest.fail.Exception, match="so it is"):
        latency(monkeypatch, answer, "fail")("a.tflite").at_most(slowdown=None)
    assert latency(monkeypatch, answer, "pass")("a.tflite").at_most(slowdown=None).outcome == "inconclusive"


def test_a_device_that_is_not_there_fails(monkeypatch: pytest.MonkeyPatch):
    """A gate that is skipped where its device is missing would pass anything."""
    fixture = latency(monkeypatch, UnavailableError("there is no phone", advice="Plug one in"), "skip")
    with pytest.raises(pytest.fail.Exception, match=r"edgedl: there is no phone\. Plug one in"):
        fixture("a.tflite").at_most(slowdown=None)


def test_pytest_loads_little_where_edgedl_is_installed():
    code = (
        "import pytest, sys\nbefore = set(sys.modules)\nimport edgedl.pipeline.pytest_plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["edgedl", "edgedl.pipeline", "edgedl.pipeline.pytest_plugin"]
