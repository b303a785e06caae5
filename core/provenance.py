"""What made a result: versions and machine, read without importing anything heavy."""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Requirement:
    """One package that edgedl needs. installed: its version, or None. specifier: what pip takes, with the range."""

    name: str
    installed: str | None
    specifier: str
    fits: bool


def requirements() -> list[Requirement]:
    """What edgedl's own metadata asks for, against what is installed."""
    from packaging.requirements import Requirement as Asked

    found: list[Requirement] = []
    for line in metadata.requires("edgedl") or []:
        asked = Asked(line)
        if asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
            continue
        version = version_of(asked.name)
        fits = version is not None and asked.specifier.contains(version, prereleases=True)
        found.append(Requirement(asked.name, version, f"{asked.name}{asked.specifier}", fits))
    return found
