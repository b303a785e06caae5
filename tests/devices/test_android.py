"""Android, against an adb that runs the same commands under QEMU (`fake_adb.py`)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.tiny_models import dense_tflite, model_file

from edgedl.core.errors import ModelError, UnavailableError
from edgedl.devices import android
from edgedl.devices.arm64 import emulator, profiles
from edgedl.devices.protocol import SamplingPlan
from edgedl.pipeline.matrix import profile_on_all

PLAN = SamplingPlan(budget_s=2.0)


class Phone:
    """The folder that stands for a phone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = folder / "root/data/local/tmp"
        self.files.mkdir(parents=True)
        self.state: dict[str, Any] = {"serials": {"PAPER1": "device"}, "thermal": [0]}
        for number, khz in enumerate((1800000, 1800000, 2800000)):
            clock = folder / f"root/sys/devices/system/cpu/cpu{number}/cpufreq"
            clock.mkdir(parents=True)
            (clock / "cpuinfo_max_freq").write_text(f"{khz}\n")
            (clock / "scaling_governor").write_text("schedutil\n")
        zone = folder / "root/sys/class/thermal/thermal_zone0"
        zone.mkdir(parents=True)
        (zone / "type").write_text("cpu-0\n")
        (zone / "temp").write_text("41500\n")
        if emulator.c_library():
            profile = profiles.load("pixel-2-big")
            self.state["runs_by"] = f"qemu-aarch64 -L {emulator.root_folder(profile)} -cpu {profile.qemu_cpu}"
        self.set()

    def set(self, **state: Any) -> None:
        """What it is like from now on."""
        self.state |= state
        (self.folder / "state.json").write_text(json.dumps(self.state))

    @property
    def log(self) -> str:
        """All scripts that it ran."""
        return (self.folder / "log").read_text()


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "adb").symlink_to(Path(__file__).with_name("fake_adb.py"))
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_PHONE", str(tmp_path / "phone"))
    monkeypatch.delenv("ANDROID_HOME", raising=False)
    return Phone(tmp_path / "phone")


def test_files_are_timed_on_the_big_cores_and_nothing_is_left(emulated: None, phone: Phone, tmp_path: Path) -> None:
    files = [model_file(dense_tflite(tmp_path / f"{layers}.tflite", layers)) for layers in (2, 8)]
    report = android.device.profile(files, PLAN)
    assert (report.device, report.obtained) == ("android:PAPER1/big", "measured")
    assert report.hardware.startswith("Pixel of Paper, aarch64")
    assert (report.conditions.battery_percent, report.conditions.temperature_c) == (83.0, 31.4)
    assert report.conditions.governor == "schedutil"
    assert report.conditions.throttled is False
    small, large = report.models
    assert large.timing is not None
    assert large.timing.ratio is not None
    assert large.timing.ratio.value > 1
    assert len(small.ops) == 2
    assert len(small.outputs) == 1
    assert "taskset 4" in phone.log
    assert list(phone.files.iterdir()) == []


def test_little_cores_are_others(emulated: None, phone: Phone, tmp_path: Path) -> None:
    android.device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 1))], PLAN, "PAPER1/little")
    assert "taskset 3" in phone.log


def test_two_phones_at_once(emulated: None, phone: Phone, tmp_path: Path) -> None:
    phone.set(serials={"PAPER1": "device", "PAPER2": "device"})
    file = dense_tflite(tmp_path / "m.tflite", 1)
    both = ["android:PAPER1", "android:PAPER2/little"]
    reports = profile_on_all([file], both, budget_s=1.0)
    assert [report.device for report in reports] == ["android:PAPER1/big", "android:PAPER2/little"]
    assert {"taskset 4", "taskset 3"} <= set(phone.log.splitlines())
    assert list(phone.files.iterdir()) == []


def test_a_hot_phone_is_waited_for_and_told(
    emulated: None, phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(android, "LOOK_EVERY_S", 0.05)
    phone.set(thermal=[3, 3, 0, 2])
    report = android.device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 1))], PLAN)
    assert (phone.folder / "thermal").read_text() == "4"
    assert report.conditions.throttled is True
    assert any("throttled after" in note for note in report.models[0].notes)


def test_a_phone_that_leaves_half_way_is_one_error(emulated: None, phone: Phone, tmp_path: Path) -> None:
    file = model_file(dense_tflite(tmp_path / "m.tflite", 1))
    phone.set(gone_after=7)
    with pytest.raises(UnavailableError, match=r"PAPER1 cannot be reached.*plugged in"):
        android.device.profile([file], PLAN)


def test_a_file_that_the_runtime_refuses_is_named(emulated: None, phone: Phone, tmp_path: Path) -> None:
    file = model_file(dense_tflite(tmp_path / "custom.tflite", 1, custom_op="NoSuchOp"))
    with pytest.raises(ModelError, match=r"custom\.tflite.*NoSuchOp"):
        android.device.profile([file], PLAN)
    assert list(phone.files.iterdir()) == []


@pytest.mark.parametrize(
    ("serials", "target", "says"),
    [
        ({}, None, "adb sees none.*USB debugging"),
        ({"A": "unauthorized"}, None, "unauthorized.*accept this computer's key"),
        ({"A": "device", "B": "device"}, None, r"which Android device.*A \(device\), B \(device\)"),
        ({"A": "device"}, "B", "no Android device 'B'"),
        ({"A": "device"}, "A/medium", "no part 'medium'"),
        ({"A": "device"}, "A/gpu", "EDGEDL_BENCHMARK_MODEL"),
    ],
)
def test_what_cannot_be_used_is_told(
    phone: Phone, tmp_path: Path, serials: dict[str, str], target: str | None, says: str
) -> None:
    phone.set(serials=serials)
    with pytest.raises(UnavailableError, match=f"(?s){says}"):
        android.device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 1))], PLAN, target)


def test_without_adb_it_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(android, "adb_path", lambda: None)
    assert android.device.status().command == "apt-get install adb"
    with pytest.raises(UnavailableError, match="adb is not installed"):
        android.connected()


@pytest.mark.parametrize(
    ("khz", "part", "expected"),
    [((), "big", ("", 0)), ((2000, 2000), "big", ("", 0)), ((1000, 1000, 2000, 3000), "big", ("8", 3)),
     ((1000, 1000, 2000, 3000), "little", ("3", 0))],
)  # fmt: skip
def test_cores_by_their_clock(khz: tuple[int, ...], part: str, expected: tuple[str, int]) -> None:
    assert android.cores(khz, part) == expected


BENCHMARK = """#!/bin/sh
for word; do case $word in --use_gpu=true) gpu=1;; esac; done
[ -f model-0 ] && [ "$gpu" ] || exit 1
echo 'INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.'
echo 'INFO: count=50 first=1801 curr=1790 min=1700 max=2500 avg=1804.2 std=30'
echo 'INFO: Inference timings in us: Init: 52100, First inference: 9531, Warmup (avg): 2420.59, Inference (avg): 1804.2'
"""


def test_gpu_is_measured_by_googles_tool(phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool here is a script that prints what benchmark_model prints: what is tested is the way there and back."""
    (tmp_path / "benchmark_model").write_text(BENCHMARK)
    monkeypatch.setenv("EDGEDL_BENCHMARK_MODEL", str(tmp_path / "benchmark_model"))
    report = android.device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 1))], PLAN, "PAPER1/gpu")
    (model,) = report.models
    assert model.timing is not None
    assert model.timing.median_us.value == 1804.2
    assert model.timing.load_ms == 52.1
    assert any("completely executed" in note for note in model.notes)
    assert list(phone.files.iterdir()) == []
