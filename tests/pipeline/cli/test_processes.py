"""Where the process itself matters: signals, sudden death, and disks that refuse."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from tests.core.test_files import NAMESPACE, needs_namespace
from tests.pipeline.cli.conftest import Cli

from edgedl.core.artifacts import Run

EDGEDL = [sys.executable, "-m", "edgedl"]


def start(*args: str | Path) -> subprocess.Popen[str]:
    command = [*EDGEDL, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(found: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Poll; fail after a minute, or when the process ends first."""
    deadline = time.monotonic() + 60
    while not found():
        assert time.monotonic() < deadline, "waited in vain"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_ctrl_c_ends_with_130_and_can_be_gone_on_from(cli: Cli, recipe: Callable[..., Path], tmp_path: Path) -> None:
    path = recipe(train={"epochs": 5000})
    process = start("train", path, "--out", tmp_path / "run")
    until(lambda: list((tmp_path / "run").glob(".train-*.partial/checkpoint.npz")), process)
    cli("train", path, "--out", "run").refused("another edgedl is working in run")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == "edgedl: interrupted; the same command goes on from here"
    assert "Traceback" not in err
    assert sorted(one.name.split("-")[0] for one in (tmp_path / "run").iterdir()) == [".lock", ".train", "recipe.yaml"]


@needs_namespace
@pytest.mark.parametrize(
    ("mount", "words"), [("-o size=64k", "the disk is full"), ("-o ro", "the folder is read-only")], ids=["full", "ro"]
)
def test_a_disk_that_refuses(recipe: Callable[..., Path], tmp_path: Path, mount: str, words: str) -> None:
    path = recipe(model={"family": "mlp", "hidden": [256]})
    (tmp_path / "disk").mkdir()
    script = (
        f"mount -t tmpfs {mount} none {tmp_path}/disk && {' '.join(EDGEDL)} train {path} --out {tmp_path}/disk/run; "
        f"echo code $?; find {tmp_path}/disk -name 'train-*' -o -name 'recipe.yaml'"
    )
    done = subprocess.run([*NAMESPACE, "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "code 2\n"
    assert done.stderr.startswith("edgedl: cannot write")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("stage", [".compress-int8-*", ".profile-cpu-*"])
@pytest.mark.tensorflow
def test_killed_and_run_again(cli: Cli, tiny_run: Run, tiny_recipe: dict[str, Any], tmp_path: Path, stage: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    shutil.rmtree(next(folder.glob(stage[1:])))
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe))
    process = start("run", path, "--out", folder)
    until(lambda: list(folder.glob(stage + ".partial")), process)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not list(folder.glob(stage[1:]))
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    said = cli("run", path, "--out", folder)
    assert said.code == 0, said.err
    assert len(list(folder.glob(stage[1:]))) == 1
    assert not list(folder.glob(".*.partial"))
