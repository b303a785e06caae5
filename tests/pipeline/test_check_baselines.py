"""What was accepted: written, read back, and the accepted file found wherever it is by now."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.core.test_git import OURS, STAND_IN, commit, git, needs_git, pointer_to, repository
from tests.devices import conftest as devices
from tests.tiny_models import dense_tflite, model_file

import edgedl
from edgedl.core.artifacts import LatencyReport, Verdict
from edgedl.core.errors import ConfigError, ExitCode, InconclusiveError, InputError, ModelError, OutputError
from edgedl.core.files import sha256_of
from edgedl.pipeline.check import gate
from edgedl.pipeline.check.baseline import Baseline, baseline_of, read_baseline, write_baseline
from edgedl.pipeline.check.gate import Question
from edgedl.pipeline.check.locate import NotFoundError, cached

SIZES = {"max_slowdown": None, "max_size_growth": 0.01}
"""Limits for which nothing runs."""

emulated = devices.emulated


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of old model files; the devices keep theirs."""
    monkeypatch.setattr("edgedl.pipeline.check.locate.cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """small.tflite, and large.tflite with four times the layers."""
    folder = tmp_path_factory.mktemp("shelf")
    for name, layers in (("small", 2), ("large", 8)):
        dense_tflite(folder / f"{name}.tflite", layers, 16)
    return folder


@pytest.fixture
def home(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the tests stand: m.tflite is the small model, m.json accepts it."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copy(shelf / "small.tflite", "m.tflite")
    accepted("m.tflite", "m.json")
    return folder


@pytest.fixture
def overwritten(home: Path, shelf: Path) -> Path:
    """m.tflite is the large model by now."""
    shutil.copy(shelf / "large.tflite", home / "m.tflite")
    return home


def accepted(file: str | Path, at: str | Path, *, device: str = "cpu", **changed: Any) -> Baseline:
    """A baseline that accepts a file, without anything measured."""
    baseline = baseline_of(Path(at), model_file(Path(file)), "m", device, None, None).model_copy(update=changed)
    write_baseline(Path(at), baseline)
    return baseline


def edit(path: Path, **changed: Any) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    return path


def checked(new: str = "m.tflite", **settings: Any) -> Verdict:
    return edgedl.check(new, "m.json", **(SIZES | settings))


# --- written and read --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session(shelf: Path) -> LatencyReport:
    """The small model, profiled on this machine."""
    return edgedl.profile(shelf / "small.tflite", budget_s=0.5)


@pytest.fixture
def accept(home: Path, session: LatencyReport, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Accept home's m.tflite as on a machine with these things other than here; nothing is profiled."""

    def call(**differs: Any) -> Verdict:
        (model,) = session.models
        now = replace(model, sha256=sha256_of(home / "m.tflite"))
        monkeypatch.setattr(gate, "profile", lambda *_, **__: replace(session, **{"models": (now,)} | differs))
        return gate.accept(Question("kws", Path("m.tflite"), "base/m.json", "cpu", SIZES))

    return call


def test_what_is_written_is_read_back(home: Path, accept: Any, session: LatencyReport):
    accept()
    path = home / "base" / "m.json"
    text = path.read_text()
    baseline = read_baseline(path, device="cpu")
    assert (baseline.model, baseline.file, baseline.sha256) == ("kws", "../m.tflite", sha256_of(home / "m.tflite"))
    assert [one.name for one in (*baseline.inputs, *baseline.outputs)] == ["x", "y"]
    (measured,) = baseline.measured
    assert measured.hardware == session.hardware
    assert measured.runtimes == session.runtimes
    assert measured.figures.ops == 2
    timing = session.models[0].timing
    assert timing is not None
    assert measured.p10_us == pytest.approx(timing.p10_us.value, abs=1e-3)
    assert "null" not in text
    assert text.endswith("}\n")
    assert len(text) < 2000, "a small file"
    write_baseline(path, baseline)
    assert path.read_text() == text


def test_the_records_of_other_machines_stay_beside_this_one_s(home: Path, accept: Any, shelf: Path):
    accept()
    for other in ({"hardware": "a phone"}, {"runtimes": {"LiteRT": "1.0"}}):
        accept(**other)
        accept(**other)
    records = read_baseline(home / "base" / "m.json").measured
    assert len(records) == 3, "one a machine and runtime, however often it is accepted"
    assert [one.hardware for one in records].count("a phone") == 1
    shutil.copy(shelf / "large.tflite", "m.tflite")
    accept()
    (record,) = read_baseline(home / "base" / "m.json").measured
    assert record.figures.ops == 8, "of another file, what was measured of the first says nothing"


def test_an_update_says_what_it_accepts_and_instead_of_what(home: Path, accept: Any, shelf: Path):
    first = accept()
    assert (first.old, first.outcome) == ("nothing", "pass")
    assert first.notes[0].startswith("accepted ../m.tflite (")
    assert first.notes[0].endswith(") for kws on cpu, in base/m.json")
    again = accept()
    assert again.notes == ("accepted the same file again for kws on cpu, in base/m.json",)
    shutil.copy(shelf / "large.tflite", "m.tflite")
    other = accept()
    assert {one.what: one.outcome for one in other.findings}["size"] == "regressed", "what is accepted is seen"
    assert other.outcome == "pass", "and it is accepted"
    assert other.notes[1].startswith("before: ../m.tflite (")
    assert read_baseline(home / "base" / "m.json").sha256 == sha256_of(home / "m.tflite")


def test_what_a_person_wrote_into_it_stays(home: Path, accept: Any):
    accept()
    edit(home / "base" / "m.json", url="https://example.org/{sha256}")
    accept()
    assert read_baseline(home / "base" / "m.json").url == "https://example.org/{sha256}"


def test_a_file_that_changes_while_it_is_measured_is_not_accepted(home: Path, session: LatencyReport, accept: Any):
    accept()
    before = (home / "base" / "m.json").read_bytes()
    with pytest.raises(ModelError, match="changed while it was checked"):
        accept(models=(replace(session.models[0], sha256="0" * 64),))
    assert (home / "base" / "m.json").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Invalid JSON"),
        (b'{"model": "m", "file": "m.tfl', "Invalid JSON"),
        (b"<<<<<<< HEAD\n{", "Invalid JSON"),
        (b"[" * 9999, "recursion limit"),
        (b"\xff\x00", "Invalid JSON"),
        (b"[]", "an object"),
        (b"{}", "model: Field required"),
    ],
)
def test_a_file_that_is_no_baseline(home: Path, content: bytes, says: str):
    (home / "m.json").write_bytes(content)
    for ask in (checked, partial(gate.accept, Question("m", Path("m.tflite"), "m.json", "cpu"))):
        with pytest.raises(ConfigError, match=r"m\.json is no baseline.*--update-baseline.*git checkout") as told:
            ask()
        assert says in str(told.value)
    assert (home / "m.json").read_bytes() == content


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sha265": "x"}, "unknown key 'sha265' (did you mean 'sha256'?)"),
        ({"sha256": "abc"}, "sha256"),
        ({"sha256": 3}, "sha256"),
        ({"file": ""}, "the path of a file"),
        ({"file": "a\0b"}, "the path of a file"),
        ({"edgedl_baseline": 2}, "edgedl_baseline"),
        ({"measured": [{"hardware": "h"}]}, "measured.0"),
        ({"inputs": 3}, "inputs"),
        ({"accepted": "yesterday"}, "accepted"),
        ({"device": "arm64:cortex-a76"}, "Give --device arm64:cortex-a76"),
    ],
)
def test_a_baseline_that_says_what_cannot_be(home: Path, changed: dict[str, Any], says: str):
    edit(home / "m.json", **changed)
    with pytest.raises(ConfigError) as told:
        checked()
    assert says in str(told.value)


def test_no_baseline_names_the_command_that_writes_one(home: Path):
    shutil.copy("m.tflite", "a b.tflite")
    with pytest.raises(ConfigError, match=r"there is no baseline no\.json") as told:
        edgedl.check("a b.tflite", "no.json", **SIZES)
    assert "`edgedl check 'a b.tflite' --against no.json --device cpu --update-baseline`" in str(told.value)


# --- the accepted file, wherever it is ---------------------------------------------------------------------------


def test_at_its_path(home: Path, shelf: Path):
    assert checked().old == "m.tflite as accepted"
    shutil.copy(shelf / "large.tflite", "new.tflite")
    verdict = checked("new.tflite")
    assert (verdict.outcome, verdict.name) == ("regressed", "new.tflite against m.tflite as accepted")


def test_its_path_is_relative_to_the_baseline_s_folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (home / "baselines").mkdir()
    accepted(home / "m.tflite", home / "baselines" / "m.json")
    (tmp_path / "link.json").symlink_to(home / "baselines" / "m.json")
    monkeypatch.chdir(tmp_path)
    for path in ("home/baselines/m.json", "link.json"):
        assert edgedl.check("home/m.tflite", path, **SIZES).outcome == "pass"


@needs_git
def test_in_git_also_on_another_branch_and_when_head_moved(home: Path, shelf: Path, cache: Path):
    repository(home)
    git(home, "switch", "--quiet", "--create", "accepted")
    commit(home)
    git(home, "switch", "--quiet", "--orphan", "main")
    git(home, "checkout", "accepted", "--", "m.json")
    for _ in range(2):
        shutil.copy(shelf / "large.tflite", home / "m.tflite")
        commit(home)
        verdict = checked()
        assert (verdict.outcome, verdict.old) == ("regressed", "m.tflite as accepted, from git")
        shutil.rmtree(cache)
    git(home, "rm", "--quiet", "m.tflite")
    commit(home)
    assert checked(str(shelf / "large.tflite")).old == "m.tflite as accepted, from git", "its path is gone"


@needs_git
def test_in_git_lfs(overwritten: Path, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if shutil.which("git-lfs") is None:
        (tmp_path / "tools").mkdir()
        (tmp_path / "tools" / "git-lfs").write_text(STAND_IN)
        (tmp_path / "tools" / "git-lfs").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:{OURS['PATH']}")
    repository(overwritten)
    pointer = pointer_to(overwritten, (shelf / "small.tflite").read_bytes())
    commit(overwritten, m__tflite=pointer)
    gone = pointer_to(overwritten, b"never pushed", here=False)
    commit(overwritten, m__tflite=gone)
    shutil.copy(shelf / "large.tflite", "m.tflite")
    verdict = checked()
    assert (verdict.outcome, verdict.old) == ("regressed", "m.tflite as accepted, from git")
    with pytest.raises(InputError, match=r"Git LFS does not bring m\.tflite"):
        edgedl.check("m.tflite", "git:HEAD", **SIZES)


def test_in_the_cache(overwritten: Path, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    monkeypatch.chdir(overwritten)
    monkeypatch.setenv("EDGEDL_CACHE", str(tmp_path / "mine"))
    with pytest.raises(NotFoundError) as told:
        checked()
    place = cached(read_baseline(Path("m.json")).sha256, "m.tflite")
    assert f"Put it into the cache as {place}" in str(told.value)
    assert place.is_relative_to(tmp_path / "mine" / "models")
    place.parent.mkdir(parents=True)
    shutil.copy(shelf / "small.tflite", place)
    verdict = checked()
    assert (verdict.outcome, verdict.old) == ("regressed", "m.tflite as accepted, from the cache")
    place.write_bytes(place.read_bytes()[:-1])
    with pytest.raises(NotFoundError):
        checked()


def test_what_is_accepted_is_kept_in_the_cache(home: Path, accept: Any, shelf: Path):
    accept()
    shutil.copy(shelf / "large.tflite", "m.tflite")
    verdict = edgedl.check("m.tflite", "base/m.json", **SIZES)
    assert (verdict.outcome, verdict.old) == ("regressed", "../m.tflite as accepted, from the cache")


@needs_git
def test_a_cache_that_cannot_be_written_is_named(overwritten: Path, cache: Path):
    cache.write_text("a file in the way")
    repository(overwritten)
    commit(overwritten)
    with pytest.raises(OutputError, match="EDGEDL_CACHE"):
        edgedl.check("m.tflite", "git:HEAD", **SIZES)


@pytest.fixture
def served() -> Iterator[dict[str, bytes]]:
    """Contents by their path, at the URL under the key "url"."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path.removeprefix("/"))
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        files["url"] = f"http://127.0.0.1:{http.server_address[1]}".encode()
        yield files
        http.shutdown()


@pytest.mark.parametrize("url", ["{sha256}.tflite?from=ci", "{sha256}/{file}", "{sha256}/"])
def test_at_a_url(home: Path, shelf: Path, served: dict[str, bytes], url: str):
    shutil.copy("m.tflite", "a b.tflite")
    sha256 = accepted("a b.tflite", "m.json", url=f"{served['url'].decode()}/{url}").sha256
    shutil.copy(shelf / "large.tflite", "a b.tflite")
    path = url.replace("{sha256}", sha256).replace("{file}", "a%20b.tflite")
    served[path + "a%20b.tflite" * path.endswith("/")] = (shelf / "small.tflite").read_bytes()
    verdict = checked("a b.tflite")
    assert verdict.outcome == "regressed"
    assert verdict.old.startswith(f"a b.tflite as accepted, from {served['url'].decode()}/{sha256}")
    served.clear()
    assert checked("a b.tflite").old == "a b.tflite as accepted, from the cache", "it is fetched once"


def test_at_a_mirror(overwritten: Path, shelf: Path, served: dict[str, bytes], monkeypatch: pytest.MonkeyPatch):
    edit(overwritten / "m.json", url="http://127.0.0.1:1/models/{sha256}")
    served[read_baseline(overwritten / "m.json").sha256] = (shelf / "small.tflite").read_bytes()
    monkeypatch.setenv("EDGEDL_BASELINES_URL", served["url"].decode())
    assert checked().outcome == "regressed"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("{url}/wrong.tflite", "is not the published file"),
        ("{url}/absent.tflite", "404"),
        ("http://127.0.0.1:1/m.tflite", "refused"),
        ("{sha256.nope}", "unknown url type"),
        ("{", "unknown url type"),
        ("", "Put it into the cache"),
    ],
)
def test_at_a_url_that_does_not_have_it(overwritten: Path, served: dict[str, bytes], cache: Path, url: str, says: str):
    served["wrong.tflite"] = (overwritten / "m.tflite").read_bytes()
    edit(overwritten / "m.json", url=url.replace("{url}", served["url"].decode()))
    with pytest.raises(NotFoundError) as told:
        checked()
    assert says in str(told.value)
    assert not [path for path in cache.rglob("*") if path.is_file()], "what is not the file is not kept"


def test_nowhere_says_where_was_looked(overwritten: Path):
    with pytest.raises(NotFoundError) as told:
        checked()
    assert told.value.exit_code == ExitCode.BAD_INPUT
    line = str(told.value)
    for words in (
        "m.tflite of m is not to be had",
        "SHA-256 ",
        "m.tflite as it is now",
        "none in git",
        "the cache as ",
    ):
        assert words in line
    assert "--update-baseline" in line
    (overwritten / "m.tflite").rename("new.tflite")
    with pytest.raises(NotFoundError, match=r"no m\.tflite there now"):
        checked("new.tflite")


@needs_git
def test_nowhere_in_a_shallow_clone_names_what_brings_the_rest(
    overwritten: Path, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    repository(overwritten)
    commit(overwritten, m__tflite=(shelf / "small.tflite").read_bytes())
    commit(overwritten, m__tflite=(shelf / "large.tflite").read_bytes())
    git(tmp_path, "clone", "--quiet", "--depth", "1", overwritten.as_uri(), "shallow")
    monkeypatch.chdir(tmp_path / "shallow")
    with pytest.raises(NotFoundError, match="`git fetch --unshallow`") as told:
        checked()
    assert "1 version of it in git" in str(told.value)
    git(tmp_path / "shallow", "fetch", "--quiet", "--unshallow")
    assert checked().outcome == "regressed"


def test_a_candidate_with_other_inputs_cannot_take_its_place(home: Path):
    dense_tflite(home / "new.tflite", 2, 32)
    with pytest.raises(ModelError, match=r"new\.tflite cannot take the place of m\.tflite.*\[1, 16\].*\[1, 32\]"):
        checked("new.tflite")


@pytest.mark.parametrize("new", ["gone.tflite", ".", "m.json"])
def test_a_candidate_that_is_no_model_is_told_first(overwritten: Path, new: str):
    for against in ("m.json", "git:HEAD"):
        with pytest.raises(InputError) as told:
            edgedl.check(new, against, **SIZES)
        assert str(told.value).startswith((f"there is no {new}", f"{new} is n", f"{new} is a folder"))


# --- old times are for people ------------------------------------------------------------------------------------


def test_an_old_time_changes_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever the baseline says of then: both files are timed now."""
    monkeypatch.chdir(tmp_path)
    dense_tflite(tmp_path / "m.tflite", 4)
    gate.accept(Question("m", Path("m.tflite"), "m.json", "cpu", {"budget_s": 0.5}))
    (record,) = json.loads(Path("m.json").read_text())["measured"]
    record["figures"] |= {"memory_bytes": 1, "size_bytes": 1, "ops": 1, "macs": 1}
    edit(Path("m.json"), measured=[record | {"p10_us": 0.001}])
    dense_tflite(tmp_path / "alike.tflite", 5)
    alike = edgedl.check("alike.tflite", "m.json", max_slowdown=9.0, max_size_growth=1.0, budget_s=2)
    assert alike.outcome == "pass"
    assert alike.notes == ()
    edit(Path("m.json"), measured=[record | {"p10_us": 1e9, "hardware": "a phone of 2011"}])
    dense_tflite(tmp_path / "new.tflite", 16)
    slower = edgedl.check("new.tflite", "m.json", budget_s=4)
    assert slower.findings[0].outcome == "regressed"
    assert slower.findings[0].old < 1e6
    (note,) = slower.notes
    assert "taken on a phone of 2011" in note
    assert "both files were profiled again here" in note


# --- the accepted file is gone: counts -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counts_on_micro(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The baseline of the small model in TFLM's interpreter, which tells the arena and nothing of speed."""
    pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")
    return counts_on("micro", shelf, tmp_path_factory.mktemp("micro"))


@pytest.fixture(scope="module")
def counts_on_arm64(emulated: None, shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The baseline of the small model on an emulated core, which tells its instructions."""
    return counts_on("arm64:cortex-a76", shelf, tmp_path_factory.mktemp("arm64"))


def counts_on(device: str, shelf: Path, folder: Path) -> str:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("edgedl.pipeline.check.locate.cache_folder", lambda: folder)
        gate.accept(Question("m", shelf / "small.tflite", folder / "m.json", device))
    return (folder / "m.json").read_text()


def test_instructions_are_compared_with_those_of_the_baseline(
    counts_on_arm64: str, home: Path, shelf: Path, tmp_path: Path
):
    (home / "m.json").write_text(counts_on_arm64)
    record = json.loads(counts_on_arm64)["measured"][0]
    assert (record["obtained"], record["figures"]["instructions"] > 1000) == ("emulated", True)
    same = edgedl.check(home / "m.tflite", "m.json", device="arm64:cortex-a76")
    assert (same.outcome, same.findings[0].what, same.findings[0].change) == ("pass", "latency", 1.0)
    assert "is not to be had: compared with the counts" in same.notes[0]
    large = edgedl.check(shelf / "large.tflite", "m.json", device="arm64:cortex-a76")
    assert (large.outcome, large.findings[0].outcome) == ("regressed", "regressed")
    assert "emulated on arm64:cortex-a76; exact" in large.findings[0].sentence
    assert {one.what: one.outcome for one in large.findings}["ops"] == "pass", "what has no limit is told"
    del record["figures"]["instructions"]
    edit(home / "m.json", measured=[record])
    with pytest.raises(InconclusiveError, match="holds no count of instructions"):
        edgedl.check(home / "m.tflite", "m.json", device="arm64:cortex-a76")


def test_an_arena_is_compared_with_that_of_the_baseline(counts_on_micro: str, home: Path, shelf: Path):
    (home / "m.json").write_text(counts_on_micro)
    same = edgedl.check(home / "m.tflite", "m.json", device="micro", max_memory_growth=0)
    assert (same.outcome, {one.what: one.change for one in same.findings}) == ("pass", {"memory": 1.0, "size": 1.0})
    assert any("micro tells no speed" in note for note in same.notes)
    large = edgedl.check(shelf / "large.tflite", "m.json", device="micro", max_memory_growth=0)
    assert {one.what: one.outcome for one in large.findings}["memory"] == "regressed"


@pytest.mark.parametrize("key", ["runtimes", "hardware", "threads"])
def test_counts_of_other_versions_tell_nothing(counts_on_micro: str, home: Path, key: str):
    (home / "m.json").write_text(counts_on_micro)
    (record,) = json.loads(counts_on_micro)["measured"]
    other = {"runtimes": {"TFLM": "0.1"}, "hardware": "another machine", "threads": 7}[key]
    edit(home / "m.json", measured=[record | {key: other}])
    with pytest.raises(InconclusiveError, match="its counts are of other versions") as told:
        edgedl.check(home / "m.tflite", "m.json", device="micro")
    assert told.value.exit_code == ExitCode.INCONCLUSIVE
    assert {"runtimes": "received TFLM's", "hardware": "another machine", "threads": "7 threads"}[key] in str(
        told.value
    )
    assert "Put it into the cache" in str(told.value)


def test_what_counts_cannot_tell_needs_the_file(counts_on_micro: str, home: Path):
    (home / "m.json").write_text(counts_on_micro)
    with pytest.raises(InconclusiveError, match="holds no count of instructions"):
        edgedl.check(home / "m.tflite", "m.json", device="micro", max_slowdown=0.05)
    with pytest.raises(NotFoundError):
        edgedl.check(home / "m.tflite", "m.json", device="micro", max_output_change=0.0)
    dense_tflite(home / "wide.tflite", 2, 32)
    with pytest.raises(ModelError, match="cannot take the place"):
        edgedl.check(home / "wide.tflite", "m.json", device="micro")
