"""Nothing unchanged is done twice; nothing half-written is ever taken for a result."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedl.core.artifacts import MANIFEST, OutputParity, ParityReport, load_artifact
from edgedl.core.errors import InputError, OutputError
from edgedl.core.store import RunStore, open_store


def report(folder: Path, **changes: Any) -> ParityReport:
    (folder / "model.bin").write_bytes(b"weights")
    plain = ParityReport(
        name="int8",
        folder=folder,
        file="m.tflite",
        against="m.keras",
        format="tflite",
        precision="int8",
        n=3,
        examples="3 test examples",
        outputs=(OutputParity("probabilities", 0.1, 0.01, 0.1, 40.0, 1.0),),
        judged_by="rule",
        passed=True,
    )
    return replace(plain, **changes)


def build(store: RunStore, config: dict[str, Any], calls: list[Path], **options: Any) -> ParityReport:
    def make(folder: Path) -> ParityReport:
        calls.append(folder)
        return report(folder)

    return store.build(ParityReport, "verify-int8", make, config=config, **options)


def test_unchanged_is_found_again_and_equal(tmp_path: Path) -> None:
    calls: list[Path] = []
    first = build(RunStore(tmp_path), {"a": 1}, calls)
    store = RunStore(tmp_path)
    assert build(store, {"a": 1}, calls) == first
    assert len(calls) == 1
    assert store.reused == [first.folder.name]


@pytest.mark.parametrize(
    "options", [{"config": {"a": 2}}, {"config": {"a": 1}, "seed": 1}, {"config": {"a": 1}, "inputs": {"data": "x"}}]
)
def test_whatever_changes_makes_it_anew(tmp_path: Path, options: dict[str, Any]) -> None:
    calls: list[Path] = []
    build(RunStore(tmp_path), {"a": 1}, calls)
    build(RunStore(tmp_path), calls=calls, **options)
    assert len(calls) == 2


def test_a_parents_content_is_part_of_the_key_but_its_age_is_not(tmp_path: Path) -> None:
    calls: list[Path] = []
    parent = build(RunStore(tmp_path), {"parent": 1}, calls)
    older = replace(parent, record=replace(parent.record, created_at="1999-01-01", seconds=9.0))
    other = replace(parent, record=replace(parent.record, content_hash="other"))
    children = [build(RunStore(tmp_path), {"child": 1}, calls, parents=[one]) for one in (parent, older, other)]
    assert children[0].folder == children[1].folder != children[2].folder


@pytest.mark.parametrize("damage", ["change", "remove", "manifest"])
def test_a_damaged_artifact_is_made_again(tmp_path: Path, damage: str) -> None:
    calls: list[Path] = []
    first = build(RunStore(tmp_path), {"a": 1}, calls)
    if damage == "change":
        first.path("model.bin").write_bytes(b"other")
    elif damage == "remove":
        first.path("model.bin").unlink()
    else:
        first.path(MANIFEST).write_text("{")
    again = build(RunStore(tmp_path), {"a": 1}, calls)
    assert len(calls) == 2
    assert again.path("model.bin").read_bytes() == b"weights"


def test_a_stage_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def make(folder: Path) -> ParityReport:
        (folder / "half").write_text("half")
        raise ValueError("on the way")

    with pytest.raises(ValueError, match="on the way"):
        RunStore(tmp_path).build(ParityReport, "verify", make, config={})
    assert list(tmp_path.iterdir()) == []


def test_a_resumable_stage_finds_what_it_left(tmp_path: Path) -> None:
    def make(folder: Path) -> ParityReport:
        if not (folder / "checkpoint").exists():
            (folder / "checkpoint").write_text("half-way")
            raise KeyboardInterrupt
        return report(folder)

    with pytest.raises(KeyboardInterrupt):
        RunStore(tmp_path).build(ParityReport, "train", make, config={}, resumable=True)
    assert RunStore(tmp_path).artifacts(ParityReport) == []
    finished = RunStore(tmp_path).build(ParityReport, "train", make, config={}, resumable=True)
    assert finished.path("checkpoint").read_text() == "half-way"


def test_the_manifest_holds_everything(tmp_path: Path) -> None:
    built = build(RunStore(tmp_path), {"a": 1}, [], seed=3)
    assert load_artifact(built.folder) == built
    manifest = json.loads(built.path(MANIFEST).read_text())
    assert manifest["kind"] == "parity"
    assert manifest["record"]["seed"] == 3
    assert manifest["record"]["versions"]["edgedl"]
    assert [entry["name"] for entry in manifest["record"]["files"]] == ["model.bin"]


def test_a_second_edgedl_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    code = f"import pathlib, edgedl.core.store as s\nwith s.open_store(pathlib.Path({str(tmp_path)!r})): pass"
    with open_store(tmp_path):
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "another edgedl is working" in second.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"), open_store(tmp_path / "file" / "run"):
        pass


def test_a_folder_without_artifact_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no artifact"):
        load_artifact(tmp_path)
