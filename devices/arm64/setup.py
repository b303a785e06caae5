"""`edgedl devices setup arm64`: emulator and C library from Debian or Ubuntu, runtimes for aarch64 from wheels."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from edgedl.core.errors import StageError, UnavailableError
from edgedl.core.provenance import version_of
from edgedl.devices import native
from edgedl.devices.arm64 import emulator
from edgedl.devices.arm64.counting import BOXES
from edgedl.devices.native import runtime


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
        runtime.pip("install", "ziglang")
        done.append("installed ziglang, a C compiler for every target")
    for box in BOXES.values():
        one = box.runtime
        if version_of(one.package) and not runtime.library_place("aarch64", one).exists():
            place = runtime.fetch_aarch64(one).parent
            done.append(f"{one.name} {version_of(one.package)} for aarch64 is in {place}")
    for source, architecture in (
        *((box.probe, "aarch64") for box in BOXES.values()),
        ("guest.c", "aarch64"),
        ("instructions.c", native.host_architecture()),
    ):
        native.built(source, architecture)
    emulator.emulator_version()
    return [*done, "compiled the probes and the instruction counter"]


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
