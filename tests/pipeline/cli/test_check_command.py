"""`edgedl check` in somebody's repository: revisions, baselines, latency.yaml, and `edgedl init --check`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.core.test_files import NAMESPACE, needs_namespace
from tests.core.test_git import commit, git, needs_git, repository
from tests.pipeline.cli.conftest import Cli
from tests.tiny_models import dense_onnx, dense_tflite

from edgedl.pipeline.check import gate
from edgedl.pipeline.check.latency_yaml import read_latency_yaml

SIZES = ("--max-slowdown", "none", "--max-size-growth", "1%")
"""Limits for which nothing runs."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, beside the folder of the test."""
    monkeypatch.setenv("EDGEDL_CACHE", str(tmp_path.with_name(f"{tmp_path.name}-cache")))
    return Path(os.environ["EDGEDL_CACHE"])


def model(path: Path | str, layers: int = 2, width: int = 16) -> Path:
    """A model; with more layers it is larger by more than any limit here."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return (dense_onnx if path.suffix == ".onnx" else dense_tflite)(path, layers, width)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """With m.tflite in its one commit, which is larger by now."""
    repository(tmp_path)
    model(tmp_path / "m.tflite")
    commit(tmp_path)
    model(tmp_path / "m.tflite", 8)
    return tmp_path


# --- revisions ---------------------------------------------------------------------------------------------------


@needs_git
def test_against_a_revision(cli: Cli, repo: Path) -> None:
    said = cli("check", "m.tflite", "--against", "git:HEAD", *SIZES)
    assert said.code == 1
    assert said.out.startswith("regressed: m.tflite against m.tflite in HEAD (")
    assert "  size: regressed: Size: " in said.out
    commit(repo)
    for revision, code in (("HEAD", 0), ("HEAD~1", 1), ("main", 0), ("main^", 1), (git(repo, "rev-parse", "HEAD"), 0)):
        assert cli("check", "m.tflite", "--against", f"git:{revision}", *SIZES).code == code
    git(repo, "switch", "--quiet", "--detach", "HEAD~1")
    assert cli("check", "m.tflite", "--against", "git:main", *SIZES).code == 0, "smaller"
    assert "improved: " in cli("check", "m.tflite", "--against", "git:main", *SIZES).out


@needs_git
def test_a_file_that_the_revision_does_not_have_passes_with_a_note(cli: Cli, repo: Path) -> None:
    model("sub/new one.tflite")
    said = cli("check", "sub/new one.tflite", "--against", "git:HEAD")
    assert said.code == 0
    assert "note: new one.tflite is not in HEAD: a new file, with nothing to compare it with" in said.out
    (repo / "sub" / "broken.tflite").write_text("")
    cli("check", "sub/broken.tflite", "--against", "git:HEAD").refused("broken.tflite")


@needs_git
def test_a_file_that_did_not_change_is_not_run_but_for_a_history(cli: Cli, repo: Path) -> None:
    commit(repo)
    said = cli("check", "m.tflite", "--against", "git:HEAD")
    assert (said.code, said.out.count("\n")) == (0, 2)
    assert "m.tflite is m.tflite in HEAD" in said.out
    assert "byte for byte: nothing to compare" in said.out
    assert cli("check", "m.tflite", "--against", "git:HEAD", "--budget-s", "2", "--history", "h.jsonl").code == 0
    (line,) = (json.loads(line) for line in Path("h.jsonl").read_text().splitlines())
    assert line["figures"]["p10_us"]["n"] > 0


@needs_git
def test_all_of_latency_yaml_against_a_commit(cli: Cli, repo: Path) -> None:
    commit(repo)
    Path("latency.yaml").write_text("against: git:HEAD\nmodels: {m: m.tflite}\n")
    assert cli("check").code == 0, "nothing changed"
    assert "m.tflite in HEAD~1" in cli("check", "--against", "git:HEAD~1", *SIZES).out
    cli("check", "--against", "m.tflite").refused("there is nothing to check")


@needs_git
@pytest.mark.parametrize("revision", ["nope", "", "^HEAD", "--all", "HEAD~9", "a\nb"])
def test_a_revision_that_is_not_there(cli: Cli, repo: Path, revision: str) -> None:
    cli("check", "m.tflite", "--against", f"git:{revision}").refused("git knows no commit", "`git fetch`")


@needs_git
def test_a_clone_of_one_commit_names_what_brings_the_rest(cli: Cli, repo: Path) -> None:
    commit(repo)
    git(repo, "clone", "--quiet", "--depth", "1", repo.as_uri(), "shallow")
    git(repo / "shallow", "switch", "--quiet", "--create", "change")
    git(repo / "shallow", "branch", "--quiet", "--delete", "main")
    cli("check", "shallow/m.tflite", "--against", "git:HEAD~1").refused("shallow", "`git fetch --unshallow`")
    cli("check", "shallow/m.tflite", "--against", "git:main").refused("The server's is git:origin/main")
    assert cli("check", "shallow/m.tflite", "--against", "git:origin/main", *SIZES).code == 0


@needs_git
def test_no_repository(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model("m.tflite")
    cli("check", "m.tflite", "--against", "git:HEAD").refused("in no git repository", "--against FILE")
    repository(tmp_path)
    first = cli("check", "m.tflite", "--against", "git:HEAD")  # nothing is committed yet
    assert first.code == 0, first.err
    assert "a new file, with nothing to compare it with" in first.out
    cli("check", "m.tflite", "--against", "git:main").refused("git knows no commit 'main'")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    cli("check", "m.tflite", "--against", "git:HEAD").refused("dubious ownership")


@needs_git
def test_a_model_with_other_inputs_is_told_by_its_own_name(cli: Cli, repo: Path) -> None:
    model("m.tflite", width=32)
    line = cli("check", "m.tflite", "--against", "git:HEAD").refused("m.tflite cannot take the place of m.tflite", "16")
    assert "[1, 16]" in line
    assert "[1, 32]" in line


# --- usage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [".", "gone.tflite", "loop.tflite", "m.json", "gone/m.tflite", "a\nb.tflite"])
@pytest.mark.parametrize("against", ["m.tflite", "git:HEAD", "m.json", "old/"])
def test_a_candidate_that_is_no_model(cli: Cli, tmp_path: Path, new: str, against: str) -> None:
    model("m.tflite")
    Path("loop.tflite").symlink_to("loop.tflite")
    Path("m.json").write_text("{}")
    cli("check", new, "--against", against).refused()


def test_what_is_given_twice_is_checked_once(cli: Cli) -> None:
    model("m.tflite")
    model("sub/m.tflite")
    model("old/m.tflite")
    said = cli("check", "m.tflite", "m.tflite", "--device", "cpu,cpu", "--against", "old/", *SIZES, "--json")
    assert said.content["outcome"] == "pass", "one verdict, and not a list of them"
    both = cli("check", "m.tflite", "sub/m.tflite", "--against", "old/", *SIZES)
    assert both.code == 0
    assert " sub/m.tflite   pass " in both.out


def test_an_empty_against_is_told_and_not_taken_for_this_folder(cli: Cli) -> None:
    model("m.tflite")
    cli("check", "m.tflite", "--against", "").refused("--against is empty")
    cli("check", "m.tflite", "m.tflite", "--against", "").refused("--against is empty")


def test_names_that_people_give(cli: Cli) -> None:
    for name in ("a b.tflite", "new\nline.tflite", "-dash.tflite", "ü.tflite", "x'\".tflite", "x.json.tflite"):
        model(name)
        model(Path("old") / name)
        said = cli("check", *SIZES, "--against", "old/", "--markdown", "a.md", "--junit", "a.xml", "--", name)
        assert said.code == 0, said.err
        ElementTree.parse("a.xml")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")
def test_a_name_that_is_no_text(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "profile", lambda *_, **__: None)  # the baseline is then without a record
    name = os.fsdecode(b"\xff.tflite")
    model(name)
    cli("check", name, "--against", "m.json", "--update-baseline").refused("cannot be named in m.json", "UTF-8")
    model("old.tflite")
    reports = [part for kind in ("junit", "markdown", "sarif", "code-quality") for part in (f"--{kind}", f"a.{kind}")]
    assert cli("check", name, "--against", "old.tflite", *SIZES, *reports, "--json").content["outcome"] == "pass"
    ElementTree.parse("a.junit")


def test_a_device_that_nobody_knows_stops_it_before_anything_runs(cli: Cli) -> None:
    model("m.tflite")
    Path("latency.yaml").write_text("models: {m: m.tflite, n: {file: m.tflite, devices: arm64:cortex}}")
    cli("check", "--junit", "a.xml").refused("no target 'cortex'", "Did you mean", code=3)
    cli("check", "m.tflite", "--against", "m.tflite", "--device", "cpv").refused("no device is called 'cpv'", code=3)
    assert not Path("a.xml").exists()


# --- baselines ---------------------------------------------------------------------------------------------------


def test_an_update_creates_shows_and_replaces(cli: Cli) -> None:
    model("m.tflite")
    update = ("check", "m.tflite", "--against", "baselines/", "--update-baseline", "--budget-s", "0.5", *SIZES)
    cli(*update[:4], *SIZES).refused(
        "there is no baseline baselines/m.cpu.json", "--against baselines/m.cpu.json --device cpu --update-baseline"
    )
    said = cli(*update)
    assert said.code == 0
    assert "note: accepted ../m.tflite (" in said.out
    first = Path("baselines/m.cpu.json").read_bytes()
    assert json.loads(first)["measured"][0]["p10_us"] > 0
    assert cli(*update[:4], *SIZES).code == 0
    model("m.tflite", 8)
    assert cli(*update[:4], *SIZES).code == 1
    assert Path("baselines/m.cpu.json").read_bytes() == first, "a check accepts nothing"
    said = cli(*update)
    assert said.code == 0
    assert "  size: regressed: " in said.out, "what is accepted is shown"
    assert "  note: before: ../m.tflite (" in said.out
    assert cli(*update[:4], *SIZES).code == 0
    assert sorted(path.name for path in Path("baselines").iterdir()) == ["m.cpu.json"]


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C as soon as anything is profiled."""

    def profile(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgedl.pipeline.check.gate.profile", profile)
    monkeypatch.setattr("edgedl.pipeline.check.files._session", profile)


@pytest.mark.parametrize("limits", [(), SIZES])
def test_an_interrupted_update_leaves_the_baseline_as_it_was(
    cli: Cli, interrupted: None, limits: tuple[str, ...]
) -> None:
    model("m.tflite")
    accept_unmeasured("m.tflite", "m.json")
    before = Path("m.json").read_bytes()
    model("m.tflite", 8)
    model("n.tflite")
    update = ("--update-baseline", *limits)
    cli("check", "m.tflite", "--against", "m.json", *update, "--quiet").refused("interrupted", code=130)
    assert Path("m.json").read_bytes() == before
    cli("check", "n.tflite", "--against", "n.json", *update).refused("interrupted", code=130)
    assert sorted(path.name for path in Path().iterdir()) == ["m.json", "m.tflite", "n.tflite"]


def accept_unmeasured(file: str, at: str, **changed: Any) -> None:
    from edgedl.pipeline.check.baseline import baseline_of, write_baseline
    from edgedl.pipeline.profile import model_file

    baseline = baseline_of(Path(at), model_file(file), Path(file).stem, "cpu", None, None)
    write_baseline(Path(at), baseline.model_copy(update=changed))


def test_a_broken_baseline_is_neither_read_nor_replaced(cli: Cli) -> None:
    model("m.tflite")
    Path("m.json").write_text('{"model": "m",')
    for options in ((), ("--update-baseline",)):
        cli("check", "m.tflite", "--against", "m.json", *options).refused("m.json is no baseline", "git checkout")
    assert Path("m.json").read_text() == '{"model": "m",'


def test_a_baseline_of_another_device(cli: Cli) -> None:
    model("m.tflite")
    accept_unmeasured("m.tflite", "m.json", device="micro")
    for options in ((), ("--update-baseline",)):
        cli("check", "m.tflite", "--against", "m.json", *options).refused("another device", "Give --device micro")


def test_counts_of_other_versions_are_inconclusive(cli: Cli, cache: Path) -> None:
    pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")
    model("m.tflite")
    on_micro = ("check", "m.tflite", "--against", "m.json", "--device", "micro")
    assert cli(*on_micro, "--update-baseline").code == 0
    shutil.rmtree(cache)
    content = json.loads(Path("m.json").read_text())
    content["measured"][0]["runtimes"] = {"TFLM": "0.1"}
    Path("m.json").write_text(json.dumps(content))
    assert cli(*on_micro).code == 0, "as long as the file itself is there, it is measured anew"
    model("m.tflite", 8)
    cli(*on_micro).refused("its counts are of other versions", "TFLM 0.1", "--update-baseline", code=4)


def test_only_a_baseline_can_be_updated(cli: Cli) -> None:
    model("m.tflite")
    for against in ("git:HEAD", "m.tflite"):
        cli("check", "m.tflite", "--against", against, "--update-baseline").refused("no baseline to update", against)
    Path("latency.yaml").write_text("{against: git:HEAD, models: {m: m.tflite}}")
    cli("check", "--update-baseline").refused("without `against`", "git:HEAD")


def test_a_wrong_limit_accepts_nothing(cli: Cli) -> None:
    model("m.tflite")
    accept_unmeasured("m.tflite", "m.json")
    before = Path("m.json").read_bytes()
    model("m.tflite", 8)
    cli("check", "m.tflite", "--against", "m.json", "--update-baseline", "--max-slowdown", "fast").refused("'fast'")
    assert Path("m.json").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "profile", lambda *_, **__: None)  # the baseline is then without a record
    model("m.tflite")
    Path("baselines").write_text("a file in the way")
    cli("check", "m.tflite", "--against", "baselines/m.json", "--update-baseline").refused(
        "cannot write baselines/m.json"
    )


@needs_namespace
@pytest.mark.slow
def test_a_read_only_folder_is_one_line_and_the_baseline_stays(tmp_path: Path) -> None:
    model(tmp_path / "m.tflite")
    update = f"{sys.executable} -m edgedl check ro/m.tflite --against ro/m.json --update-baseline --budget-s 0.5 -q >&2"
    script = (
        f"cd {tmp_path} && mkdir ro && mount -t tmpfs none ro && cp m.tflite ro && {update} && sum ro/m.json && "
        f"mount -o remount,ro ro && {update}; echo code $?; sum ro/m.json"
    )
    done = subprocess.run([*NAMESPACE, "sh", "-c", script], capture_output=True, text=True, check=False)
    before, code, after = done.stdout.splitlines()
    assert (before, code) == (after, "code 2"), done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "edgedl: cannot write ro/m.json: the folder is read-only. Name another place: --against FILE.json"
    )


# --- latency.yaml ------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that passes, one that cannot be checked, one that regressed, in latency.yaml's order."""
    monkeypatch.chdir(tmp_path)
    for name, layers in (("fine", 2), ("worse", 8), ("old", 2)):
        model(f"models/{name}.tflite", layers)
    Path("models/broken.tflite").write_text("no model")
    Path("latency.yaml").write_text("""
against: models/old.tflite
limits: {max_slowdown: none, max_size_growth: 1%}
models:
  fine: models/fine.tflite
  broken: models/broken.tflite
  worse: models/worse.tflite
""")
    return tmp_path


def test_without_arguments_everything_is_checked_and_the_worst_decides(cli: Cli, three: Path) -> None:
    said = cli("check")
    assert said.code == 1
    assert [line.split(":")[0] for line in said.out.splitlines() if line[:1].strip()][:3] == [
        "pass",
        "failed",
        "regressed",
    ]
    for row in (" fine     pass ", " broken   failed ", " worse    regressed "):
        assert row in said.out, "the matrix"
    assert "2/3: broken on cpu" in said.err
    assert cli("check", "--quiet").err == ""


def test_a_file_alone_is_checked_as_latency_yaml_says(cli: Cli, three: Path) -> None:
    assert cli("check", "models/worse.tflite").code == 1
    assert cli("check", "models/fine.tflite").code == 0
    assert cli("check", "models/fine.tflite", "models/broken.tflite").code == 2
    cli("check", "models/broken.tflite").refused("broken.tflite")
    cli("check", "models/old.tflite").refused("latency.yaml names no models/old.tflite", "--against")
    assert cli("check", "models/worse.tflite", "--against", "models/worse.tflite", *SIZES).code == 0


def test_options_go_before_latency_yaml(cli: Cli, three: Path) -> None:
    assert cli("check", "models/worse.tflite", "--max-size-growth", "none").code == 0
    assert cli("check", "models/worse.tflite", "--max-size-growth", "none", "--max-added-ops", "0").code == 1
    cli("check", "--max-size-growth", "much").refused("--max-size-growth", "'much'")


def test_from_elsewhere_with_config(cli: Cli, three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (three / "sub").mkdir()
    monkeypatch.chdir(three / "sub")
    cli("check").refused("there is no latency.yaml", "`edgedl init --check` writes one")
    cli("check", "--config", "gate.yaml").refused("there is no gate.yaml")
    cli("check", "--config", "..").refused("there is no ..")
    said = cli("check", "--config", "../latency.yaml", "--json")
    assert said.code == 1
    assert [one["exit_code"] for one in said.content["checked"]] == [0, 2, 1]
    assert cli("check", "../models/fine.tflite", "--config", "../latency.yaml").code == 0
    (three / "latency.yaml").write_text("limits: {max_slowdown: none}\nmodels: {m: models/fine.tflite}")
    baseline = three / "baselines" / "m.cpu.json"
    cli("check", "--config", "../latency.yaml").refused(f"there is no baseline {baseline}")
    assert cli("check", "--config", "../latency.yaml", "--update-baseline", "--budget-s", "0.5").code == 0
    assert baseline.is_file()


def test_json_for_one_and_for_several(cli: Cli, three: Path) -> None:
    one = cli("check", "models/worse.tflite", "--json")
    assert (one.code, one.content["outcome"], one.content["new"]) == (1, "regressed", "models/worse.tflite")
    assert {finding["what"]: finding["outcome"] for finding in one.content["findings"]}["size"] == "regressed"
    several = cli("check", "--json", "--quiet")
    assert (several.code, several.err) == (1, "")
    checked = {entry["model"]: entry for entry in several.content["checked"]}
    assert {name: entry["exit_code"] for name, entry in checked.items()} == {"fine": 0, "broken": 2, "worse": 1}
    assert checked["fine"]["verdict"]["outcome"] == "pass"
    assert checked["broken"]["verdict"] is None
    assert "broken.tflite" in checked["broken"]["failure"]
    failed = cli("check", "models/broken.tflite", "--json", "--junit", "one.xml")
    assert failed.content["exit_code"] == failed.code == 2
    assert [error.get("type") for error in ElementTree.parse("one.xml").getroot().iter("error")] == ["failed"]


def test_every_report_has_the_one_that_failed(cli: Cli, three: Path) -> None:
    reports = {"junit": "r/a.xml", "markdown": "r/a.md", "sarif": "r/a.sarif", "code-quality": "r/a.json"}
    options = [part for name, path in reports.items() for part in (f"--{name}", path)]
    assert cli("check", *options).code == 1
    junit = ElementTree.parse("r/a.xml").getroot()
    assert [suite.get("name") for suite in junit] == ["fine on cpu", "broken on cpu", "worse on cpu"]
    assert [len(list(junit.iter(kind))) for kind in ("failure", "error")] == [1, 1]
    assert "broken on cpu: failed" in Path("r/a.md").read_text()
    results = json.loads(Path("r/a.sarif").read_text())["runs"][0]["results"]
    assert [result["ruleId"] for result in results] == ["failed", "size"]
    assert [issue["location"]["path"] for issue in json.loads(Path("r/a.json").read_text())] == [
        "models/broken.tflite",
        "models/worse.tflite",
    ]


def test_every_check_is_a_line_of_the_history(cli: Cli, three: Path) -> None:
    cli("check", "--history", "h.jsonl")
    lines = [json.loads(line) for line in Path("h.jsonl").read_text().splitlines()]
    assert [(line["model"], line["outcome"]) for line in lines] == [("fine", "pass"), ("worse", "regressed")]


# --- init --check ------------------------------------------------------------------------------------------------


@needs_git
def test_init_finds_the_models_of_a_repository_and_check_works_there(cli: Cli, tmp_path: Path) -> None:
    repository(tmp_path)
    for path in ("a.tflite", "models/b.onnx", "out/ignored.tflite", ".hidden/c.tflite", "deep/er/a.tflite"):
        model(path)
    commit(tmp_path, __gitignore="out/\n")
    model("not added.tflite")
    said = cli("init", "--check")
    assert (said.code, said.out) == (0, "written: latency.yaml; next: edgedl check\n")
    file = read_latency_yaml(Path("latency.yaml"))
    assert {name: entry.file.relative_to(tmp_path).as_posix() for name, entry in file.models.items()} == {
        "a": "a.tflite",
        "deep-er-a": "deep/er/a.tflite",
        "b": "models/b.onnx",
        "not added": "not added.tflite",
    }
    assert cli("check", "--max-slowdown", "none").code == 0
    model("models/b.onnx", 8)
    said = cli("check", "--max-slowdown", "none")
    assert said.code == 1
    assert "regressed: models/b.onnx against b.onnx in HEAD (" in said.out
    assert "not added.tflite is not in HEAD" in said.out


def test_init_outside_a_repository_is_for_baselines(cli: Cli) -> None:
    model("models/m.tflite")
    said = cli("init", "sub/gate one.yaml", "--check", "--json")
    said.refused("there is no model below")
    said = cli("init", "gate one.yaml", "--check", "--quiet")
    assert said.code == 0
    assert "edgedl check --config 'gate one.yaml'" in said.out
    command = ("check", "--config", "gate one.yaml", *SIZES)
    cli(*command).refused("there is no baseline baselines/m.cpu.json", "--update-baseline")
    assert cli(*command, "--update-baseline", "--budget-s", "0.5").code == 0
    assert cli(*command).code == 0


def test_init_without_models_or_over_a_file_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    cli("init", "--check").refused("there is no model below", "at least one .tflite or .onnx file")
    assert not any(tmp_path.iterdir())
    model("m.tflite")
    Path("latency.yaml").write_text("mine")
    cli("init", "--check").refused("latency.yaml exists already", "--force")
    assert Path("latency.yaml").read_text() == "mine"
    assert cli("init", "--check", "--force").code == 0
    assert list(read_latency_yaml(Path("latency.yaml")).models) == ["m"]
