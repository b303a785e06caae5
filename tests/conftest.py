"""Shared by all tests: tiny runs, made once a session."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So shells start what they put in the background, and children inherit it: tests that interrupt wait in vain.
    signal.signal(signal.SIGINT, signal.default_int_handler)

from edgedl.core.artifacts import Run, TrainedModel

TINY: dict[str, Any] = {
    "name": "tiny",
    "description": "Reads one digit.",
    "seed": 3,
    "data": {"source": "digits"},
    "model": {"family": "cnn", "filters": [16, 32]},
    "train": {"epochs": 6, "optimizer": {"learning_rate": 0.005}},
    "compress": ["int8", "dynamic-range"],
    "export": ["tflite", "onnx"],
    "profile": {"devices": ["cpu"], "budget_s": 2},
    "check": {"max_accuracy_drop": 5.0},
}
"""A whole run in seconds: 6 epochs of a small CNN on the embedded digits."""


@pytest.fixture(scope="session")
def tiny_recipe() -> dict[str, Any]:
    return TINY


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The whole pipeline, done once."""
    import edgedl

    return edgedl.run(TINY, out=tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def trained(tiny_run: Run) -> TrainedModel:
    return tiny_run.trained


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything is installed (EDGEDL_TESTS_MUST_RUN), only the absence of the shared data may skip a test."""
    report = yield
    if report.skipped and os.environ.get("EDGEDL_TESTS_MUST_RUN") and "shared" not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"may not skip here: {report.longrepr}"
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that compute with TensorFlow in this process go to one worker, so that it is imported once; those of one
    file to one worker, so that what they share is made once."""
    for item in items:
        if "tensorflow" in item.keywords or {"tiny_run", "trained"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("tensorflow"))
        elif item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
