"""The hook: what `git commit` says with it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.ci.repository import PATH, ROOT, SLOWER, git, repository, snippet
from tests.tiny_models import dense_tflite

(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())


def commit(folder: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """`git commit` of what is staged, with the hooks; what they said is in stderr."""
    environment = {**os.environ, "PATH": PATH, "PRE_COMMIT_HOME": str(cache)}
    return subprocess.run(
        ["git", "commit", "--message", "a change"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def with_hook(folder: Path) -> Path:
    """A repository with a committed model and the hook, as docs/ci.md has it but for where edgedl comes from."""
    repository(folder)
    (chosen,) = yaml.safe_load(snippet("pre-commit", "yaml"))["repos"][0]["hooks"]
    assert chosen["id"] == HOOK["id"]
    hook = {**HOOK, **chosen, "language": "system", "args": [*chosen["args"], "--budget-s", "4"]}
    content = {"repos": [{"repo": "local", "hooks": [hook]}]}
    (folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump(content))
    git(folder, "add", ".pre-commit-config.yaml")
    git(folder, "commit", "--quiet", "--message", "hook")
    subprocess.run(["pre-commit", "install"], cwd=folder, env={**os.environ, "PATH": PATH}, check=True)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_hook(tmp_path / "repository")


@pytest.mark.slow
def test_a_slower_model_is_refused_and_a_new_one_passes(folder: Path, tmp_path: Path):
    cache, model = tmp_path / "cache", folder / "models" / "m.tflite"
    (folder / "README").write_text("Nothing of a model.")
    git(folder, "add", "README")
    said = commit(folder, cache)
    assert (said.returncode, "(no files to check)Skipped" in said.stderr) == (0, True), said.stderr

    dense_tflite(folder / "models" / "new.tflite", SLOWER)
    git(folder, "add", "models/new.tflite")
    said = commit(folder, cache)
    assert (said.returncode, "edgedl check....." in said.stderr) == (0, True), said.stderr

    before = git(folder, "rev-parse", "HEAD")
    dense_tflite(model, SLOWER)
    git(folder, "add", "models/m.tflite")
    said = commit(folder, cache)
    assert said.returncode == 1
    assert "- exit code: 1" in said.stderr, said.stderr
    assert "regressed: models/m.tflite against m.tflite in HEAD" in said.stderr
    assert "new.tflite" not in said.stderr, "what did not change is not checked"
    assert git(folder, "rev-parse", "HEAD") == before


@pytest.mark.slow
def test_it_finds_the_last_commit_from_a_linked_worktree_too(folder: Path, tmp_path: Path):
    """There git hands its hooks a GIT_DIR, and what lies in a subfolder would look new."""
    tree = tmp_path / "tree"
    git(folder, "worktree", "add", "--quiet", str(tree))
    config = yaml.safe_load((tree / ".pre-commit-config.yaml").read_text())
    config["repos"][0]["hooks"][0]["args"] = ["--max-slowdown", "none", "--max-added-ops", "0"]
    (tree / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    dense_tflite(tree / "models" / "m.tflite", SLOWER)
    git(tree, "add", "--all")
    said = commit(tree, tmp_path / "cache")
    assert (said.returncode, "ops: regressed" in said.stderr) == (1, True), said.stderr


def test_the_hook_is_one_that_pre_commit_takes():
    path = ROOT / ".pre-commit-hooks.yaml"
    subprocess.run(["pre-commit", "validate-manifest", path], env={**os.environ, "PATH": PATH}, check=True)
    assert HOOK["require_serial"] is True, "two sessions at a time would be each other's noise"
