"""LiteRT's library for the processors that devices have: this machine's from the installed wheel, others' fetched."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from edgedl.core.errors import StageError, UnavailableError
from edgedl.core.provenance import version_of
from edgedl.devices.litert import MODULE, PACKAGE
from edgedl.devices.native import cache_folder, host_architecture

LIBRARY = "libLiteRt.so"
PLATFORMS = tuple(f"manylinux_2_{minor}_aarch64" for minor in (17, 27, 28, 31, 34, 35))


def library_place(architecture: str) -> Path:
    """Where the library for an architecture is, or would be put, in the version installed here."""
    found = importlib.util.find_spec(MODULE)
    if architecture == host_architecture() and found and found.submodule_search_locations:
        return Path(next(iter(found.submodule_search_locations))) / LIBRARY
    return cache_folder() / architecture / f"litert-{version_of(PACKAGE)}" / LIBRARY


def library(architecture: str) -> Path:
    """The library. Raises UnavailableError, with what brings it, when it is not there."""
    place = library_place(architecture)
    if not place.exists():
        raise UnavailableError(
            f"there is no LiteRT {version_of(PACKAGE)} for {architecture} here",
            advice="`edgedl devices setup arm64` brings the one for aarch64" if architecture == "aarch64" else "",
            required="x86_64 or aarch64, for which LiteRT's wheels are built",
        )
    return place


def fetch_aarch64() -> Path:
    """Take the library out of the aarch64 wheel of the version installed here. Raises StageError."""
    target = library_place("aarch64")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
        wanted = f"{PACKAGE}=={version_of(PACKAGE)}"
        pip("download", "--no-deps", "--only-binary", ":all:", *platforms, "--dest", folder, wanted)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            member = archive.extract(f"{MODULE}/{LIBRARY}", folder)
        Path(member).rename(target)
    return target


def pip(*words: str) -> None:
    """Run pip of this Python. Raises StageError with its first error."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise StageError(f"`pip {' '.join(words)}` failed", received=(errors or [""])[-1][:300])
