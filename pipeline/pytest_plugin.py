"""The pytest plug-in: a test that fails when a model file got slower, bigger or worse.

    def test_latency(edgedl_latency):
        edgedl_latency("model.tflite").at_most(slowdown=0.03)

pytest loads this module wherever edgedl is installed, so it imports nothing but pytest and the standard library.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import pytest

if TYPE_CHECKING:
    from edgedl.core.artifacts import Verdict

Share: TypeAlias = float | str | None
"""0.05 or "5%"; None asks nothing."""

Inconclusive = Literal["skip", "fail", "pass"]


@dataclass(frozen=True)
class Settings:
    """What the command line and the ini file say. root: paths are relative to it (pytest's rootdir)."""

    root: Path
    against: str = "git:HEAD"
    inconclusive: Inconclusive = "skip"
    budget_s: float = 30.0


@dataclass(frozen=True)
class EdgedlLatency:
    """The fixture `edgedl_latency`. properties: of the test, where a verdict is noted for JUnit."""

    settings: Settings
    properties: list[tuple[str, object]] = field(default_factory=list)

    def __call__(
        self,
        new: str | Path,
        against: str | Path | None = None,
        device: str = "cpu",
        *,
        threads: int = 1,
        seed: int = 0,
    ) -> Comparison:
        """A .tflite or .onnx file beside an old one; nothing is run before `at_most`.

        against: a file, `git:REVISION` (the same file in an earlier commit), or a baseline (.json);
        `--edgedl-against`, else `edgedl_against` of the ini file, else git:HEAD, unless given.
        """
        return Comparison(self, str(new), str(against or self.settings.against), device, threads, seed)


@dataclass(frozen=True)
class Comparison:
    """A new file and the old one, as `edgedl.check` takes them."""

    fixture: EdgedlLatency
    new: str
    against: str
    device: str
    threads: int
    seed: int

    def at_most(
        self,
        *,
        slowdown: Share = "auto",
        size_growth: Share = None,
        memory_growth: Share = None,
        macs_growth: Share = None,
        added_ops: int | None = None,
        added_boundaries: int | None = None,
        added_cpu_ops: int | None = 0,
        accuracy_drop: float | None = None,
        output_change: Share = None,
        data: str | None = None,
        budget_s: float | None = None,
    ) -> Verdict:
        """Run the check. The test fails when the new file regressed, and when it cannot be checked.

        The limits are those of `edgedl.check`, without `max_`: a share as 0.03 or "3%", None asks nothing. slowdown:
        "auto" allows 5 % where times are measured and 1 % where instructions are counted; with None nothing is timed.
        data: for accuracy_drop, in points. Inconclusive: the test is skipped, unless `edgedl_inconclusive` of the ini
        file says fail or pass.
        """
        limits = {
            "max_slowdown": slowdown,
            "max_size_growth": size_growth,
            "max_memory_growth": memory_growth,
            "max_macs_growth": macs_growth,
            "max_added_ops": added_ops,
            "max_added_boundaries": added_boundaries,
            "max_added_cpu_ops": added_cpu_ops,
            "max_accuracy_drop": accuracy_drop,
            "max_output_change": output_change,
        }
        alone = slowdown is not None or memory_growth is not None
        seconds = self.fixture.settings.budget_s if budget_s is None else budget_s
        verdict = self._verdict(limits, data, seconds, alone=alone)
        self._note(verdict)
        if verdict.outcome == "regressed":
            pytest.fail(_in_words(verdict), pytrace=False)
        if verdict.outcome == "inconclusive" and self.fixture.settings.inconclusive != "pass":
            if self.fixture.settings.inconclusive == "fail":
                pytest.fail(_in_words(verdict), pytrace=False)
            pytest.skip(_in_words(verdict))
        return verdict

    def _verdict(self, limits: dict[str, Share], data: str | None, budget_s: float, *, alone: bool) -> Verdict:
        import edgedl
        from edgedl.core.artifacts import Verdict
        from edgedl.core.errors import EdgedlError, InconclusiveError

        try:
            with contextlib.chdir(self.fixture.settings.root), _timing_lock() if alone else contextlib.nullcontext():
                return edgedl.check(
                    self.new,
                    self.against,
                    data=data,
                    device=self.device,
                    budget_s=budget_s,
                    threads=self.threads,
                    seed=self.seed,
                    **limits,
                )
        except InconclusiveError as error:
            return Verdict(
                name=f"{self.new} against {self.against}",
                new=self.new,
                old=self.against,
                outcome="inconclusive",
                findings=(),
                notes=(str(error),),
            )
        except EdgedlError as error:
            pytest.fail(f"edgedl: {error}", pytrace=False)

    def _note(self, verdict: Verdict) -> None:
        """As properties of the test: what `record_property` does, without its warning about JUnit's newer schema."""
        self.fixture.properties.append((f"edgedl:{self.new}", verdict.outcome))
        for finding in verdict.findings:
            self.fixture.properties.append(
                (f"edgedl:{self.new}:{finding.what}", f"{finding.outcome}: {finding.sentence}")
            )


@contextlib.contextmanager
def _timing_lock() -> Generator[None]:
    """One session at a time: what pytest-xdist's workers time at once, they disturb. Raises OutputError."""
    from filelock import FileLock

    from edgedl.core.files import output_errors
    from edgedl.devices.native import cache_folder

    path = cache_folder() / "timing.lock"
    lock = FileLock(path)
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _in_words(verdict: Verdict) -> str:
    from edgedl.pipeline.check.words import verdict_in_words

    return "edgedl: " + "\n".join(verdict_in_words(verdict))


# --- what pytest calls -----------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the command line and of the ini file."""
    group = parser.getgroup("edgedl", "model files, by edgedl")
    group.addoption(
        "--edgedl-against", metavar="OLD", help="What model files are compared with: git:REVISION, a file, a baseline."
    )
    group.addoption("--edgedl-budget-s", metavar="S", type=float, help="Seconds of sampling for a model, at most.")
    parser.addini("edgedl_against", "as --edgedl-against", default=Settings.against)
    parser.addini("edgedl_budget_s", "as --edgedl-budget-s", default=str(Settings.budget_s))
    parser.addini("edgedl_inconclusive", "what becomes of such a test: skip, fail, pass", default=Settings.inconclusive)


def pytest_configure(config: pytest.Config) -> None:
    """Raises UsageError for a setting that cannot be, before any test runs."""
    _settings(config)


def _settings(config: pytest.Config) -> Settings:
    inconclusive = config.getini("edgedl_inconclusive")
    if inconclusive not in ("skip", "fail", "pass"):
        raise pytest.UsageError(f"edgedl_inconclusive: required skip, fail or pass, received {inconclusive!r}")
    seconds = config.getini("edgedl_budget_s")
    try:
        budget_s = float(seconds)
    except ValueError:
        raise pytest.UsageError(f"edgedl_budget_s: required seconds, received {seconds!r}") from None
    against, given_s = config.getoption("--edgedl-against"), config.getoption("--edgedl-budget-s")
    return Settings(
        root=config.rootpath,
        against=against or config.getini("edgedl_against"),
        inconclusive=cast(Inconclusive, inconclusive),
        budget_s=budget_s if given_s is None else given_s,
    )


@pytest.fixture
def edgedl_latency(request: pytest.FixtureRequest) -> EdgedlLatency:
    """Compare model files: `edgedl_latency("model.tflite").at_most(slowdown=0.03)`."""
    return EdgedlLatency(_settings(request.config), request.node.user_properties)
