"""Runtimes' libraries for the processors that devices have: this machine's from installed wheels, others' fetched."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from edgedl.core.errors import StageError, UnavailableError
from edgedl.core.provenance import version_of
from edgedl.devices import litert, onnx_runtime
from edgedl.devices.native import cache_folder, host_architecture

PLATFORMS = tuple(f"manylinux_2_{minor}_aarch64" for minor in (17, 27, 28, 31, 34, 35))


@dataclass(frozen=True)
class Library:
    """A runtime with a C API. file: its shared library's name. member: that file's path in the wheel's module, where
    `{version}` stands for the runtime's."""

    name: str
    package: str
    module: str
    file: str
    member: str

    @property
    def in_module(self) -> str:
        """The path of the installed version's library below its module."""
        return self.member.format(version=version_of(self.package))


LITERT = Library(litert.NAME, litert.PACKAGE, litert.MODULE, "libLiteRt.so", "libLiteRt.so")
ONNX_RUNTIME = Library(
    onnx_runtime.NAME,
    onnx_runtime.PACKAGE,
    onnx_runtime.MODULE,
    "libonnxruntime.so",
    "capi/libonnxruntime.so.{version}",
)


def library_place(architecture: str, runtime: Library = LITERT) -> Path:
    """Where the library for an architecture is, or would be put, in the version installed here."""
    found = importlib.util.find_spec(runtime.module)
    if architecture == host_architecture() and found and found.submodule_search_locations:
        return Path(next(iter(found.submodule_search_locations))) / runtime.in_module
    folder = f"{runtime.name.lower().replace(' ', '')}-{version_of(runtime.package)}"
    return cache_folder() / architecture / folder / runtime.file


def library(architecture: str, runtime: Library = LITERT) -> Path:
    """The library. Raises UnavailableError, with what brings it, when it is not there."""
    place = library_place(architecture, runtime)
    if not place.exists():
        raise UnavailableError(
            f"there is no {runtime.name} {version_of(runtime.package)} for {architecture} here",
            advice="`edgedl devices setup arm64` brings the one for aarch64" if architecture == "aarch64" else "",
            required=f"x86_64 or aarch64, for which {runtime.name}'s wheels are built",
        )
    return place


def fetch_aarch64(runtime: Library = LITERT) -> Path:
    """Take the library out of the aarch64 wheel of the version installed here. Raises StageError."""
    target = library_place("aarch64", runtime)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
        wanted = f"{runtime.package}=={version_of(runtime.package)}"
        pip("download", "--no-deps", "--only-binary", ":all:", *platforms, "--dest", folder, wanted)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            member = archive.extract(f"{runtime.module}/{runtime.in_module}", folder)
        Path(member).rename(target)
    return target


def pip(*words: str) -> None:
    """Run pip of this Python. Raises StageError with its first error."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise StageError(f"`pip {' '.join(words)}` failed", received=(errors or [""])[-1][:300])
