"""Energy counters, with a folder that stands for /sys/class/powercap."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedl.devices.energy import energy_per_call_uj


def counter(root: Path, zone: str, name: str, start_uj: int) -> Path:
    folder = root / zone
    folder.mkdir()
    (folder / "name").write_text(name + "\n")
    (folder / "max_energy_range_uj").write_text("999999\n")
    (folder / "energy_uj").write_text(f"{start_uj}\n")
    return folder / "energy_uj"


@pytest.mark.parametrize("start_uj", [0, 999_990])
def test_packages_are_added_parts_are_not_and_counters_wrap(tmp_path: Path, start_uj: int) -> None:
    packages = [counter(tmp_path, f"intel-rapl:{i}", f"package-{i}", start_uj) for i in range(2)]
    core = counter(tmp_path, "intel-rapl:0:0", "core", 0)

    def call() -> None:
        for package in packages:
            package.write_text(str((int(package.read_text()) + 50) % 1_000_000))
        core.write_text(str(int(core.read_text()) + 7))

    assert energy_per_call_uj(call, 0.02, tmp_path) == 100.0


def test_without_counters_or_movement_there_is_no_figure(tmp_path: Path) -> None:
    assert energy_per_call_uj(lambda: None, 0.0, tmp_path) is None
    still = counter(tmp_path, "intel-rapl:0", "package-0", 5)
    assert energy_per_call_uj(lambda: None, 0.01, tmp_path) is None
    still.unlink()
    assert energy_per_call_uj(lambda: None, 0.01, tmp_path) is None
