"""Several devices in one call."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.tiny_models import dense_tflite

from edgedl import devices
from edgedl.core.artifacts import LatencyReport, ModelLatency
from edgedl.core.console import reporter
from edgedl.core.errors import EdgedlError, ModelError, UnavailableError
from edgedl.core.model_facts import ModelFile
from edgedl.devices import DeviceStatus, SamplingPlan
from edgedl.devices.results import latency_report
from edgedl.pipeline import matrix, profile

WORKING: set[str] = set()


@dataclass
class Fake:
    """Notes who works at the same time. meets: what it waits for."""

    name: str
    meets: threading.Barrier | None = None
    refuses: EdgedlError | None = None
    seen: set[str] = field(default_factory=set)
    left: threading.Event = field(default_factory=threading.Event)
    summary: str = "for tests"

    def targets(self) -> Sequence[str]:
        return ()

    def status(self) -> DeviceStatus:
        return DeviceStatus(True, "")

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        WORKING.add(self.name)
        try:
            if self.refuses:
                raise self.refuses
            if self.meets:
                self.meets.wait(timeout=20)
            self.seen |= WORKING
            self.work()
        finally:
            WORKING.discard(self.name)
            self.left.set()
        models = [ModelLatency(file.path.name, "", 0, "none", ()) for file in files]
        return latency_report(
            files, models, plan, device=self.name, hardware="", obtained="estimated", started=0.0, stopped=""
        )

    def work(self) -> None:
        pass


@dataclass
class Apart(Fake):
    undisturbed: bool = True


@dataclass
class Endless(Apart):
    def work(self) -> None:
        with reporter().progress("endless", 1.0) as bar:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            for _ in range(2000):
                time.sleep(0.01)
                bar.update(0.5)
        pytest.fail("was not interrupted")


def install(monkeypatch: pytest.MonkeyPatch, *fakes: Fake) -> list[str]:
    known = {fake.name: fake for fake in fakes}

    def find(spec: str):
        if spec not in known:
            raise UnavailableError(f"no device is called {spec!r}")
        return known[spec], None

    for module in (matrix, profile, devices):
        monkeypatch.setattr(module, "find_device", find)
    return list(known)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [dense_tflite(tmp_path / "m.tflite", 1)]


def test_what_nothing_disturbs_works_side_by_side_and_what_times_this_host_alone(
    monkeypatch: pytest.MonkeyPatch, files: list[Path]
) -> None:
    both = threading.Barrier(2)
    host, one, other = Fake("host"), Apart("one", both), Apart("other", both)
    found = matrix.profile_on_all(files, install(monkeypatch, host, one, other))
    assert [report.device for report in found] == ["host", "one", "other"]
    assert host.seen == {"host"}


def test_one_that_cannot_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch, files: list[Path]) -> None:
    refused = ModelError("m.tflite does not run there")
    names = install(monkeypatch, Apart("one", refuses=refused), Fake("host", refuses=refused), Apart("other"))
    first, second, third = matrix.profile_on_all(files, names)
    assert first is second is refused
    assert isinstance(third, LatencyReport)


def test_an_unknown_device_is_told_before_any_begins(monkeypatch: pytest.MonkeyPatch, files: list[Path]) -> None:
    one = Apart("one")
    install(monkeypatch, one)
    with pytest.raises(UnavailableError, match="no device is called 'none'"):
        matrix.profile_on_all(files, ["one", "none"])
    assert not one.left.is_set()


def test_ctrl_c_ends_every_session_in_order(monkeypatch: pytest.MonkeyPatch, files: list[Path]) -> None:
    endless = Endless("endless")
    names = install(monkeypatch, endless)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        matrix.profile_on_all(files, names)
    assert endless.left.is_set()
    assert time.monotonic() - started < 15
