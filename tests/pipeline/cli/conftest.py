"""`edgedl` as a user types it, in this process: what it prints, and its exit code."""

from __future__ import annotations

import contextvars
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgedl.pipeline.cli.main import main


@dataclass(frozen=True)
class Said:
    """What one command left on the terminal."""

    code: int
    out: str
    err: str

    @property
    def content(self) -> Any:
        """Standard output as the one JSON value that --json promises."""
        return json.loads(self.out)

    def refused(self, *words: str, code: int = 2) -> str:
        """The one line of an error, which holds the words."""
        assert self.code == code, (self.code, self.err)
        assert self.err.startswith("edgedl: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert all(word in self.err for word in words), self.err
        return self.err


Cli = Callable[..., Said]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Call `edgedl ARGS` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgedl.pipeline.cli.main._leave", sys.exit)  # not with pytest's own process

    def call(*args: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["edgedl", *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            contextvars.copy_context().run(main)
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return Said(int(ended.value.code or 0), out, err)

    return call


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    """Write a small recipe with these sections changed; None leaves one out."""

    def write(**sections: Any) -> Path:
        content = {"name": "x", "data": {"source": "digits"}, "model": {"family": "mlp"}, "train": {"epochs": 1}}
        content = {key: section for key, section in (content | sections).items() if section is not None}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write
