from __future__ import annotations

import json
import os
import re
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


def test_a_package_brings_a_device_as_the_page_says(tmp_path: Path):
    page = (Path(__file__).parents[2] / "docs/devices/your-own.md").read_text()
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name, block in zip(
        ("pyproject.toml", "edgedl_abacus.py"), re.findall(r"```\w+\n(.*?)```", page, re.S), strict=True
    ):
        (source / name).write_text(block)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True)
    dense_tflite(tmp_path / "m.tflite", 2)
    edgedl = [sys.executable, "-m", "edgedl"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*edgedl, *words], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
        )

    listed = json.loads(run("devices", "--json").stdout)
    assert next(one for one in listed if one["name"] == "abacus")["targets"] == ["small", "large"]
    done = run("profile", "m.tflite", "--device", "abacus:large", "--json")
    (report,) = json.loads(done.stdout)
    assert report["obtained"] == "estimated"
    assert report["models"][0]["estimate"]["latency_us"]["value"] == 2 * 256 * 256 / 4
    (site / "edgedl_abacus.py").write_text("import no_such_module\n")
    broken = run("profile", "m.tflite", "--device", "abacus")
    assert broken.returncode == ExitCode.UNAVAILABLE
    assert "edgedl-abacus" in broken.stderr
    listed = json.loads(run("devices", "--json").stdout)
    assert not next(one for one in listed if one["name"] == "abacus")["available"]
