"""The study behind a search: which chains it proposes, after a kill, and when several processes share it.

What a chain is worth is a made-up function of its words here; real candidates are judged in `test_search.py`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgedl.core.errors import ConfigError
from edgedl.core.statistics import exact
from edgedl.pipeline.search.budget import parse_budget
from edgedl.pipeline.search.result import Candidate, Figure
from edgedl.pipeline.search.space import Slot, Space
from edgedl.pipeline.search.trials import Trials, open_storage, open_trials

BUDGET = parse_budget("size<=60KB, accuracy_drop<=1")
SPACE = Space(
    (
        Slot("recovery", ("fine-tune",), frozenset({"loss"})),
        Slot("format", ("dynamic-range", "float16", "int8", "int8:io=float", "int16x8"), frozenset({"size"})),
    ),
    epochs=(1, 2),
    rates=(1e-4,),
)
ASKED = {"model": "m", "data": "d"}


def made_up(chain: str, state: str = "judged") -> Candidate:
    size = 40.0 + 7 * len(chain)
    loss = (hash_of(chain) % 100) / 30
    figures = {
        "size": Figure(size * 1e3, "measured", exact(size * 1e3), exact(size / 300)),
        "loss": Figure(loss, "measured", exact(loss)),
    }
    return Candidate(chain, state, figures)  # pyright: ignore[reportArgumentType]


def hash_of(text: str) -> int:
    return sum(ord(letter) * (i + 1) for i, letter in enumerate(text))


def opened(folder: Path, seed: int = 0, storage: str | None = None) -> Trials:
    folder.mkdir(exist_ok=True)
    return open_trials(folder, storage, BUDGET, SPACE, seed, ASKED)


def tried(chain: str) -> Candidate:
    return made_up(chain, "judged" if hash_of(chain) % 4 else "stopped")


def go_on(trials: Trials, n: int) -> list[str]:
    found: list[str] = []
    while len(found) < n and (given := trials.next()) is not None:
        trial, chain = given
        trials.tell(trial, tried(chain))
        found.append(chain)
    return found


def test_the_same_seed_gives_the_same_trials_and_another_seed_others(tmp_path: Path) -> None:
    first = go_on(opened(tmp_path / "a", 1), 9)
    assert first == go_on(opened(tmp_path / "b", 1), 9)
    assert first[:5] == list(SPACE.slots[1].options)
    assert len(set(first)) == 9
    assert first != go_on(opened(tmp_path / "c", 2), 9)


def test_a_killed_search_goes_on_with_the_trials_it_would_have_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = go_on(opened(tmp_path / "whole"), 9)
    before = go_on(opened(tmp_path / "parts"), 6)
    lost = opened(tmp_path / "parts").next()
    assert lost is not None  # killed at work on it: it is never told
    trials = opened(tmp_path / "parts")
    told = trials.next()
    assert told is not None
    trial, chain = told
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Trials, "_finish", _killed)  # between keeping and telling
        trials.tell(trial, tried(chain))
    after = go_on(opened(tmp_path / "parts"), 2)
    assert [*before, chain, *after] == whole
    assert lost[1] == chain
    assert [one.chain for one in opened(tmp_path / "parts").finished()] == whole


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_whole_space_is_tried_once_and_then_it_ends(tmp_path: Path) -> None:
    trials = opened(tmp_path / "a")
    found = go_on(trials, 1000)
    assert sorted(found) == sorted(SPACE.words(point) for point in SPACE.points())
    assert trials.next() is None
    assert [one.number for one in trials.finished()] == list(range(1, len(found) + 1))


def test_what_refused_the_model_is_not_proposed_again(tmp_path: Path) -> None:
    trials = opened(tmp_path / "a")
    refused: list[str] = []
    found: list[str] = []
    while (given := trials.next(refused)) is not None:
        trial, chain = given
        found.append(chain)
        refused = refused if chain != "int8" else ["int8"]
        trials.tell(trial, made_up(chain, "failed" if chain == "int8" else "judged"))
    assert [chain for chain in found if chain.split("+")[-1] == "int8"] == ["int8"]
    assert "fine-tune:fine_tune.epochs=1+int8:io=float" in found


def test_another_budget_is_another_study(tmp_path: Path) -> None:
    go_on(opened(tmp_path / "a"), 3)
    other = open_trials(tmp_path / "a", None, parse_budget("size<=80KB, accuracy_drop<=1"), SPACE, 0, ASKED)
    assert other.finished() == []
    assert len(opened(tmp_path / "a").finished()) == 3


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_two_processes_share_a_storage(tmp_path: Path, kind: str) -> None:
    """Together they try every chain, none of them twice, each from a folder of its own."""
    storage = f"sqlite:///{tmp_path / 'shared.db'}" if kind == "sqlite" else str(tmp_path / "shared.journal")
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.pipeline.search.test_trials import go_on, opened\n"
        f"print(*go_on(opened(Path(sys.argv[1]), 0, {storage!r}), 1000), sep='\\n')"
    )
    root = Path(__file__).parents[3]
    workers = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path / name], stdout=subprocess.PIPE, text=True, cwd=root)
        for name in ("one", "two")
    ]
    found = [worker.communicate(timeout=240)[0].split("\n") for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    chains = [chain for lines in found for chain in lines if chain]
    assert len(chains) == len(set(chains))
    assert sorted(chains) == sorted(SPACE.words(point) for point in SPACE.points())
    done = opened(tmp_path / "three", 0, storage).finished()
    assert sorted(one.chain for one in done) == sorted(chains)


@pytest.mark.parametrize("storage", ["foo://x", "://", "sqlite:////no/such/folder/x.db", "/no/such/folder/x.journal"])
def test_a_storage_that_cannot_be_used_is_told(storage: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        open_storage(storage)
