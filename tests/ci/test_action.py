"""The composite action: its steps in bash, as a runner of GitHub's would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.ci.repository import LAYERS, PATH, ROOT, SLOWER, commit, repository, snippet
from tests.test_packaging import copy_of_the_tree
from tests.tiny_models import dense_tflite

ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS: dict[str, dict[str, Any]] = {step["id"]: step for step in ACTION["runs"]["steps"]}


@dataclass(frozen=True)
class Ran:
    """What a step left behind."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str


def run_step(name: str, folder: Path, inputs: dict[str, str], temporary: Path, **environment: str) -> Ran:
    """One step with its inputs where `env` puts them. environment: over what the step would get."""
    temporary.mkdir(exist_ok=True)
    outputs, summary = temporary / "output", temporary / "summary"
    for file in (outputs, summary):
        file.write_text("")
    given = {name: definition.get("default", "") for name, definition in ACTION["inputs"].items()} | inputs
    step = STEPS[name]
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=folder,
        env={
            **os.environ,
            "PATH": PATH,
            "RUNNER_TEMP": str(temporary),
            "GITHUB_OUTPUT": str(outputs),
            "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_ACTION_PATH": str(ROOT),
            **{key: value_of(text, given) for key, text in step["env"].items()},
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    pairs = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
    return Ran(done.returncode, done.stdout + done.stderr, pairs, summary.read_text())


EXPRESSION = r"\$\{\{ (?:inputs\.([\w-]+)|steps\.install\.outputs\.edgedl \|\| '(edgedl)') \}\}"


def value_of(expression: str, inputs: dict[str, str]) -> str:
    """What the two kinds of expression in the action's `env` come to, where nothing was installed."""
    found = re.fullmatch(EXPRESSION, expression)
    assert found, expression
    return inputs[found[1]] if found[1] else found[2]


def check(folder: Path, **inputs: str) -> Ran:
    """The step that checks."""
    return run_step("check", folder, {key.replace("_", "-"): text for key, text in inputs.items()}, folder / ".runner")


@pytest.fixture
def slower(tmp_path: Path) -> Path:
    """A repository whose second commit made the model slower."""
    folder = repository(tmp_path)
    dense_tflite(folder / "models" / "m.tflite", SLOWER)
    commit(folder)
    return folder


def test_a_planted_regression_fails_the_job_and_is_in_the_summary(slower: Path):
    workflow = yaml.safe_load(snippet("GitHub", "yaml"))
    steps = workflow["jobs"]["check"]["steps"]
    assert steps[0]["with"]["fetch-depth"] == 0
    (inputs,) = (step["with"] for step in steps if "edgedl" in step["uses"])
    found = run_step("check", slower, {**inputs, "budget-s": "4"}, slower / ".runner")
    assert (found.code, found.outputs["outcome"], found.outputs["exit-code"]) == (1, "regressed", "1"), found.log
    assert found.summary.startswith("### ❌ m on cpu: regressed\n")
    assert f"+{SLOWER - LAYERS} FULLY_CONNECTED" in found.summary
    assert "::error title=edgedl check::regressed (exit code 1)" in found.log
    for name, begins in (("markdown", "### "), ("sarif", "{"), ("junit", "<?xml")):
        assert Path(found.outputs[name]).read_text().startswith(begins)


@pytest.mark.slow
def test_what_is_within_the_limits_passes(slower: Path):
    found = check(
        slower, files="models/*.tflite\n", against="git:HEAD~1", max_slowdown="none", args="--max-added-ops 9"
    )
    assert (found.code, found.outputs["outcome"]) == (0, "pass"), found.log
    assert found.summary.startswith("### ✅ m on cpu: pass\n")
    assert "9 more are allowed" in found.summary


@pytest.mark.slow
def test_without_files_it_is_latency_yaml_that_decides(slower: Path):
    (slower / "gate.yaml").write_text(
        "against: git:HEAD~1\nlimits: {max_slowdown: none, max_added_ops: 0}\nmodels: {small: models/m.tflite}\n"
    )
    found = check(slower, config="gate.yaml")
    assert (found.code, found.outputs["outcome"]) == (1, "regressed"), found.log
    assert "small on cpu: regressed" in found.summary


def test_what_cannot_be_checked_fails_and_says_so(slower: Path):
    absent = check(slower, files="models/*.onnx", against="git:HEAD~1", max_slowdown="none")
    assert (absent.code, absent.outputs["outcome"]) == (2, "failed")
    assert absent.summary.startswith("### ⚠️ * on cpu: failed\n")
    assert "models/*.onnx" in absent.summary
    config = check(slower, config="nowhere.yaml")
    assert (config.code, config.outputs) == (2, {"exit-code": "2", "outcome": "failed"})
    assert "failed with exit code 2" in config.summary
    assert check(slower, inconclusive="maybe").code == 2


@pytest.mark.parametrize(("choice", "code"), [("fail", 4), ("pass", 0)])
def test_inconclusive_fails_or_passes_as_asked(tmp_path: Path, choice: str, code: int):
    fake = tmp_path / "edgedl"
    fake.write_text('#!/bin/sh\necho "### inconclusive" >"$3"; exit 4\n')
    fake.chmod(0o755)
    found = run_step("check", tmp_path, {"inconclusive": choice}, tmp_path / "runner", EDGEDL=str(fake))
    assert (found.code, found.outputs["outcome"], found.outputs["exit-code"]) == (code, "inconclusive", "4")
    assert ("::warning" in found.log) == (choice == "pass")
    assert found.summary == "### inconclusive\n"


def test_inputs_are_words_not_code(tmp_path: Path):
    """Each input arrives as it was written, whatever is in it."""
    fake = tmp_path / "edgedl"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$RUNNER_TEMP/words"\n')
    fake.chmod(0o755)
    evil = '$(touch stolen); `touch stolen` "; touch stolen #'
    inputs = {"files": f"{evil}\na b.tflite\n--json", "against": evil, "max-slowdown": evil, "device": evil}
    run_step("check", tmp_path, {**inputs, "args": "--seed 1\n--threads 2"}, tmp_path / "runner", EDGEDL=str(fake))
    words = (tmp_path / "runner" / "words").read_text().splitlines()
    assert not (tmp_path / "stolen").exists()
    assert words[words.index("--against") + 1] == words[words.index("--device") + 1] == evil
    assert words[words.index("--seed") :] == ["--seed", "1", "--threads", "2", "--", evil, "a b.tflite", "--json"]


@pytest.mark.slow
def test_the_install_step_brings_an_edgedl_that_checks(slower: Path):
    """What edgedl depends on is this environment's: tests/test_packaging.py installs that too."""
    action = copy_of_the_tree(slower / ".action")
    ours = {"PYTHONPATH": sysconfig.get_path("purelib"), "PIP_NO_DEPS": "1"}
    installed = run_step("install", slower, {}, slower / ".runner", GITHUB_ACTION_PATH=str(action), **ours)
    edgedl = installed.outputs["edgedl"]
    assert Path(edgedl).is_relative_to(slower / ".runner"), installed.log
    inputs = {"files": "models/m.tflite", "against": "git:HEAD~1", "max-slowdown": "none", "args": "--max-added-ops 0"}
    found = run_step("check", slower, inputs, slower / ".runner", EDGEDL=edgedl, **ours)
    assert found.outputs["outcome"] == "regressed", found.log
    assert STEPS["install"]["if"] == "inputs.install != 'none'"


TEXT = {"type": "string", "minLength": 1}
METADATA = {
    "type": "object",
    "required": ["name", "description", "runs"],
    "additionalProperties": False,
    "properties": {
        "name": TEXT,
        "author": TEXT,
        "description": TEXT,
        "branding": {"type": "object", "required": ["icon", "color"]},
        "inputs": {
            "propertyNames": {"pattern": "^[a-z_][a-z0-9_-]*$"},
            "additionalProperties": {
                "required": ["description"],
                "additionalProperties": False,
                "properties": {
                    "description": TEXT,
                    "required": {"type": "boolean"},
                    "default": {"type": "string"},
                    "deprecationMessage": TEXT,
                },
            },
        },
        "outputs": {
            "additionalProperties": {
                "required": ["description", "value"],
                "additionalProperties": False,
                "properties": {
                    "description": TEXT,
                    "value": {"pattern": r"^\$\{\{ steps\.check\.outputs\.[a-z-]+ \}\}$"},
                },
            },
        },
        "runs": {
            "required": ["using", "steps"],
            "additionalProperties": False,
            "properties": {
                "using": {"const": "composite"},
                "steps": {
                    "items": {
                        "required": ["run", "shell"],
                        "additionalProperties": False,
                        "properties": {
                            "run": {**TEXT, "not": {"pattern": r"\$\{\{"}},
                            "shell": {"const": "bash"},
                            "name": TEXT,
                            "id": TEXT,
                            "if": TEXT,
                            "env": {"additionalProperties": {"type": "string"}},
                            "working-directory": TEXT,
                            "continue-on-error": {"type": "boolean"},
                        },
                    },
                },
            },
        },
    },
}
"""GitHub's metadata syntax, as far as a composite action of `run` steps goes; and no expression inside a script."""


def test_the_file_is_an_action_as_github_documents_them():
    jsonschema.validate(ACTION, METADATA)
    told = set(check_outputs())
    assert {definition["value"].split(".")[-1].split()[0] for definition in ACTION["outputs"].values()} == told
    workflow = yaml.safe_load(snippet("GitHub", "yaml"))
    for step in workflow["jobs"]["check"]["steps"]:
        if "edgedl" in step["uses"]:
            assert set(step["with"]) <= set(ACTION["inputs"])
    named = re.findall(r"steps\.edgedl\.outputs\.([\w-]+)", (ROOT / "docs" / "ci.md").read_text())
    assert set(named) <= told


def check_outputs() -> list[str]:
    return re.findall(r'^ *echo "([a-z-]+)=', STEPS["check"]["run"], flags=re.MULTILINE)


@pytest.mark.slow
def test_the_documented_command_for_any_other_service(slower: Path):
    command = snippet("Anything else", "console").removeprefix("$ ").strip()
    exact = f"{command} --max-slowdown none --max-added-ops 0"
    done = subprocess.run(["bash", "-c", exact], cwd=slower, env={**os.environ, "PATH": PATH}, check=False)
    assert done.returncode == 1
    assert all((slower / name).is_file() for name in re.findall(r"\w+\.(?:xml|md|sarif)", command))
