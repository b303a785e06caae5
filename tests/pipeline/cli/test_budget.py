"""`edgedl compress --budget` as a user types it, on one tiny finished run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.pipeline.cli.conftest import Cli

from edgedl.core.artifacts import Run
from edgedl.pipeline.search.result import FOLDER, load_result

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def run(tiny_run: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run.folder, tmp_path / "run"))


def test_the_best_file_is_named_and_is_a_variant_of_the_run(cli: Cli, run: Path) -> None:
    said = cli("compress", run, "--budget", "size<=0.5x, accuracy_drop<=50", "--trials", "2", "--quiet")
    assert (said.code, said.err) == (0, "")
    assert "Pareto front" in said.out
    assert "keeps size<=0.5x, accuracy_drop<=50" in said.out
    best = said.out.rsplit("best file: ", 1)[1].strip()
    found = load_result(run / FOLDER)
    assert Path(best) == found.best_file
    assert Path(best).stat().st_size == found.candidate(found.best or 0).figures["size"].value
    again = cli("compress", run, "--budget", "size<=0.5x, accuracy_drop<=50", "--trials", "2", "--json", "--quiet")
    assert again.code == 0
    assert again.content["variant"] == found.variant
    assert again.content["candidates"][0]["made"] == found.candidates[0].made


@pytest.mark.slow
def test_nothing_fits_tells_the_nearest_and_the_limit_in_the_way(cli: Cli, run: Path) -> None:
    budget = ("--budget", "size<=0.01x, accuracy_drop<=50", "--trials", "2")
    said = cli("compress", run, *budget, "--json", "--quiet")
    assert (said.code, said.err) == (1, "")
    content = said.content
    assert (content["best"], content["file"], content["outcome"], content["exit_code"]) == (
        None,
        None,
        "nothing fits",
        1,
    )
    assert len(content["nearest"]) == 2
    assert "size<=0.01x: no candidate keeps it" in content["obstacles"][0]
    assert not (run / FOLDER / "best.tflite").exists()
    words = cli("compress", run, *budget, "--quiet")
    assert words.code == 1
    assert "nearest to the budget" in words.out
    assert "in the way: size<=0.01x" in words.out


def test_points_of_accuracy_are_refused_where_an_error_is_measured(
    cli: Cli, recipe: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [f"{i % 7},{i % 5},{i % 7 + 2 * (i % 5) + 0.5}" for i in range(80)]
    (tmp_path / "sums.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    data = {"source": "csv", "file": str(tmp_path / "sums.csv"), "target": "y"}
    said = cli("train", recipe(data=data), "--out", "run")
    assert said.code == 0, said.err
    words = ("accuracy_drop is in points of a share", "loss<=VALUE, in units of mae")
    said = cli("compress", "run", "--budget", "accuracy_drop<=1", "--quiet")
    said.refused(*words)
