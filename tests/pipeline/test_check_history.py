from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedl.core.artifacts import (
    Conditions,
    Figures,
    Finding,
    Instructions,
    LatencyReport,
    Memory,
    ModelLatency,
    Record,
    Timing,
    Verdict,
)
from edgedl.core.errors import ConfigError, ExitCode, InputError, OutputError
from edgedl.core.git import Commit, commit_of
from edgedl.core.statistics import Interval, exact
from edgedl.pipeline.check.history import Figure, HistoryLine, append, line_of, read
from edgedl.pipeline.check.history_chart import draw_history
from edgedl.pipeline.check.series import change_in_words, series_in_words, series_of
from edgedl.pipeline.cli import check_history

FIRST = datetime(2026, 10, 1, 12, tzinfo=UTC)
COUNT = Figure(1_234_567, "", "emulated", exact=True, low=1_234_567, high=1_234_567, n=3)
TIME = Figure(118.0, "us", "measured", exact=False, low=117.0, high=119.0, n=400)


def line(day: int, figures: Mapping[str, Figure], **differs: Any) -> HistoryLine:
    plain = HistoryLine(
        time=FIRST + timedelta(days=day),
        commit=f"{day:07x}{'0' * 33}",
        dirty=False,
        model="digits.tflite",
        file="digits.tflite",
        sha256="a" * 64,
        against="b" * 64,
        device="cpu",
        threads=1,
        machine="a computer",
        runtimes={"LiteRT": "2.2.0"},
        outcome="pass",
        figures=figures,
    )
    return replace(plain, **differs)


# --- from a verdict ----------------------------------------------------------------------------------------------


def latency_of(**known: Any) -> ModelLatency:
    return ModelLatency("digits.tflite", "a" * 64, 4096, "LiteRT 2.2.0 CompiledModel, XNNPACK", (), **known)


def timed(p10_us: float, ratio: Interval | None) -> Timing:
    interval = Interval(p10_us, p10_us - 1, p10_us + 1)
    return Timing((((p10_us,) * 4,) * 3,), interval, interval, interval, 1.0, 2.0, ratio)


def verdict_of(*models: ModelLatency, **differs: Any) -> Verdict:
    report = LatencyReport(
        name="old, new",
        device="cpu",
        hardware="a computer",
        obtained="measured",
        runtimes={"LiteRT": "2.2.0", "ONNX Runtime": "1.31.1"},
        models=models,
        conditions=Conditions(None, None, None, 1, True),
        processes=3,
        warm_up=0,
        stopped="enough",
        seconds=1.0,
    )
    accuracy = Finding("accuracy", "pass", "", 97.5, 97.0, 0.5, None, Interval(0.5, 0.1, 0.9), "%")
    plain = Verdict(
        name="digits.tflite against old.tflite",
        new="out/digits.tflite",
        old="out/old.tflite",
        outcome="pass",
        findings=(accuracy,),
        latency=report,
        figures=Figures(size_bytes=4096, macs=1000, ops=5, boundaries=0),
        record=Record(machine="a computer"),
    )
    return replace(plain, **differs)


def test_a_line_of_a_timed_check() -> None:
    ratio = Interval(1.02, -math.inf, math.inf)
    memory = Memory(70_000, "peak resident memory above the runtime's")
    old, new = latency_of(timing=timed(116.0, None)), latency_of(timing=timed(118.0, ratio), memory=memory)
    found = line_of(verdict_of(old, new, old), commit=Commit("c" * 40, dirty=True), time=FIRST)
    assert (found.model, found.device, found.machine, found.threads) == ("digits.tflite", "cpu", "a computer", 1)
    assert (found.commit, found.short_commit, found.outcome) == ("c" * 40, "ccccccc+", "pass")
    assert found.runtimes == {"LiteRT": "2.2.0"}, "of ONNX Runtime nothing ran"
    assert found.figures == {
        "p10_us": Figure(118.0, "us", "measured", exact=False, low=117.0, high=119.0, n=12),
        "memory_bytes": Figure(70_000, "bytes", "measured", exact=False),
        "size_bytes": Figure(4096, "bytes", "measured", exact=True),
        "macs": Figure(1000, "MACs", "measured", exact=True),
        "ops": Figure(5, "ops", "measured", exact=True),
        "boundaries": Figure(0, "ops", "measured", exact=True),
        "accuracy": Figure(97.0, "%", "measured", exact=False),
    }
    assert found.ratio == Figure(1.02, "×", "measured", exact=False, n=12), "unbounded is no bound"


@pytest.mark.parametrize("spread", [0, 7])
def test_a_line_of_a_counted_check(spread: int) -> None:
    counted = [latency_of(instructions=Instructions(n, inferences=3, spread=spread)) for n in (1000, 1050)]
    report = verdict_of(*counted).latency
    assert report is not None
    found = line_of(verdict_of(*counted, latency=replace(report, obtained="emulated")))
    count = found.figures["instructions"]
    assert (count.value, count.low, count.high, count.exact) == (1050, 1050 - spread, 1050 + spread, spread == 0)
    assert found.ratio == Figure(1.05, "×", "emulated", spread == 0, 1.05, 1.05, n=3)


def test_a_line_of_a_check_of_sizes_alone(tmp_path: Path) -> None:
    (tmp_path / "new.tflite").write_bytes(b"new")
    found = line_of(verdict_of(latency=None, new=str(tmp_path / "new.tflite")), model="digits")
    assert (found.model, found.file, found.device, found.ratio) == ("digits", "new.tflite", None, None)
    assert found.sha256 is not None
    assert found.against is None
    assert found.figures["size_bytes"].value == 4096


def test_the_commit_of_a_folder(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    assert commit_of(tmp_path) is None

    def git(*arguments: str) -> None:
        user = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *user, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    assert commit_of(tmp_path) is None, "nothing is committed yet"
    history, source = tmp_path / "history.jsonl", tmp_path / "a b.py"
    history.write_text("")
    source.write_text("")
    git("add", ".")
    git("commit", "-m", "first")
    clean = commit_of(tmp_path)
    assert clean is not None
    assert (len(clean.sha), clean.dirty) == (40, False)
    (tmp_path / "untracked").write_text("")
    history.write_text("a line")
    assert commit_of(tmp_path, besides=history) == clean
    assert commit_of(tmp_path) == replace(clean, dirty=True)
    source.write_text("changed")
    assert commit_of(tmp_path, besides=history) == replace(clean, dirty=True)


# --- the file ----------------------------------------------------------------------------------------------------


def test_what_is_appended_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "history.jsonl"
    lines = [line(day, {"p10_us": TIME, "instructions": COUNT}, ratio=TIME, model="größe") for day in range(3)]
    for one in reversed(lines):
        append(path, one)
    assert read(path) == lines, "the oldest first"
    assert all(json.loads(text)["edgedl_history"] == 1 for text in path.read_text().splitlines())


def test_several_processes_append_whole_lines(tmp_path: Path) -> None:
    path, each = tmp_path / "history.jsonl", 25
    append(path, line(0, {"p10_us": TIME}))
    code = (
        "import sys\nfrom pathlib import Path\nfrom dataclasses import replace\n"
        "from edgedl.pipeline.check.history import append, read\n"
        f"path = Path({str(path)!r})\nline = replace(read(path)[0], model=sys.argv[1] * 20_000)\n"
        f"for _ in range({each}):\n    append(path, line)\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "wxyz"]
    assert [process.wait(timeout=60) for process in running] == [0] * 4
    models = [one.model for one in read(path)]
    assert len(models) == 1 + 4 * each
    assert all(models.count(name * 20_000) == each for name in "wxyz")


def test_a_line_that_a_killed_run_left_is_told_apart_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    append(path, line(0, {"p10_us": TIME}))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:100])
    with pytest.raises(InputError, match=r"history.jsonl, line 2 is no line of a history.* sed -i '2d' "):
        append(path, line(1, {"p10_us": TIME}))
    assert path.read_bytes() == whole + whole[:100]


def test_a_last_line_without_its_line_break_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    append(path, line(0, {"p10_us": TIME}))
    path.write_text(path.read_text().rstrip("\n"))
    append(path, line(1, {"p10_us": TIME}))
    assert len(read(path)) == 2


WHOLE = {"edgedl_history": 1, "time": "2026-11-03T12:00:00Z", "commit": None, "dirty": False, "model": "m", "file": "f"}
WHOLE |= {"sha256": None, "against": None, "device": None, "threads": None, "machine": "", "runtimes": {}}
WHOLE |= {"outcome": "pass", "figures": {}}


def with_figure(value: object) -> str:
    return json.dumps({**WHOLE, "figures": {"a": {"value": value, "unit": "", "obtained": "measured", "exact": True}}})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<<<<<<< HEAD", "is no line of a history"),
        ('{"a": 1}', "is no line of a history"),
        ("[1]", "is no line of a history"),
        ("\x00\xff", "is no line of a history"),
        ("[" * 100_000, "is no line of a history"),
        ('{"edgedl_history": 2}', "is of another version: required"),
        (json.dumps({**WHOLE, "outcome": "good"}), "is damaged: received outcome"),
        (json.dumps({**WHOLE, "time": "2026-11-03T12:00:00"}), "time zone"),
        (json.dumps({name: value for name, value in WHOLE.items() if name != "model"}), "is damaged: received model"),
        (with_figure(math.nan), "finite"),
        (with_figure("many"), "is damaged: received figures.a.value"),
    ],
)
def test_a_line_that_is_none_is_one_clear_error(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "the history.jsonl"
    append(path, line(0, {"p10_us": TIME}))
    with path.open("a", encoding="latin-1") as file:
        file.write(f"\n{text}\n{json.dumps(WHOLE)}\n")
    with pytest.raises(InputError) as caught:
        read(path)
    said = str(caught.value)
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert said.startswith(f"{path}, line 3 is ")
    assert words in said
    assert f"sed -i '3d' '{path}'" in said, "the next step"
    assert len(said) < 600
    assert "\n" not in said
    subprocess.run(f"sed -i '3d' '{path}'", shell=True, check=True)
    assert len(read(path)) == 2


def test_a_file_that_is_not_there_or_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no history at .* --history "):
        read(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="cannot read"):
        read(tmp_path)
    with pytest.raises(OutputError, match="folder, not a file"):
        append(tmp_path, line(0, {"p10_us": TIME}))


# --- series ------------------------------------------------------------------------------------------------------


def test_times_are_compared_on_one_machine_with_the_same_runtimes() -> None:
    machines = ["a", "b", "a", "a"]
    runtimes = ["2.2", "2.2", "2.2", "2.3"]
    lines = [
        line(day, {"p10_us": TIME, "instructions": COUNT}, machine=machine, runtimes={"LiteRT": runtime})
        for day, (machine, runtime) in enumerate(zip(machines, runtimes, strict=True))
    ]
    found = series_of(lines)
    assert [(one.key.figure, one.key.where, len(one.runs)) for one in found] == [
        ("p10_us", "a, LiteRT 2.2", 2),
        ("instructions", "", 4),
        ("p10_us", "b, LiteRT 2.2", 1),
        ("p10_us", "a, LiteRT 2.3", 1),
    ]
    assert [one.too_short for one in found] == [True, False, True, True]


def test_a_count_that_a_runtime_changes_is_a_change_that_names_it() -> None:
    lines = [line(day, {"instructions": COUNT}) for day in range(5)]
    more = {"instructions": replace(COUNT, value=1_300_000)}
    lines.append(line(33, more, runtimes={"LiteRT": "2.3.0"}, device="cpu"))
    (series,) = series_of(lines)
    (change,) = series.changes
    assert series_in_words(series) == "digits.tflite on cpu: instructions, emulated"
    assert change_in_words(series, change) == (
        "2026-11-03 0000021 (after 0000004): instructions 1,234,567 → 1,300,000 (+5.3 %), emulated; "
        "runtime LiteRT 2.2.0 → 2.3.0; the model file is the same"
    )
    assert series.levels == [(0, 5, 1_234_567), (5, 6, 1_300_000)]


def test_a_count_that_is_off_by_one_says_so() -> None:
    counts = [1_234_567] * 3 + [1_234_566]
    (series,) = series_of(line(day, {"instructions": replace(COUNT, value=n)}) for day, n in enumerate(counts))
    assert "instructions 1,234,567 → 1,234,566 (−1), emulated" in change_in_words(series, series.changes[0])


def test_accuracy_changes_by_points() -> None:
    rng = np.random.default_rng(1)
    lines = [
        line(day, {"accuracy": Figure(97.4 - 0.9 * (day >= 20) + rng.normal(0, 0.1), "%", "measured", exact=False)})
        for day in range(40)
    ]
    (series,) = series_of(lines)
    (change,) = series.changes
    words = change_in_words(series, change)
    assert "000014 (after 0000013): accuracy 97." in words
    assert " points), measured, p = 0.005" in words
    assert "(−0." in words


def test_ratios_are_compared_against_one_old_file() -> None:
    ratio = Figure(1.0, "×", "measured", exact=False)
    lines = [line(day, {}, ratio=ratio, against=("c" if day < 12 else f"{day}") * 64) for day in range(20)]
    assert [(one.key.where, len(one.runs)) for one in series_of(lines)] == [("against cccccccccccc", 12)]


# --- the picture, the command ------------------------------------------------------------------------------------


def planted(path: Path) -> None:
    """40 days; from day 25 on 5 % slower, from day 30 on more instructions."""
    rng = np.random.default_rng(7)
    for day in range(40):
        p10 = 118 * (1.05 if day >= 25 else 1) * math.exp(rng.normal(0, 0.01))
        timed = replace(TIME, value=p10, low=p10 * 0.99, high=p10 * 1.01)
        append(path, line(day, {"p10_us": timed}))
        count = exact(1_234_567 if day < 30 else 1_300_000)
        counted = Figure(count.value, "", "emulated", exact=True)
        append(path, line(day, {"instructions": counted}, device="arm64:cortex-a76", machine="a phone in a box"))


@pytest.mark.parametrize("name", ["chart.png", "chart.svg"])
def test_the_picture(tmp_path: Path, name: str) -> None:
    path = tmp_path / "history.jsonl"
    planted(path)
    assert draw_history(series_of(read(path)), tmp_path / name) == 0
    content = (tmp_path / name).read_bytes()
    assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    if name.endswith("svg"):
        text = content.decode()
        for words in ("000001e +5.3 %", "0000019 +", "instructions, emulated; n = 40 runs", "p10, measured", "µs"):
            assert words in text


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"required a file called \.png or \.svg"):
        draw_history(series_of([line(0, {"p10_us": TIME})]), tmp_path / "chart.pdf")
    with pytest.raises(ConfigError, match="received none"):
        draw_history([], tmp_path / "chart.png")


def test_the_command_names_the_commits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "history.jsonl"
    planted(path)
    check_history.command(path, chart=tmp_path / "chart.svg", quiet=True)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("digits.tflite on cpu: p10, measured (a computer, LiteRT 2.2.0), 40 runs, now 12")
    assert said[1].startswith("  2026-10-26 0000019 (after 0000018): p10 11")
    assert said[2] == "digits.tflite on arm64:cortex-a76: instructions, emulated, 40 runs, now 1,300,000"
    assert said[3].startswith("  2026-10-31 000001e (after 000001d): instructions 1,234,567 → 1,300,000 (+5.3 %), emul")
    assert said[4] == f"chart: {tmp_path / 'chart.svg'}"
    assert (tmp_path / "chart.svg").exists()


def test_the_command_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "history.jsonl"
    planted(path)
    check_history.command(path, device="arm64:cortex-a76", as_json=True, quiet=True)
    (series,) = json.loads(capsys.readouterr().out)["series"]
    assert (series["figure"], series["runs"], series["level"], series["exact"]) == ("instructions", 40, 1_300_000, True)
    (change,) = series["changes"]
    assert (change["index"], change["commit"][:7], change["p_value"]) == (30, "000001e", None)


def test_the_command_on_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    planted(path)
    with pytest.raises(ConfigError, match=r"--model: unknown model 'digit.tflite' \(did you mean 'digits.tflite'\?\)"):
        check_history.command(path, model="digit.tflite", quiet=True)
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no check yet"):
        check_history.command(path, quiet=True)
