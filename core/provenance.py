"""What made a result: versions and machine, read without importing anything heavy."""

from __future__ import annotations

import functools
import os
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "edgedl", "tensorflow", "tf-keras", "keras", "tensorflow-model-optimization", "ai-edge-litert",
    "onnx", "onnxruntime", "tf2onnx", "numpy", "scikit-learn",
)  # fmt: skip


def version_of(package: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = [("python", platform.python_version())]
    found += [(name, version) for name in PACKAGES if (version := version_of(name)) is not None]
    return tuple(found)


def versions() -> dict[str, str]:
    """Installed versions of everything that can change a result."""
    return dict(_versions())


@functools.cache
def machine() -> str:
    """This computer in one line: processor, cores usable by this process, operating system."""
    cores = len(os.sched_getaffinity(0))
    return f"{_processor()}, {cores} core{'s' * (cores != 1)}, {platform.system()} {platform.machine()}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
