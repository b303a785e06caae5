from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.tiny_models import dense_tflite, model_file

from edgedl.core.errors import ExitCode, UnavailableError
from edgedl.devices import Device, SamplingPlan, all_devices, find_device
from edgedl.devices.template import device as template


def test_a_device_is_found_by_its_name():
    device, target = find_device("cpu")
    assert (device.name, target) == ("cpu", None)


@pytest.mark.parametrize(
    ("spec", "says"), [("cpi", "Did you mean 'cpu'"), ("phone", "one of cpu"), ("cpu:big", "no target 'big'")]
)
def test_an_unknown_device_names_what_there_is(spec: str, says: str):
    with pytest.raises(UnavailableError, match=says) as caught:
        find_device(spec)
    assert caught.value.exit_code == ExitCode.UNAVAILABLE


def test_every_device_has_a_line_and_a_status():
    for device in all_devices():
        status = device.status()
        assert device.summary
        assert status.detail
        assert status.available or status.missing


def test_listing_devices_loads_nothing_heavy():
    heavy = "'numpy', 'tensorflow', 'onnxruntime', 'ai_edge_litert', 'scipy'"
    code = (
        "import sys; from edgedl.devices import all_devices; [d.status() for d in all_devices()];"
        f"sys.exit(any(name in sys.modules for name in ({heavy})))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_template_works_as_it_is_copied(tmp_path: Path):
    device: Device = template
    files = [model_file(dense_tflite(tmp_path / f"{layers}.tflite", layers)) for layers in (2, 4)]
    report = device.profile(files, SamplingPlan(), "small-npu")
    assert report.obtained == "estimated"
    speed = report.speed(report.models[1])
    assert speed is not None
    assert speed.obtained == "estimated"
    assert speed.ratio is not None
    assert speed.ratio.value == 2
    with pytest.raises(UnavailableError, match="needs a target"):
        device.profile(files, SamplingPlan())
