"""The wheel holds every module of the tree, no test, and one top-level package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("core", "models", "pipeline", "export", "devices")


def copy_of_the_tree(folder: Path) -> Path:
    """A build writes into its source folder, and tests run side by side: each builds a copy of its own."""
    left_out = shutil.ignore_patterns(".venv", ".git", "build", "runs", "*.egg-info", "__pycache__", ".*_cache")
    return shutil.copytree(ROOT, folder / "source", symlinks=True, ignore=left_out)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    source = copy_of_the_tree(out)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(out.glob("*.whl"))


def expected() -> set[str]:
    own = {f"edgedl/{path.name}" for path in (ROOT / "src" / "edgedl").iterdir() if path.is_file()}
    return own | {
        f"edgedl/{path.relative_to(ROOT).as_posix()}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_tree_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected()


def test_the_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    code = "import edgedl, pathlib; print(pathlib.Path(edgedl.__file__).parent, edgedl.__version__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert str(tmp_path) in done.stdout
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    added = {path.name for path in site.iterdir()} - {"pip", "setuptools", "_distutils_hack", "pkg_resources"}
    assert {name for name in added if ".dist-info" not in name and not name.endswith(".pth")} == {"edgedl"}


@pytest.mark.slow
def test_pip_install_brings_all_that_a_run_needs(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    binaries = tmp_path / "env" / "bin"
    source = copy_of_the_tree(tmp_path)
    pins = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([binaries / "pip", "install", "-q", *pins, source], check=True, timeout=1200)
    doctor = subprocess.run([binaries / "edgedl", "doctor"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    recipe = ROOT / "examples" / "digits.yaml"
    command = [binaries / "edgedl", "run", recipe, "--out", tmp_path / "run", "--set", "train.epochs=2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode in {0, 1, 4}, done.stdout[-2000:] + done.stderr[-2000:]  # two epochs promise no accuracy
    assert json.loads(done.stdout)["variants"]
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
