from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.tiny_models import dense_tflite

from edgedl.core.artifacts import LatencyReport, load_artifact, save_artifact
from edgedl.core.errors import ConfigError, ModelError, UnavailableError
from edgedl.core.store import open_store
from edgedl.pipeline.profile import profile, profile_stage
from edgedl.pipeline.recipe import Profile


def test_a_report_holds_the_raw_samples_and_survives_saving(tmp_path: Path):
    path = dense_tflite(tmp_path / "dense.tflite", layers=2, width=64)
    report = profile([path], budget_s=1.0, seed=3)
    (model,) = report.models
    assert model.file == "dense.tflite"
    assert model.size_bytes == path.stat().st_size
    timing = model.timing
    assert timing is not None
    assert timing.n == sum(len(block) for process in timing.blocks_us for block in process) > 0
    assert min(sample for process in timing.blocks_us for block in process for sample in block) > 0
    assert report.conditions.threads == 1
    assert "LiteRT" in report.runtimes
    save_artifact(replace(report, folder=tmp_path))
    loaded = load_artifact(tmp_path)
    assert isinstance(loaded, LatencyReport)
    assert loaded.models == report.models


def test_kernels_without_xnnpack_are_the_files_own_ops(tmp_path: Path):
    report = profile([dense_tflite(tmp_path / "dense.tflite", layers=3, width=64)], budget_s=0.5, xnnpack=False)
    (model,) = report.models
    assert "built-in" in model.runtime
    assert [row.index for row in model.ops] == [0, 1, 2]


def test_what_cannot_be_profiled_is_one_clear_error(tmp_path: Path):
    path = dense_tflite(tmp_path / "dense.tflite", layers=1, width=8)
    with pytest.raises(ConfigError, match="nothing to profile"):
        profile([])
    with pytest.raises(ConfigError, match="budget"):
        profile([path], budget_s=0)
    with pytest.raises(ConfigError, match="threads"):
        profile([path], threads=0)
    with pytest.raises(UnavailableError, match="cpu"):
        profile([path], device="toaster")
    noise = tmp_path / "noise.tflite"
    noise.write_bytes(b"not a model at all")
    with pytest.raises(ModelError, match="noise"):
        profile([path, noise])
    with pytest.raises(ModelError, match="missing"):
        profile([tmp_path / "missing.tflite"])


def test_a_session_is_kept_whatever_its_target_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    report = profile([dense_tflite(tmp_path / "dense.tflite", layers=1, width=8)], budget_s=0.5)
    monkeypatch.setattr("edgedl.pipeline.profile.profile", lambda *_, **__: report)
    with open_store(tmp_path / "run") as store:
        kept = profile_stage(store, [], "android:A1/little", Profile(), seed=0)
    assert kept.folder.parent == tmp_path / "run"
    assert kept.folder.name.startswith("profile-android-A1-little-")
