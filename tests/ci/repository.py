"""A repository of somebody who has a model in it, and what docs/ci.md tells them to write."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.tiny_models import dense_tflite

ROOT = Path(__file__).parents[2]
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
"""On which `edgedl`, `pytest` and `pre-commit` are those of this environment."""

LAYERS, SLOWER = 8, 14
"""What the model in the first commit has, and what makes it slower by more than any noise."""


def repository(folder: Path) -> Path:
    """With models/m.tflite in its one commit."""
    (folder / "models").mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    for key, value in (("name", "Ada"), ("email", "ada@example.org"), ("commit.gpgsign", "false")):
        git(folder, "config", key if "." in key else f"user.{key}", value)
    dense_tflite(folder / "models" / "m.tflite", LAYERS)
    commit(folder)
    return folder


def git(folder: Path, *arguments: str) -> str:
    """What the command prints; raises CalledProcessError where it fails."""
    return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout


def commit(folder: Path) -> None:
    """All there is."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "a change")


def snippet(heading: str, language: str) -> str:
    """The first block in a language under a heading of docs/ci.md."""
    section = re.split(r"^## ", (ROOT / "docs" / "ci.md").read_text(), flags=re.MULTILINE)
    text = next(part for part in section if part.startswith(heading))
    found = re.search(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert found, f"no {language} under {heading}"
    return found[1]
