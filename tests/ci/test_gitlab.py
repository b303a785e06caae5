"""The job for GitLab: its script in bash, and what its reports must hold."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from tests.ci.repository import PATH, SLOWER, commit, git, repository, snippet
from tests.tiny_models import dense_tflite

JOB: dict[str, Any] = yaml.safe_load(snippet("GitLab", "yaml"))["latency"]
SEVERITIES = {"info", "minor", "major", "critical", "blocker"}


def run_job(folder: Path, base: str, *more: str) -> int:
    """The script's exit code. more: arguments over those of the documentation."""
    script = " ".join([JOB["script"][0], *more])
    environment = {**os.environ, "PATH": PATH, "CI_MERGE_REQUEST_DIFF_BASE_SHA": base}
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script], cwd=folder, env=environment, check=False
    ).returncode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository whose second commit made two models slower; they have one name in two folders."""
    folder = repository(tmp_path)
    (folder / "models" / "b").mkdir()
    dense_tflite(folder / "models" / "b" / "m.tflite", 1)
    commit(folder)
    for path in (folder / "models").rglob("*.tflite"):
        dense_tflite(path, SLOWER)
    commit(folder)
    return folder


def issues(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / JOB["artifacts"]["reports"]["codequality"]).read_text())


@pytest.mark.slow
def test_the_documented_job_refuses_a_planted_regression(folder: Path):
    assert run_job(folder, git(folder, "rev-parse", "HEAD~1").strip(), "--budget-s 4") == 1
    (issue,) = issues(folder)
    assert (issue["check_name"], issue["location"]["path"]) == ("edgedl-latency", "models/m.tflite")
    suite = ElementTree.parse(folder / JOB["artifacts"]["reports"]["junit"]).find("testsuite")
    assert suite is not None
    assert (suite.get("name"), suite.get("failures")) == ("m on cpu", "1")
    assert JOB["allow_failure"] == {"exit_codes": 4}
    assert JOB["artifacts"]["when"] == "always"


@pytest.mark.slow
def test_issues_hold_what_gitlab_asks_for_and_keep_their_fingerprints(folder: Path):
    exact = "models/b/m.tflite --max-slowdown none --max-size-growth 0 --max-added-ops 0"
    found = []
    for _ in range(2):
        assert run_job(folder, "HEAD~1", exact) == 1
        found.append(issues(folder))
    assert [{**issue, "description": ""} for issue in found[0]] == [{**issue, "description": ""} for issue in found[1]]
    assert len(found[0]) == 4  # size and ops of two files
    for issue in found[0]:
        assert issue["severity"] in SEVERITIES
        assert issue["description"]
        assert issue["check_name"] in {"edgedl-size", "edgedl-ops"}
        assert not Path(issue["location"]["path"]).is_absolute()
        assert issue["location"]["lines"]["begin"] == 1
    assert len({issue["fingerprint"] for issue in found[0]}) == 4, "GitLab shows one issue of each fingerprint"
