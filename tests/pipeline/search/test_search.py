"""A search with real techniques on one tiny finished run: seconds a candidate."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgedl
from edgedl.core.artifacts import CompressedModel, Run, load_artifact
from edgedl.core.errors import ConfigError, ModelError
from edgedl.core.isolation import DEFAULT_LIMITS
from edgedl.pipeline.search import judging
from edgedl.pipeline.search.budget import parse_budget
from edgedl.pipeline.search.judging import bar_for, judge_candidate, selecting
from edgedl.pipeline.search.result import FOLDER, load_result
from edgedl.pipeline.search.search import Plan, search_stage
from edgedl.pipeline.search.space import Slot, Space
from edgedl.pipeline.tasks import TASKS
from edgedl.pipeline.verbs import open_model

pytestmark = pytest.mark.tensorflow

SPACE = Space(
    (
        Slot("recovery", ("fine-tune",), frozenset({"loss"})),
        Slot("format", ("dynamic-range", "int8"), frozenset({"size", "gzip"})),
    ),
    epochs=(1,),
    rates=(1e-4,),
)


@pytest.fixture
def run(tiny_run: Run, tmp_path: Path) -> Path:
    """Without what other tests altered in the run that they share."""
    others = shutil.ignore_patterns("alter-*")
    return Path(shutil.copytree(tiny_run.folder, tmp_path / "run", ignore=others))


def test_a_search_ends_with_the_best_file_within_the_budget(run: Path) -> None:
    budget = parse_budget("size<=1x, accuracy_drop<=3")
    seen: list[int] = []
    with open_model(run) as work:
        found = search_stage(
            work, budget, SPACE, Plan(trials=4), watch=lambda done, front, planned: seen.append(len(done))
        )
    assert seen == [0, 1, 2, 3, 4]
    assert [one.chain for one in found.candidates[:2]] == ["dynamic-range", "int8"]
    best = found.candidate(found.best or 0)
    assert best.fits is True
    assert best.figures["size"].value == min(one.figures["size"].value for one in found.candidates if one.fits)
    assert found.best_file is not None
    assert found.best_file.stat().st_size == best.figures["size"].value
    assert best.validation is not None
    assert best.test is not None
    assert (best.validation.after.split, best.test.after.split) == ("validation", "test")
    assert best.validation.after.n != best.test.after.n
    # the best is a variant of the run; what else was tried is not
    variants = [one for one in (run).glob("compress-*/manifest.json") if one.parent.name == found.variant]
    assert len(variants) == 1
    assert not list(run.glob("alter-*")) or "fine-tune" in best.chain
    # saved, drawn, and the test split shown of nothing but the front and the best
    assert load_result(run / FOLDER) == found
    assert all((run / FOLDER / name).stat().st_size > 1000 for name in ("front.png", "front.svg"))
    shown = {*found.front, found.best}
    assert all((one.test is not None) == (one.number in shown) for one in found.candidates)
    # trials reuse each other's stages: float32 and its exports are made once, fine-tuning once for two chains
    store = run / FOLDER
    tuned = [one for one in found.candidates if one.chain.startswith("fine-tune")]
    assert len(list(store.glob("alter-fine-tune-*"))) == len({one.chain.split("+")[0] for one in tuned})
    assert len(list(store.glob("export-float32-tflite-*"))) == 1 + len(list(store.glob("alter-fine-tune-*")))
    assert tuned[0].made > tuned[1].made == 1

    # the same call again has nothing to do
    with open_model(run) as work:
        again = search_stage(work, budget, SPACE, Plan(trials=4))
    assert [one.chain for one in again.candidates] == [one.chain for one in found.candidates]
    assert again.candidates == found.candidates
    assert again.best == found.best


def test_a_limit_that_shapes_break_stops_before_training(run: Path) -> None:
    budget = parse_budget("macs<=0.5x, accuracy_drop<=3")
    with open_model(run) as work:
        bar = bar_for(work, budget, SPACE, DEFAULT_LIMITS, 1.0)
        found = judge_candidate(bar, "fine-tune:fine_tune.epochs=1+int8", [])
    assert found.state == "stopped"
    assert "macs<=0.5x is broken before training" in found.reason
    assert found.figures["macs"].obtained == "estimated"
    assert not list(run.glob("alter-*"))


def test_what_is_beaten_before_the_number_format_is_stopped(run: Path) -> None:
    """Fine-tuning cannot win against a (made-up) candidate that is smaller and better than anything."""
    budget = parse_budget("size<=1x, accuracy_drop<=90")
    with open_model(run) as work:
        bar = bar_for(work, budget, SPACE, DEFAULT_LIMITS, 1.0)
        real = judge_candidate(bar, "int8", [])
        size, loss = real.figures["size"], real.figures["loss"]
        better = replace(
            real,
            chain="better",
            figures={
                **real.figures,
                "size": replace(size, ratio=replace(size.ratio, value=0.001)),  # pyright: ignore[reportArgumentType]
                "loss": replace(loss, value=-99.0),
            },
        )
        found = judge_candidate(bar, "fine-tune:fine_tune.epochs=1+int8", [real, better])
    assert (found.state, found.reason) == ("stopped", "beaten before the number format by better")


def test_a_technique_that_refuses_the_model_fails_its_trial_only(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = parse_budget("size<=0.5x, accuracy_drop<=50")
    compress = judging.compress

    def refusing(bar: judging.Bar, chain: str, **options: object) -> CompressedModel:
        if chain == "int8":
            raise ModelError("int8 cannot hold this model")
        return compress(bar, chain, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(judging, "compress", refusing)
    space = Space((Slot("format", ("int8", "dynamic-range"), frozenset({"size"})),))
    with open_model(run) as work:
        found = search_stage(work, budget, space, Plan(trials=9))
    assert [(one.chain, one.state) for one in found.candidates] == [("int8", "failed"), ("dynamic-range", "judged")]
    assert found.candidates[0].refused == "int8"
    assert found.candidates[0].reason == "int8 cannot hold this model"
    assert (found.best, found.stopped) == (2, "the whole space was tried")
    assert "int8 was left out once it had refused the model: int8 cannot hold this model" in found.notes


@pytest.mark.slow
def test_latency_is_a_paired_ratio_and_taken_only_of_what_keeps_the_rest(run: Path) -> None:
    budget = parse_budget("size<=0.4x, latency<=50x, accuracy_drop<=50")
    space = Space((Slot("format", ("int8", "float16"), frozenset({"size"})),))
    with open_model(run) as work:
        found = search_stage(work, budget, space, Plan(trials=2, latency_s=1.0))
    small, big = found.candidates
    ratio = small.figures["latency"].ratio
    assert ratio is not None
    assert small.figures["latency"].obtained == "measured"
    assert 0 < ratio.low <= ratio.value <= ratio.high
    assert big.state == "stopped"
    assert "latency" not in big.figures
    assert big.reason == "size<=0.4x broken, so its latency was not taken"


@pytest.mark.slow
def test_a_run_is_searched_in_a_copy_elsewhere(run: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in run.iterdir())
    found = edgedl.search(run, "size<=0.5x, accuracy_drop<=50", trials=1, out=tmp_path / "copy")
    assert found.folder == tmp_path / "copy" / FOLDER
    assert sorted(path.name for path in run.iterdir()) == before
    again = edgedl.search(run, "size<=0.5x, accuracy_drop<=50", trials=1, out=tmp_path / "copy")
    assert again.candidates == found.candidates


def test_anomalies_that_validation_has_not_are_replaced_by_the_reconstruction(tiny_run: Run) -> None:
    """An area under the curve needs both kinds."""
    with open_model(tiny_run.trained) as work:
        data, contract = work.data, replace(work.trained.contract, task="anomaly-detection")
    assert data is not None
    normal = replace(data, validation=replace(data.validation, targets=np.zeros(len(data.validation), np.int64)))  # pyright: ignore
    assert selecting(contract, normal).task == "reconstruction"
    assert selecting(contract, data).task == "anomaly-detection"
    assert TASKS["reconstruction"].measure.metric == "reconstruction error"


def test_python_refuses_what_the_command_line_refuses(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ConfigError, match="a search needs data"):
        edgedl.search(tmp_path / "model.keras", "size<=60KB")
    with pytest.raises(ConfigError, match="--trials of 1 or more"):
        edgedl.search(run, "size<=60KB", trials=0)
    with pytest.raises(ConfigError, match="--minutes makes no sense"):
        edgedl.search(run, "size<=60KB", minutes=float("nan"))
    with pytest.raises(ConfigError, match="--storage foo://x cannot be used"):
        edgedl.search(run, "size<=60KB", storage="foo://x")


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_stopped(run: Path) -> None:
    command = [sys.executable, "-m", "edgedl", "compress", str(run), "--budget", "size<=0.5x, accuracy_drop<=9"]
    command += ["--trials", "3", "--json", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 240
    while not list((run / FOLDER).glob("compress-*/manifest.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = list((run / FOLDER).glob("compress-*/manifest.json"))
    assert kept, "killed before anything was made"
    written = {path: path.stat().st_ino for path in kept}
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert len(content["candidates"]) == 3
    assert {path: path.stat().st_ino for path in kept} == written
    assert isinstance(load_artifact(run / content["variant"]), CompressedModel)


@pytest.mark.slow
def test_two_commands_share_a_storage(run: Path, tmp_path: Path) -> None:
    """Each in a folder of its own, which has one writer; together they make every candidate once."""
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    base = [sys.executable, "-m", "edgedl", "compress", str(run), "--budget", "size<=0.5x, accuracy_drop<=9"]
    base += ["--trials", "4", "--storage", storage, "--json", "--quiet", "--out"]
    processes = [
        subprocess.Popen([*base, str(tmp_path / name)], stdout=subprocess.PIPE, text=True) for name in ("one", "two")
    ]
    results = [json.loads(process.communicate(timeout=600)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    last = max(results, key=lambda one: len(one["candidates"]))
    chains = [one["chain"] for one in last["candidates"]]
    assert len(chains) == len(set(chains)) >= 4
    assert len({one["worker"] for one in last["candidates"]}) == 2
    assert all(Path(one["folder"], one["file"]).is_file() for one in results)
