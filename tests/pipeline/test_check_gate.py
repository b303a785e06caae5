"""Several models on several devices: latency.yaml, its questions, their answers for build servers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml
from tests.tiny_models import dense_tflite, model_file

from edgedl.core.artifacts import Checked, Gate, Verdict
from edgedl.core.errors import ConfigError, ExitCode, InputError, UnavailableError
from edgedl.pipeline.check.baseline import baseline_of, write_baseline
from edgedl.pipeline.check.gate import Question, accept, check_one, gate_exit_code, listed, named, on_all
from edgedl.pipeline.check.latency_yaml import LatencyYaml, models_below, read_latency_yaml, template
from edgedl.pipeline.check.words import to_code_quality, to_junit, to_markdown, to_sarif

SIZES = {"max_slowdown": None, "max_size_growth": 0.01}
"""Limits for which nothing runs."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the tests stand."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("EDGEDL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "home"


def read(content: str | dict[str, Any], path: Path = Path("latency.yaml")) -> LatencyYaml:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return read_latency_yaml(path)


def asked(*files: str, devices: tuple[str, ...] = (), **settings: Any) -> list[Question]:
    """What the home's latency.yaml asks."""
    return listed(Path("latency.yaml"), [Path(file) for file in files], devices, settings)[0]


# --- latency.yaml ------------------------------------------------------------------------------------------------


def test_the_short_form_is_a_name_and_a_path(home: Path):
    file = read("models: {kws: models/kws.tflite, 1: one.onnx}")
    assert {name: entry.file for name, entry in file.models.items()} == {
        "kws": home / "models" / "kws.tflite",
        "1": home / "one.onnx",
    }
    entry = file.models["kws"]
    assert (entry.devices, entry.against, entry.limits.max_slowdown) == (("cpu",), None, "auto")
    assert file.baseline("kws", "arm64:cortex-a76") == home / "baselines" / "kws.arm64-cortex-a76.json"
    assert file.baseline("kws", "ssh:pi@board/x") == home / "baselines" / "kws.ssh-pi-board-x.json"


def test_what_is_given_beside_the_models_is_given_for_each_and_may_be_overridden():
    file = read("""
        budget_s: 5
        devices: [cpu, micro]
        against: git:main
        limits: {max_slowdown: 2%, max_size_growth: 1%}
        models:
          plain: a.tflite
          own: {file: b.tflite, devices: micro, limits: {max_slowdown: none, max_added_ops: 3}, against: git:v1}
    """)
    plain, own = file.models["plain"], file.models["own"]
    assert (plain.budget_s, plain.devices, plain.against) == (5, ("cpu", "micro"), "git:main")
    assert (own.budget_s, own.devices, own.against) == (5, ("micro",), "git:v1")
    assert (plain.limits.max_slowdown, plain.limits.max_size_growth) == (0.02, 0.01)
    assert (own.limits.max_slowdown, own.limits.max_size_growth, own.limits.max_added_ops) == (None, 0.01, 3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("modles: {m: m.tflite}", ["unknown key 'modles' (did you mean 'models'?)"]),
        ("device: cpu\nmodels: {m: m.tflite}", ["unknown key 'device' (did you mean 'devices'?)"]),
        ("limit: {}\nmodels: {m: m.tflite}", ["unknown key 'limit' (did you mean 'limits'?)"]),
        ("zzz: 1\nmodels: {m: m.tflite}", ["unknown key 'zzz' (known: against, baselines, budget_s, data, devices"]),
        ("models: {m: {file: m.tflite, devise: cpu}}", ["models.m", "'devise' (did you mean 'devices'?)"]),
        ("models: {m: m.tflite}\nlimits: {max_slowdwn: 5%}", ["models.m.limits", "did you mean 'max_slowdown'?"]),
        ("models: {}", ["models", "at least 1"]),
        ("models:", ["models", "nothing (null)"]),
        ("models: m.tflite", ["models", "keys and values", "'m.tflite'"]),
        ("models: [m.tflite]", ["models", "keys and values", "a list"]),
        ("budget_s: 3", ["models: this key is required and absent"]),
        ("models: {m: }", ["models.m", "nothing (null)"]),
        ("models: {m: 3}", ["models.m", "received 3"]),
        ("models: {m: {devices: cpu}}", ["models.m.file: this key is required"]),
        ("models: {a/b: m.tflite}", ["models", "a/b"]),
        ("models: {'': m.tflite}", ["models"]),
        ("models: {m: m.tflite}\ndevices: []", ["models.m.devices", "at least 1"]),
        ("models: {m: m.tflite}\ndevices: {a: b}", ["models.m.devices", "a list"]),
        ("models: {m: m.tflite}\nlimits: 5%", ["`limits` holds keys and values"]),
        ("models: {m: m.tflite}\nlimits:", ["`limits` holds keys and values"]),
        ("models: {m: m.tflite}\nlimits: {max_slowdown: fast}", ["max_slowdown", "5% or 0.05", "'fast'"]),
        ("models: {m: m.tflite}\nbudget_s: soon", ["models.m.budget_s", "valid number", "'soon'"]),
        ("models: {m: m.tflite}\nbudget_s: -1", ["models.m.budget_s", "greater than 0"]),
        ("models: {m: m.tflite}\nthreads: 100000", ["models.m.threads", "256"]),
        ("models: {m: m.tflite}\nagainst: ''", ["models.m.against", "git:REVISION or a file"]),
        ('models: {m: m.tflite}\nagainst: "a\\0b"', ["models.m.against", "git:REVISION or a file"]),
        ("models: {m: &a {file: m.tflite, limits: *a}}", ["refers to itself"]),
        ("", ["nothing"]),
        ("- a", ["a list"]),
        ("models: {", ["line 1 is not YAML"]),
        ("\tmodels: x", ["is not YAML"]),
    ],
)
def test_a_latency_yaml_that_cannot_be_is_one_line(content: str, says: list[str]):
    with pytest.raises(ConfigError) as told:
        read(content)
    line = str(told.value)
    assert "\n" not in line
    for words in says:
        assert words in line


def test_paths_are_relative_to_the_file_s_folder(home: Path, tmp_path: Path):
    sub = home / "sub"
    sub.mkdir()
    read(
        {
            "history": "h.jsonl",
            "baselines": "accepted",
            "models": {
                "a": {"file": "a.tflite", "against": "old/a.tflite"},
                "b": {"file": "../b.tflite", "data": "npz:d.npz"},
                "c": {"file": str(tmp_path / "c.tflite"), "against": "git:HEAD", "data": "runs/r"},
            },
        },
        sub / "gate.yaml",
    )
    (sub / "runs" / "r").mkdir(parents=True)
    (sub / "d.npz").write_bytes(b"")
    questions, history = listed(Path("sub/gate.yaml"), [], (), {})
    a, b, c = questions
    assert history == sub / "h.jsonl"
    assert (a.new, a.against) == (Path("sub/a.tflite"), Path("sub/old/a.tflite"))
    assert b.against == Path("sub/accepted/b.cpu.json")
    assert b.settings["data"].file == sub / "d.npz"
    assert (c.new, c.against, c.settings["data"]) == (tmp_path / "c.tflite", "git:HEAD", sub / "runs" / "r")
    assert listed(Path("sub/gate.yaml"), [], (), {"data": "digits"})[0][1].settings["data"] == "digits"


# --- questions ---------------------------------------------------------------------------------------------------


def test_every_model_on_every_device_once():
    read("{devices: [cpu, micro, cpu], models: {a: a.tflite, b: {file: b.tflite, devices: micro}}}")
    assert [(one.model, one.device) for one in asked()] == [("a", "cpu"), ("a", "micro"), ("b", "micro")]
    assert [one.device for one in asked(devices=("cpu",))] == ["cpu", "cpu"]


def test_the_command_line_goes_before_the_file():
    read("{budget_s: 5, threads: 2, limits: {max_slowdown: 2%, max_added_ops: 1}, models: {a: a.tflite}}")
    (one,) = asked(max_slowdown="none", budget_s=1.0)
    assert (one.settings["max_slowdown"], one.settings["budget_s"]) == ("none", 1.0)
    assert (one.settings["threads"], one.settings["max_added_ops"]) == (2, 1)


def test_files_that_are_named_are_checked_alone(home: Path):
    read("models: {a: m/a.tflite, again: m/a.tflite, b: m/b.tflite}")
    (home / "m").mkdir()
    (home / "link.tflite").symlink_to("m/b.tflite")
    assert [one.model for one in asked("./m/../m/a.tflite")] == ["a", "again"]
    assert [one.model for one in asked("link.tflite", str(home / "m" / "b.tflite"))] == ["b"]
    with pytest.raises(ConfigError, match=r"latency\.yaml names no m/c\.tflite.*--against"):
        asked("m/a.tflite", "m/c.tflite")
    (home / "loop.tflite").symlink_to("loop.tflite")
    with pytest.raises(ConfigError, match=r"names no loop\.tflite"):
        asked("loop.tflite")


def test_without_a_latency_yaml_the_next_step_is_told():
    with pytest.raises(ConfigError, match=r"there is no latency\.yaml\. `edgedl init --check` writes one"):
        asked()
    with pytest.raises(ConfigError, match=r"nothing says what a\.tflite is checked against.*--against"):
        asked("a.tflite")


@pytest.mark.parametrize("device", ["cpv", "arm64:cortex-a7600", "micro:x"])
def test_a_device_that_nobody_knows_is_refused_before_anything_runs(device: str):
    read({"models": {"a": "a.tflite", "b": {"file": "b.tflite", "devices": device}}})
    with pytest.raises(UnavailableError) as told:
        asked()
    assert device.rpartition(":")[2] in str(told.value)
    with pytest.raises(UnavailableError):
        named([Path("a.tflite")], "git:HEAD", ["cpu", device], {})


def test_files_against_one_thing(home: Path):
    (home / "old").mkdir()
    (home / "old" / "a.tflite").write_bytes(b"")
    a, b = Path("a.tflite"), Path("b.tflite")
    assert [one.against for one in named([a, b], "git:main", ["cpu"], {})] == ["git:main", "git:main"]
    assert [one.against for one in named([a, b], "old", ["cpu"], {})] == [Path("old/a.tflite"), Path("old/b.cpu.json")]
    assert [one.against for one in named([a, b], "new/", ["cpu"], {})] == [
        Path("new/a.cpu.json"),
        Path("new/b.cpu.json"),
    ]
    assert [one.against for one in named([a], "a.json", ["cpu"], {})] == ["a.json"]
    assert len(named([a, a], "a.json", ["cpu"], {})) == 1, "the same file twice"
    for wrong in ("a.json", "old.tflite"):
        with pytest.raises(ConfigError, match="several files or devices need one old file each"):
            named([a, b], wrong, ["cpu"], {})
    with pytest.raises(ConfigError, match="--against is empty"):
        named([a], "", ["cpu"], {})
    with pytest.raises(ConfigError, match="nothing to check"):
        named([], "git:HEAD", ["cpu"], {})


def test_files_of_one_name_are_told_apart():
    one, other = named([Path("v1/m.tflite"), Path("v2/m.tflite")], "new/", ["cpu"], {})
    assert (one.model, other.model) == ("v1/m.tflite", "v2/m.tflite")
    assert (one.against, other.against) == (Path("new/v1-m.tflite.cpu.json"), Path("new/v2-m.tflite.cpu.json"))


# --- answers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def gate(home: Path) -> Gate:
    """Of five: three cannot be checked, one passes, one regressed."""
    for name, layers in (("alone", 2), ("long", 2), ("same", 2), ("small", 2), ("larger", 8)):
        dense_tflite(home / f"{name}.tflite", layers, 16)
    (home / "broken.tflite").write_text("no | model\nat all")
    for name, changed in (("long", {"file": "n" * 300}), ("same", {})):
        path = home / "baselines" / f"{name}.cpu.json"
        baseline = baseline_of(path, model_file(home / f"{name}.tflite"), name, "cpu", None, None)
        write_baseline(path, baseline.model_copy(update=changed))
    models: dict[str, Any] = {name: f"{name}.tflite" for name in ("broken", "alone", "long", "same")}
    models["larger"] = {"file": "larger.tflite", "against": "small.tflite"}
    read({"models": models, "limits": SIZES})
    return on_all(asked(), check_one)[0]


def outcomes(gate: Gate) -> dict[str, str]:
    return {one.model: one.verdict.outcome if one.verdict else "failed" for one in gate.checked}


def test_one_that_goes_wrong_does_not_stop_the_rest(gate: Gate):
    assert outcomes(gate) == {
        "broken": "failed",
        "alone": "failed",
        "long": "failed",
        "same": "pass",
        "larger": "regressed",
    }
    assert [one.exit_code for one in gate.checked] == [2, 2, 2, 0, 1]
    failures = {one.model: one.failure for one in gate.checked}
    assert "broken.tflite" in failures["broken"]
    assert "--update-baseline" in failures["alone"]
    assert "name is too long" in failures["long"]
    assert gate_exit_code(gate) == ExitCode.CHECK_FAILED


def test_a_fault_of_our_own_is_told_and_stops_no_other(gate: Gate):
    fine = next(one.verdict for one in gate.checked if one.verdict)
    questions = [Question(name, Path("m.tflite"), "git:HEAD", "cpu") for name in ("loose", "fine")]

    def answer(one: Question) -> Verdict:
        if one.model == "loose":
            raise RuntimeError("a nut\nis loose")
        return fine

    found, (error,) = on_all(questions, answer)
    assert [one.exit_code for one in found.checked] == [ExitCode.OWN_FAULT, ExitCode.FINE]
    assert gate_exit_code(found) == ExitCode.OWN_FAULT
    assert found.checked[0].failure.startswith("a fault of edgedl's own (RuntimeError: a nut is loose); please report")
    log = Path(str(error).rpartition(" ")[2])
    assert 'raise RuntimeError("a nut' in log.read_text()
    log.unlink()


def test_a_baseline_of_another_model_is_told_from_the_one_that_was_asked_for(home: Path):
    for name, layers in (("kws", 2), ("vad", 3)):
        dense_tflite(home / f"{name}.tflite", layers, 16)
        path = home / "baselines" / f"{name}.cpu.json"
        write_baseline(path, baseline_of(path, model_file(home / f"{name}.tflite"), name, "cpu", None, None))
    (home / "baselines" / "kws.cpu.json").replace(home / "baselines" / "vad.cpu.json")
    read({"models": {"vad": "vad.tflite"}, "limits": SIZES})
    (wrong,), (error,) = on_all(asked(), check_one)[0].checked, on_all(asked(), check_one)[1]
    assert (wrong.exit_code, type(error)) == (2, ConfigError)
    for part in ("vad.cpu.json is a baseline of another model: required vad, received kws", "--update-baseline"):
        assert part in wrong.failure
    (accepted,) = on_all(asked(budget_s=0.5), accept)[0].checked
    assert accepted.verdict
    assert on_all(asked(), check_one)[0].checked[0].exit_code == 0


@pytest.mark.parametrize(
    ("codes", "all_in_all"),
    [
        ([0, 0], 0),
        ([0, 4], 4),
        ([4, 2], 2),
        ([4, 3, 0], 3),
        ([3, 2], 2),
        ([2, 1, 4, 3, 0], 1),
        ([0, 1], 1),
    ],
)
def test_the_worst_decides_the_exit_code(codes: list[int], all_in_all: int):
    found = tuple(Checked("m", "cpu", "m.tflite", None, "", code) for code in codes)
    assert gate_exit_code(Gate(found)) == all_in_all


# --- for build servers -------------------------------------------------------------------------------------------


def test_junit_has_a_suite_for_each(gate: Gate):
    root = ElementTree.fromstring(to_junit(gate).encode())
    suites = {suite.get("name"): suite for suite in root.iter("testsuite")}
    assert list(suites) == [f"{one.model} on cpu" for one in gate.checked]
    counts = {name: (suite.get("failures"), suite.get("errors")) for name, suite in suites.items()}
    assert (counts["same on cpu"], counts["larger on cpu"], counts["broken on cpu"]) == (
        ("0", "0"),
        ("1", "0"),
        ("0", "1"),
    )
    for suite in suites.values():
        assert len(suite.findall("testcase")) == int(suite.get("tests", ""))
    error = suites["broken on cpu"].find("testcase/error")
    assert error is not None
    assert "broken.tflite" in error.get("message", "")
    failure = suites["larger on cpu"].find("testcase[@name='size']/failure")
    assert failure is not None
    assert failure.get("message", "").startswith("Size: ")


def test_markdown_has_a_matrix_and_a_section_for_each(gate: Gate):
    text = to_markdown(gate)
    assert text.startswith("### edgedl check: 3 failed, 1 pass, 1 regressed\n")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table[0] == "| model | cpu |"
    assert "| larger | ❌ regressed |" in table
    assert "| broken | ⚠️ failed |" in table
    for one, outcome in outcomes(gate).items():
        assert re.search(rf"^### \S+ {one} on cpu: {outcome}$", text, re.MULTILINE), one
    for rows in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows.splitlines()}) == 1, "every row is whole"


SARIF = {
    "type": "object",
    "required": ["$schema", "version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "properties": {
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "required": ["name", "rules"],
                                "properties": {
                                    "semanticVersion": {"type": "string"},
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "required": ["id"],
                                            "properties": {"shortDescription": {"required": ["text"]}},
                                        },
                                    },
                                },
                            }
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message", "ruleId", "level", "locations"],
                            "properties": {
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": {"required": ["text"], "properties": {"text": {"type": "string"}}},
                                "properties": {"type": "object"},
                                "locations": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {
                                        "required": ["physicalLocation"],
                                        "properties": {
                                            "physicalLocation": {
                                                "required": ["artifactLocation"],
                                                "properties": {"artifactLocation": {"required": ["uri"]}},
                                            }
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
"""The parts of SARIF 2.1.0's schema (OASIS Standard, §3) that a log of ours uses."""


def test_sarif_has_what_regressed_and_what_failed(gate: Gate):
    log = json.loads(to_sarif(gate))
    jsonschema.validate(log, SARIF)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    told = {
        (result["ruleId"], result["level"], result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])
        for result in run["results"]
    }
    assert told == {
        ("failed", "error", "broken.tflite"),
        ("failed", "error", "alone.tflite"),
        ("failed", "error", "long.tflite"),
        ("size", "error", "larger.tflite"),
    }
    assert {rule for rule, _, _ in told} <= set(rules)
    for _, _, uri in told:
        assert urlsplit(uri).path == uri


CODE_QUALITY = {
    "type": "array",
    "items": {
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "minLength": 1},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "not": {"pattern": r"^\./"}},
                    "lines": {"required": ["begin"], "properties": {"begin": {"type": "integer"}}},
                },
            },
        },
    },
}
"""What GitLab says a code-quality report has to be."""


def test_code_quality_has_what_regressed_and_what_failed(gate: Gate):
    issues = json.loads(to_code_quality(gate))
    jsonschema.validate(issues, CODE_QUALITY)
    assert {(issue["check_name"], issue["location"]["path"]) for issue in issues} == {
        ("edgedl-failed", "broken.tflite"),
        ("edgedl-failed", "alone.tflite"),
        ("edgedl-failed", "long.tflite"),
        ("edgedl-size", "larger.tflite"),
    }
    assert len({issue["fingerprint"] for issue in issues}) == len(issues)
    assert json.loads(to_code_quality(gate)) == issues, "the same issue has the same fingerprint"


@pytest.mark.parametrize("write", [to_junit, to_markdown, to_sarif, to_code_quality])
def test_what_passes_leaves_a_report_too(write: Callable[[Gate], str]):
    dense_tflite(Path("m.tflite"), 2, 16)
    text = write(on_all(named([Path("m.tflite")], "m.tflite", ["cpu"], SIZES), check_one)[0])
    assert "regressed" not in text.replace('"regressed"', "")
    assert "failed" not in text or write is to_sarif, "it is the name of a rule there"


# --- a latency.yaml for the models that there are ------------------------------------------------------------------

ODD = ["a b", "x: y", "m #1", "01", "1", "1e3", "yes", "null", "-dash", "(1)", "(1]", "quo'te", '"', "{br}", " lead"]
ODD += ["trail ", "*star", "&and", "%pct", "@at", "ü", "m²", "+", "...", "new\nline", "[1]", "a\\b", "|", ">", "?", "!"]


def test_files_of_any_name_are_written_and_read_back():
    files = [Path(f"{name}.tflite") for name in ODD] + [Path("sub") / f"{name}.onnx" for name in ODD]
    for in_git in (False, True):
        file = read(template(files, in_git=in_git))
        assert [entry.file for entry in file.models.values()] == [path.absolute() for path in files]
        assert {entry.against for entry in file.models.values()} == {"git:HEAD" if in_git else None}
        places = {file.baseline(name, "cpu") for name in file.models}
        assert len(places) == len(files), "no two share a baseline"
        assert {place.parent for place in places} == {Path("baselines").absolute()}


def test_the_same_stem_twice_has_two_names():
    names = ("kws.onnx", "kws.tflite", "old/kws.tflite", "old-kws.tflite", "old/kws.onnx", "old/kws.tflite.tflite")
    file = read(template([Path(name) for name in names], in_git=False))
    assert len(file.models) == len(names)
    assert list(file.models)[:3] == ["kws", "kws.tflite", "old-kws"]


def test_models_outside_a_repository_are_found_too(home: Path):
    for path in ("a.tflite", "deep/er/b.onnx", ".hidden/c.tflite", "d.txt", ".e.tflite", "deep/.f/g.onnx"):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_bytes(b"")
    (home / "folder.tflite").mkdir()
    (home / "no text \udcff.tflite").write_bytes(b"")
    assert models_below(home) == [Path("a.tflite"), Path("deep/er/b.onnx")]


def test_a_check_that_is_asked_of_what_is_no_model(home: Path):
    (home / "folder.tflite").mkdir()
    for new in ("folder.tflite", "gone.tflite", "/dev/null"):
        with pytest.raises(InputError):
            check_one(Question("m", Path(new), "folder.tflite", "cpu", SIZES))
