"""The phone in a box: LiteRT's Arm64 kernels in QEMU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from tests.shared_data import shared
from tests.tiny_models import dense_tflite, model_file

from edgedl.core.artifacts import LatencyReport, from_json, to_json
from edgedl.core.errors import ExitCode, ModelError, UnavailableError
from edgedl.devices import SamplingPlan, find_device
from edgedl.devices.arm64 import emulator, estimate, profiles, setup
from edgedl.devices.arm64.device import device
from edgedl.pipeline.check.judge import judge_latency

RESNET = "mlperf_tiny/image_classification/trained_models/pretrainedResnet_quant.tflite"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("arm64")
    return [dense_tflite(folder / f"{layers}.tflite", layers) for layers in (4, 8)]


@pytest.fixture(scope="module")
def report(emulated: None, two: list[Path]) -> LatencyReport:
    return device.profile([model_file(path) for path in two], SamplingPlan(), "raspberry-pi-5")


def test_counts_are_exact_and_repeat(report: LatencyReport, two: list[Path]) -> None:
    seen = {report.models[0].instructions}
    for _ in range(4):
        again = device.profile([model_file(two[0])], SamplingPlan(), "raspberry-pi-5").models[0].instructions
        seen.add(again)
        assert again.spread == 0
    assert len(seen) == 1  # cache misses too


def test_twice_the_layers_are_about_twice_the_work(report: LatencyReport) -> None:
    small, large = (model.instructions for model in report.models)
    assert 1.8 < large.total / small.total < 2.1
    assert small.load + small.store + small.branch + small.simd + small.other == small.total
    assert small.multiply_add > 4 * 256 * 256 / 4 * 0.99  # four products an instruction, and a few more
    assert small.dot == 0
    assert [cache.level for cache in small.caches] == [1, 2, 3]
    assert small.caches[0].misses > small.caches[2].misses
    speed = report.speed(report.models[1])
    assert (speed.what, speed.obtained, speed.ratio.value) == ("instructions", "emulated", large.total / small.total)


def test_costs_per_op_add_up_and_name_layers(report: LatencyReport) -> None:
    for model, layers in zip(report.models, (4, 8), strict=True):
        kernels = [op for op in model.ops if op.index >= 0]
        assert [op.layer for op in kernels] == [f"dense_{layer}" for layer in range(layers)]
        assert 0 < model.instructions.total - sum(op.cost for op in kernels) < 10_000  # a call's own, whatever its size
        assert {op.unit for op in model.ops} == {"instructions"}
        assert sum(op.cost for op in model.ops) == pytest.approx(model.instructions.total, rel=0.02)


def test_the_estimate_is_within_15_percent_of_half_of_the_published_times() -> None:
    """Each core's times with the share of misses that was fitted on the other core alone."""
    errors = [abs(one) for one in estimate.errors()]
    assert len(errors) == 8
    assert median(errors) <= 0.15
    assert all(0.05 < share < 0.5 for share in estimate.exposed_shares().values())


def test_milliseconds_are_an_estimate_and_only_for_products(report: LatencyReport, two: list[Path]) -> None:
    estimate = report.models[0].estimate
    assert estimate.latency_us.low < estimate.latency_us.value < estimate.latency_us.high
    assert "median error" in estimate.basis
    assert all(model.timing is None for model in report.models)
    core = device.profile([model_file(two[0])], SamplingPlan(), "cortex-a76")
    assert core.models[0].estimate is None
    assert core.models[0].instructions.total == report.models[0].instructions.total


def test_a_report_survives_saving(report: LatencyReport) -> None:
    assert from_json(LatencyReport, to_json(report)) == report


def test_a_check_compares_instructions(report: LatencyReport) -> None:
    finding = judge_latency(report, 0.01)
    assert finding.outcome == "regressed"
    assert "emulated on arm64:raspberry-pi-5; exact" in finding.sentence


def test_int8_answers_are_those_of_this_computer(emulated: None) -> None:
    from edgedl.devices import litert

    path = shared(RESNET)
    model = device.profile([model_file(path)], SamplingPlan(seed=3), "cortex-a76").models[0]
    session = litert.open_session(path, threads=1, xnnpack=True, seed=3)
    session.invoke()
    assert model.outputs == tuple(fnv1a(one) for one in session.outputs())
    assert model.instructions.dot > 7e5


def fnv1a(values: np.ndarray) -> str:
    value = 14695981039346656037
    for byte in values.tobytes():
        value = (value ^ byte) * 1099511628211 % 2**64
    return f"{value:016x}"


def test_a_core_gets_the_kernels_of_its_features(emulated: None) -> None:
    file = model_file(shared(RESNET))
    old, dot, matrix = (
        device.profile([file], SamplingPlan(), core).models[0].instructions
        for core in ("cortex-a72", "cortex-a76", "cortex-a710")
    )
    assert (old.dot, dot.dot > 7e5) == (0, True)
    assert old.total > dot.total > matrix.total


def test_what_does_not_run_is_one_clear_error(emulated: None, tmp_path: Path) -> None:
    other = model_file(dense_tflite(tmp_path / "m.tflite", 1))
    with pytest.raises(ModelError, match="required a file in the format tflite or onnx, received keras-2"):
        device.profile([replace(other, facts=replace(other.facts, kind="keras-2"))], SamplingPlan(), "cortex-a76")
    with pytest.raises(UnavailableError, match="needs a target"):
        device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 1))], SamplingPlan())
    custom = dense_tflite(tmp_path / "custom.tflite", 1, custom_op="NoSuchOp")
    with pytest.raises(ModelError, match=r"custom\.tflite.*NoSuchOp"):
        device.profile([model_file(custom)], SamplingPlan(), "cortex-a76")


def test_every_profile_is_whole() -> None:
    for name in profiles.names():
        profile = profiles.load(name)
        assert profile.sources
        assert profile.core in profiles.names()
        assert find_device(f"arm64:{name}")[1] == name
        for feature in profile.features:
            assert any(feature in bits for bits in emulator._HWCAPS.values())


def test_without_its_parts_the_device_says_what_brings_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEDL_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    status = device.status()
    assert not status.available
    assert "qemu-aarch64" in status.missing
    path = dense_tflite(tmp_path / "m.tflite", 1)
    with pytest.raises(UnavailableError, match="edgedl devices setup arm64") as caught:
        device.profile([model_file(path)], SamplingPlan(), "cortex-a76")
    assert caught.value.exit_code == ExitCode.UNAVAILABLE
    with pytest.raises(UnavailableError, match="sudo apt-get install"):
        setup.set_up()


def test_a_newer_emulator_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "qemu-aarch64"
    fake.write_text("#!/bin/sh\necho qemu-aarch64 version 10.0.2\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(UnavailableError, match=r"QEMU 7\.0 to 8\.2.*10\.0\.2"):
        emulator.emulator_version()
