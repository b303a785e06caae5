"""The devices edgedl knows: its own, and those that installed packages bring (docs/devices/your-own.md).

To add one here: copy `template.py`, test it, and add its line to `_MODULES`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from edgedl.core.errors import UnavailableError
from edgedl.devices.protocol import Compiler, Device, DeviceStatus, Exact, Installable, SamplingPlan, Undisturbed

if TYPE_CHECKING:
    from edgedl.core.artifacts import LatencyReport
    from edgedl.core.model_facts import ModelFile

__all__ = [
    "Compiler",
    "Device",
    "DeviceStatus",
    "Exact",
    "Installable",
    "SamplingPlan",
    "Undisturbed",
    "all_devices",
    "find_device",
]

_MODULES = {  # a device's name → where it is, `module:variable`; imported when asked for
    "cpu": "edgedl.devices.cpu:device",
    "counters": "edgedl.devices.counters.device:device",
    "arm64": "edgedl.devices.arm64.device:device",
    "android": "edgedl.devices.android:device",
    "ssh": "edgedl.devices.ssh:device",
    "web": "edgedl.devices.web.device:device",
    "tpu": "edgedl.devices.edge_tpu:device",
    "gpu": "edgedl.devices.gpu.device:device",
    "micro": "edgedl.devices.micro:device",
    "ethos-u55": "edgedl.devices.ethos:u55",
    "ethos-u65": "edgedl.devices.ethos:u65",
    "ethos-u85": "edgedl.devices.ethos:u85",
    "qualcomm": "edgedl.devices.qualcomm.device:device",
}


ENTRY_POINTS = "edgedl.devices"
"""The group in which a package names its devices: `name = "module:variable"`."""


def all_devices() -> Sequence[Device]:
    """Every device, available or not; one that cannot be loaded says so in its status."""
    found: list[Device] = []
    for name in _known():
        try:
            found.append(_load(name))
        except UnavailableError as error:
            found.append(_Broken(name, error))
    return found


@dataclass(frozen=True)
class _Broken:
    """A package's device that cannot be loaded."""

    name: str
    error: UnavailableError
    summary: str = "cannot be loaded"

    def targets(self) -> Sequence[str] | None:
        return None

    def status(self) -> DeviceStatus:
        return DeviceStatus(False, str(self.error), (self.name,))

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        raise self.error


def find_device(spec: str) -> tuple[Device, str | None]:
    """The device and target of `name` or `name:target`, e.g. "cpu" or "arm64:cortex-a76".

    Raises UnavailableError naming the nearest and the existing ones when there is no such device or target.
    """
    name, colon, target = spec.partition(":")
    known = _known()
    if name not in known:
        raise _unknown(f"no device is called {name!r}", name, list(known))
    device = _load(name)
    targets = device.targets()
    if colon and targets is not None and target not in targets:
        raise _unknown(f"device {name!r} has no target {target!r}", target, targets)
    return device, target if colon else None


def _known() -> Mapping[str, EntryPoint]:
    """Devices by name; edgedl's own win over a package's of the same name."""
    own = {name: EntryPoint(name, place, ENTRY_POINTS) for name, place in _MODULES.items()}
    return own | {found.name: found for found in entry_points(group=ENTRY_POINTS) if found.name not in own}


def _load(name: str) -> Device:
    found = _known()[name]
    try:
        return found.load()
    except (ImportError, AttributeError) as error:
        if name in _MODULES:
            raise
        package = found.dist.name if found.dist else found.value
        raise UnavailableError(
            f"device {name!r} of the package {package} cannot be loaded",
            required=f"{found.value} to be importable, and a device",
            received=f"{type(error).__name__}: {error}",
            advice=f"Update {package}, or uninstall it",
        ) from error


def _unknown(what: str, given: str, existing: Sequence[str]) -> UnavailableError:
    nearest = difflib.get_close_matches(given, existing, n=1)
    return UnavailableError(
        what,
        required=f"one of {', '.join(existing)}" if existing else "no target at all: it has only one",
        advice=f"Did you mean {nearest[0]!r}?" if nearest else "`edgedl devices` lists what there is",
    )
