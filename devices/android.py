"""`android:SERIAL[/CORES]`: a phone or tablet behind adb, measured there.

CORES: `big` (default) or `little`, by their highest clock; `gpu` or `nnapi` run Google's `benchmark_model`, where the
environment variable EDGEDL_BENCHMARK_MODEL says where it lies here (an Android arm64 build of it).

The probe and the runtime are the Linux ones, started by glibc's own loader, which is pushed with them: XNNPACK's
kernels are the same as in an app, the C library around them is not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedl.core.artifacts import Conditions, LatencyReport
from edgedl.core.console import reporter
from edgedl.core.errors import UnavailableError
from edgedl.core.model_facts import ModelFile
from edgedl.devices.arm64.emulator import LOADER, c_library
from edgedl.devices.benchmark_model import DELEGATES, profile_with_benchmark_model
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.remote import Answer, Start, board_of, conditions_of, profile_with_probe

CORES = ("big", "little")
LIBRARIES = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1", "libstdc++.so.6")
COOL = 0
"""PowerManager.THERMAL_STATUS_NONE."""
WAIT_S, LOOK_EVERY_S = 120.0, 5.0

_STATES = {  # what `adb devices` says of a device that cannot be used → the next step
    "unauthorized": "Unlock it and accept this computer's key (“Allow USB debugging?”)",
    "offline": "Unplug it and plug it in again, or `adb reconnect`",
    "no permissions": "This user may not use USB devices: see developer.android.com/studio/run/device, udev rules",
    "recovery": "Start Android on it",
    "bootloader": "Start Android on it",
}


_LOST = re.compile(r"^(adb: |error: (device|no devices|closed|protocol)).*", re.MULTILINE)
"""What adb itself says when it does not reach a device, in front of anything that runs there."""


def adb_path() -> str | None:
    """adb on the PATH, or in the Android SDK that ANDROID_HOME or ANDROID_SDK_ROOT names."""
    places = [os.environ.get(name) for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT")]
    path = os.pathsep.join([os.environ.get("PATH", ""), *(f"{place}/platform-tools" for place in places if place)])
    return shutil.which("adb", path=path)


@dataclass(frozen=True)
class AdbShell:
    """A line to an Android device; see `remote.Shell`."""

    serial: str
    temporary: str = "/data/local/tmp"

    @property
    def name(self) -> str:
        """The serial number."""
        return self.serial

    def run(self, script: str, timeout_s: float = 60.0) -> Answer:
        """Run a script in the device's sh."""
        done = self._adb(["shell", "-T", script], timeout_s)
        return Answer(done.returncode, done.stdout, done.stderr)

    def push(self, files: Sequence[tuple[Path, str]], folder: str) -> None:
        """Copy the files, all at once."""
        with tempfile.TemporaryDirectory(prefix="edgedl-adb-") as here:
            for path, name in files:
                (Path(here) / name).symlink_to(path.resolve())
            done = self._adb(["push", *(str(Path(here) / name) for _, name in files), folder + "/"], 600.0)
        if done.returncode:
            raise UnavailableError(f"the files cannot be copied to {self.serial}", received=_last_line(done))

    def _adb(self, words: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        try:
            done = subprocess.run(
                [adb_path() or "adb", "-s", self.serial, *words],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout_s,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise UnavailableError(
                f"{self.serial} did not answer within {timeout_s:.0f} s", advice="Is it still plugged in and on?"
            ) from None
        if done.returncode and (lost := _LOST.search(done.stderr)):
            state = next((state for state in _STATES if state in lost[0]), "")
            raise UnavailableError(
                f"{self.serial} cannot be reached by adb",
                received=lost[0],
                advice=_STATES.get(state, "Is it still plugged in? `adb devices -l` lists what adb sees"),
            )
        return done


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return ((done.stderr or done.stdout).strip().splitlines() or ["no reason given"])[-1]


def connected() -> Mapping[str, str]:
    """Serial numbers of what adb sees, each with its state ("device" is well). Raises UnavailableError without adb."""
    adb = adb_path()
    if adb is None:
        raise UnavailableError(
            "adb is not installed",
            required="adb of the Android SDK's platform tools, on the PATH or under ANDROID_HOME",
            advice="`apt-get install adb` brings it on Debian and Ubuntu",
        )
    try:
        done = subprocess.run([adb, "devices"], capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        raise UnavailableError("`adb devices` hangs", advice="`adb kill-server`, then again") from None
    rows = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    return {serial.strip(): state.strip() for serial, state in (row[:2] for row in rows)}


@dataclass(frozen=True)
class AndroidDevice:
    """The `android` device."""

    name: str = "android"
    summary: str = "a phone behind adb, android:SERIAL[/big|little|gpu|nnapi] (measured there)"
    undisturbed: bool = True

    def targets(self) -> Sequence[str] | None:
        """Any serial number; `profile` asks adb."""
        return None

    def status(self) -> DeviceStatus:
        """Whether adb is there, and what the probe needs; phones are asked when they are used."""
        if adb_path() is None:
            return DeviceStatus(False, "adb not installed", ("adb",), "apt-get install adb")
        if c_library() is None:
            return DeviceStatus(
                False, "Arm64 C library not installed", ("libc6-arm64-cross",), "edgedl devices setup arm64"
            )
        return DeviceStatus(True, "phones that `adb devices` lists")

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Take one session on the phone; without a target, on the only one that is connected."""
        serial, _, part = (target or "").partition("/")
        part = part or "big"
        if part not in (*CORES, *DELEGATES):
            raise UnavailableError(
                f"an Android device has no part {part!r}", required=f"one of {', '.join((*CORES, *DELEGATES))}"
            )
        serial = _chosen(serial)
        shell = AdbShell(serial)
        board = board_of(shell)
        before = _cool(shell, plan)
        device = f"android:{serial}/{part}"
        if part in DELEGATES:
            return profile_with_benchmark_model(
                shell, files, plan, part, device=device, board=board, before=before,
                conditions=lambda: _state(shell, plan),
            )  # fmt: skip
        mask, cpu = cores(board.max_khz, part)
        note = "LiteRT's Linux library, started by glibc's loader: kernels as in an app, another C library"
        pinned = ("taskset", mask) if mask else ()
        start = Start(_loader_files(), (f"./{Path(LOADER).name}", "--library-path", "."), pinned, (note,))
        return profile_with_probe(
            shell, files, plan, device=device, board=board, start=start, before=before,
            conditions=lambda: _state(shell, plan, cpu),
        )  # fmt: skip


device = AndroidDevice()


def _chosen(serial: str) -> str:
    found = connected()
    usable = [one for one, state in found.items() if state == "device"]
    if not serial and len(usable) == 1:
        return usable[0]
    if serial in usable:
        return serial
    state = found.get(serial, "") if serial else next(iter(found.values()), "")
    listed = ", ".join(f"{one} ({state})" for one, state in found.items()) or "none"
    raise UnavailableError(
        f"no Android device {serial!r} can be used" if serial else "which Android device?",
        required="android:SERIAL of a device in state “device”",
        received=f"adb sees {listed}",
        advice=next((step for word, step in _STATES.items() if state.startswith(word)),
                    "Plug it in, with USB debugging on (developer options)" if not usable else ""),
    )  # fmt: skip


def _loader_files() -> list[tuple[Path, str]]:
    """glibc's loader and the libraries that LiteRT's needs, for aarch64."""
    root = c_library()
    if root is None:
        raise UnavailableError("there is no Arm64 C library here", advice="`edgedl devices setup arm64` brings it")
    return [(root / "lib" / name, name) for name in (Path(LOADER).name, *LIBRARIES)]


def cores(max_khz: Sequence[int], part: str) -> tuple[str, int]:
    """The hexadecimal mask for `taskset` of the cores with the highest (lowest) clock, and the first of them.

    An empty mask where the device does not tell clocks, or all are alike.
    """
    if len(set(max_khz)) < 2:
        return "", 0
    wanted = max(max_khz) if part == "big" else min(max_khz)
    chosen = [number for number, khz in enumerate(max_khz) if khz == wanted]
    return f"{sum(1 << number for number in chosen):x}", chosen[0]


def _health(shell: AdbShell) -> dict[str, Any]:
    """Battery charge in per cent, its temperature in °C, and whether Android throttles for heat."""
    answer = shell.run("dumpsys battery; dumpsys thermalservice")
    level = re.search(r"^\s*level: (\d+)", answer.out, re.MULTILINE)
    tenths = re.search(r"^\s*temperature: (\d+)", answer.out, re.MULTILINE)
    status = re.search(r"^\s*Thermal Status: (\d+)", answer.out, re.MULTILINE)
    found: dict[str, Any] = {
        "battery_percent": float(level[1]) if level else None,
        "throttled": int(status[1]) > COOL if status else None,
    }
    if tenths:
        found["temperature_c"] = int(tenths[1]) / 10
    return found


def _state(shell: AdbShell, plan: SamplingPlan, cpu: int = 0) -> Conditions:
    return replace(conditions_of(shell, plan, cpu), **_health(shell))


def _cool(shell: AdbShell, plan: SamplingPlan) -> Conditions:
    """The phone's state once it is cool, or has had `WAIT_S` to become so."""
    state = _state(shell, plan)
    if not state.throttled:
        return state
    with reporter().progress(f"waiting for {shell.name} to cool", WAIT_S) as bar:
        started = time.monotonic()
        while state.throttled and (waited := time.monotonic() - started) < WAIT_S:
            time.sleep(LOOK_EVERY_S)
            bar.update(waited, "throttled")
            state = replace(state, **_health(shell))
    return state
