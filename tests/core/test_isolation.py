"""A child that crashes, hangs or eats memory leaves the caller standing, and says one clear thing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgedl.core import isolation
from edgedl.core.errors import ModelError, StageError
from edgedl.core.isolation import Limits, run_isolated

ROOMY = Limits(time_s=60)


def isolated(function: Any, *args: object, limits: Limits = ROOMY) -> Any:
    return run_isolated(
        function, *args, stage="conversion", subject="my.keras", nursery="runtime", limits=limits, advice="Try that"
    )


def add(a: int, b: int) -> int:
    return a + b


def die(number: int) -> None:
    print("about to die", flush=True)
    os.kill(os.getpid(), number)


def hold(megabytes: int) -> None:
    block = bytearray(megabytes * 1_000_000)
    block[::4096] = b"x" * len(block[::4096])
    time.sleep(30)


def refuse() -> None:
    raise ModelError("no", required="this", received="that", advice="Do so")


def fail() -> None:
    raise KeyError("a bug")


def quit_early() -> None:
    os._exit(7)


def sleep_and_leave_pid(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(60)


def test_returns_what_the_function_returns() -> None:
    assert isolated(add, 2, 3) == 5


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_becomes_one_error_that_names_stage_model_advice_and_last_words(number: signal.Signals) -> None:
    with pytest.raises(StageError) as caught:
        isolated(die, int(number))
    text = str(caught.value)
    assert all(word in text for word in ("conversion", "my.keras", number.name, "Try that", "about to die"))
    assert "\n" not in text


def test_a_hang_ends_at_the_time_limit_and_takes_the_child_along(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(StageError, match="time limit of 1 s"):
        isolated(sleep_and_leave_pid, tmp_path / "pid", limits=Limits(time_s=1))
    assert time.monotonic() - started < 10
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while psutil.pid_exists(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(child)


def test_memory_beyond_the_limit_is_stopped() -> None:
    with pytest.raises(StageError, match="memory limit of 300 MB"):
        isolated(hold, 600, limits=Limits(time_s=30, memory_mb=300))


def test_an_error_of_edgedl_arrives_unchanged() -> None:
    with pytest.raises(ModelError) as caught:
        isolated(refuse)
    assert str(caught.value) == "no: required this, received that. Do so"


def test_another_exception_arrives_with_the_childs_traceback() -> None:
    with pytest.raises(KeyError) as caught:
        isolated(fail)
    assert any("In the child process" in note for note in caught.value.__notes__)


def test_a_nursery_that_was_killed_is_replaced() -> None:
    isolated(add, 1, 1)
    nursery = isolation._nurseries["runtime"][0]
    nursery.kill()
    nursery.wait()
    assert isolated(add, 1, 2) == 3
    assert isolation._nurseries["runtime"][0].pid != nursery.pid


def test_an_exit_without_an_answer_is_told() -> None:
    with pytest.raises(StageError, match="exit status 7"):
        isolated(quit_early)


def _read_here() -> str:
    return Path("here.txt").read_text()


def test_relative_paths_are_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):  # the nursery has begun before the folder changes
        (tmp_path / name).mkdir()
        (tmp_path / name / "here.txt").write_text(name)
        monkeypatch.chdir(tmp_path / name)
        assert run_isolated(_read_here, stage="reading", subject="here.txt", nursery="runtime") == name
