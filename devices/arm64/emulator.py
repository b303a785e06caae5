"""QEMU's user-mode emulation of a described processor: what it needs, and how the probe is started in it.

The emulated program runs in a folder (QEMU's `-L`) that holds an Arm64 C library and the /proc/cpuinfo and
/sys/devices/system/cpu of the processor described; without them the runtime would read this machine's.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedl.core.errors import StageError, UnavailableError
from edgedl.devices import native
from edgedl.devices.arm64.profiles import ArmProfile
from edgedl.devices.litert import PACKAGE
from edgedl.devices.native import built, cache_folder, runtime

EMULATOR = "qemu-aarch64"
OLDEST, NEWEST = (7, 0), (8, 2)
"""Releases of QEMU whose plugins the instruction counter was written for (API version 1)."""
C_LIBRARY_PLACES = (Path("/usr/aarch64-linux-gnu"), Path("/"))
LOADER = "lib/ld-linux-aarch64.so.1"
CPUS = 4
NO_DEVICES = ("sys/bus/pci/devices", "sys/class/drm", "sys/class/accel")
"""Folders in which ONNX Runtime looks for accelerators: empty, or it would find this machine's."""

_HWCAPS = {  # the bits of AT_HWCAP and AT_HWCAP2 that the profiles name (Linux, arch/arm64/include/uapi/asm/hwcap.h)
    "ARM_HWCAP": {
        "fp": 0, "asimd": 1, "evtstrm": 2, "aes": 3, "pmull": 4, "sha1": 5, "sha2": 6, "crc32": 7, "atomics": 8,
        "fphp": 9, "asimdhp": 10, "cpuid": 11, "asimdrdm": 12, "lrcpc": 15, "dcpop": 16, "asimddp": 20,
    },
    "ARM_HWCAP2": {"i8mm": 13, "bf16": 14},
}  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """Counts up to one mark of the probe: by class, lines of cache asked for, misses by level.

    steps: instructions in all, up to each of the probe's steps since the mark before.
    """

    file: int
    number: int
    counts: Mapping[str, int]
    steps: tuple[int, ...] = ()


@dataclass(frozen=True)
class Emulated:
    """One finished process: what it printed and said, how it ended, and its marks."""

    lines: list[str]
    said: str
    ended: str
    marks: list[Mark]


def missing() -> dict[str, str]:
    """What is not there, by name, each with what brings it on Debian and Ubuntu; empty when all is."""
    found: dict[str, str] = {}
    if shutil.which(EMULATOR) is None:
        found[EMULATOR] = "apt-get install qemu-user"
    if c_library() is None:
        found["Arm64 C library"] = "apt-get install libc6-arm64-cross libstdc++6-arm64-cross"
    if not runtime.library_place("aarch64").exists():
        found[f"{PACKAGE} for aarch64"] = "edgedl devices setup arm64"
    if native.compiler("aarch64") is None or native.compiler(native.host_architecture()) is None:
        found["C compiler"] = "pip install 'edgedl[arm64]'"
    return found


def c_library() -> Path | None:
    """The folder under which the Arm64 dynamic loader and C library lie."""
    return next((place for place in C_LIBRARY_PLACES if (place / LOADER).exists()), None)


def emulator_version() -> str:
    """E.g. "QEMU 7.2.22". Raises UnavailableError when there is none, or one whose plugins are of another kind."""
    path = shutil.which(EMULATOR)
    if path is None:
        raise UnavailableError(f"{EMULATOR} is not installed", advice="`apt-get install qemu-user` brings it")
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    number = re.search(r"version (\d+)\.(\d+)[.\d]*", text)
    if number is None or not OLDEST <= (int(number[1]), int(number[2])) <= NEWEST:
        raise UnavailableError(
            f"{path} is of a release whose instruction counter differs",
            required=f"QEMU {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}, dynamically linked (package qemu-user)",
            received=text.splitlines()[0] if text else "no answer",
        )
    return f"QEMU {number[0].removeprefix('version ')}"


def run_emulated(
    profile: ArmProfile,
    command: Sequence[str],
    files: Mapping[str, Path],
    folder: Path,
    *,
    caches: bool = False,
    timeout_s: float = 600.0,
) -> Emulated:
    """Run an Arm64 program on the described processor, counting its instructions, in an empty folder.

    files: what is to lie there, by the names that `command` uses. caches: simulate the profile's data caches.

    Whatever could differ from one run to the next is taken from the program, since it moves what lies in memory, and
    that is some instructions more or less: names are short, the environment is empty, clocks tell instructions.
    """
    for name, path in {**files, "guest.so": built("guest.c", "aarch64")}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(path.absolute())
    variables = {"LD_PRELOAD": "./guest.so", "INSTRUCTION_CLOCK": "clock", **_hwcaps(profile.features)}
    plugin = [str(built("instructions.c", native.host_architecture())), "out=marks", "clock=clock"]
    if caches:
        plugin += [f"l{level}={c.kib}:{c.ways}" for level, c in enumerate(profile.caches, 1)]
    words = [shutil.which(EMULATOR) or EMULATOR, "-L", str(root_folder(profile)), "-cpu", profile.qemu_cpu]
    for name, value in variables.items():
        words += ["-E", f"{name}={value}"]
    words += ["-plugin", ",".join(plugin), *command]
    try:
        done = subprocess.run(
            words, cwd=folder, env={}, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise StageError(
            f"emulating {profile.name} took longer than {timeout_s:g} s", advice="A smaller model, or fewer threads"
        ) from None
    marks = folder / "marks"
    lines = marks.read_text().splitlines() if marks.exists() else []
    ended = f"exit status {done.returncode}" if done.returncode >= 0 else f"killed by signal {-done.returncode}"
    return Emulated(done.stdout.splitlines(), done.stderr, ended, _marks(map(json.loads, lines)))


def _marks(lines: Iterable[dict[str, Any]]) -> list[Mark]:
    marks: list[Mark] = []
    steps: list[int] = []
    for counts in lines:
        if "step" in counts:
            steps.append(counts["step"])
        else:
            marks.append(Mark(counts.pop("file"), counts.pop("mark"), counts, tuple(steps)))
            steps = []
    return marks


def _hwcaps(features: Sequence[str]) -> dict[str, str]:
    return {
        name: f"{sum(1 << bit for feature, bit in bits.items() if feature in features):x}"
        for name, bits in _HWCAPS.items()
    }


def root_folder(profile: ArmProfile) -> Path:
    """The folder for QEMU's `-L`, made once and kept in the cache."""
    library = c_library()
    assert library is not None
    files = _system_files(profile)
    key = hashlib.sha256(json.dumps([str(library), files, NO_DEVICES], sort_keys=True).encode()).hexdigest()[:16]
    target = cache_folder() / "arm64" / f"{profile.name}-{key}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        partial = Path(folder) / target.name
        for name, content in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(content)
        for name in NO_DEVICES:
            (partial / name).mkdir(parents=True)
        (partial / "lib").symlink_to(library / "lib")
        try:
            partial.rename(target)
        except OSError:  # another process was faster
            if not target.exists():
                raise
    return target


def _system_files(profile: ArmProfile) -> dict[str, str]:
    """/proc/cpuinfo and /sys/devices/system/cpu as the runtime reads them (cpuinfo's arm-linux part)."""
    processor = (
        "processor\t: {number}\nBogoMIPS\t: 48.00\n"
        f"Features\t: {' '.join(profile.features)}\nCPU implementer\t: 0x{profile.implementer:02x}\n"
        f"CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0x{profile.part:03x}\nCPU revision\t: 0\n\n"
    )
    folder, every = "sys/devices/system/cpu", f"0-{CPUS - 1}\n"
    khz = round((profile.clock_mhz or 2000) * 1000)
    files = {"proc/cpuinfo": "".join(processor.format(number=number) for number in range(CPUS))}
    files |= {f"{folder}/{name}": every for name in ("possible", "present", "online")} | {f"{folder}/kernel_max": "7\n"}
    for number in range(CPUS):
        cpu = f"{folder}/cpu{number}"
        files |= {f"{cpu}/cpufreq/cpuinfo_max_freq": f"{khz}\n", f"{cpu}/cpufreq/cpuinfo_min_freq": "500000\n"}
        files |= {f"{cpu}/topology/physical_package_id": "0\n", f"{cpu}/topology/core_id": f"{number}\n"}
        files |= {f"{cpu}/topology/{name}": every for name in ("core_siblings_list", "cluster_cpus_list")}
    return files
