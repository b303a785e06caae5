"""`edgedl devices setup arm64`: the emulator and C library from Debian or Ubuntu, LiteRT for aarch64 from its wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from edgedl.core.errors import StageError, UnavailableError
from edgedl.core.provenance import version_of
from edgedl.devices import native
from edgedl.devices.arm64 import emulator
from edgedl.devices.litert import MODULE, PACKAGE

PLATFORMS = tuple(f"manylinux_2_{minor}_aarch64" for minor in (17, 27, 28, 31, 34, 35))


def set_up() -> list[str]:
    """Bring what is missing and compile the probe; a sentence for each thing done.

    Raises UnavailableError with the command to run where this process may not (no root, no apt-get).
    """
    done: list[str] = []
    missing = emulator.missing()
    packages = [word for name, command in missing.items() if "apt-get" in command for word in command.split()[2:]]
    if packages:
        _apt(packages)
        done.append(f"installed {' '.join(packages)}")
    if native.compiler("aarch64") is None or native.compiler(native.host_architecture()) is None:
        _pip("install", "ziglang")
        done.append("installed ziglang, a C compiler for every target")
    if not emulator.runtime_library().exists():
        _fetch_runtime(emulator.runtime_library())
        done.append(f"LiteRT {version_of(PACKAGE)} for aarch64 is in {emulator.runtime_library().parent}")
    for source, architecture in (
        ("probe.c", "aarch64"),
        ("guest.c", "aarch64"),
        ("instructions.c", native.host_architecture()),
    ):
        native.built(source, architecture)
    emulator.emulator_version()
    return [*done, "compiled the probe and the instruction counter"]


def _apt(packages: Sequence[str]) -> None:
    command = f"apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None or os.geteuid():
        raise UnavailableError(
            f"{' '.join(packages)} must be installed by the system's administrator",
            required="root on Debian or Ubuntu",
            advice=f"Run `sudo {command}`, then this again",
        )
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "-y", *packages]):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StageError(f"`{' '.join(words)}` failed", received=(done.stderr.splitlines() or [""])[-1][:300])


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise StageError(f"`pip {' '.join(words)}` failed", received=(errors or [""])[-1][:300])


def _fetch_runtime(target: Path) -> None:
    """The library alone from the aarch64 wheel of the version installed here."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
        wanted = f"{PACKAGE}=={version_of(PACKAGE)}"
        _pip("download", "--no-deps", "--only-binary", ":all:", *platforms, "--dest", folder, wanted)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            member = archive.extract(f"{MODULE}/{target.name}", folder)
        Path(member).rename(target)
