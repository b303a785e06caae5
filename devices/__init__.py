"""The devices edgedl knows. To add one: copy `template.py`, test it, and add its line to `_MODULES`."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence

from edgedl.core.errors import UnavailableError
from edgedl.devices.protocol import Device, DeviceStatus, Installable, SamplingPlan

__all__ = ["Device", "DeviceStatus", "Installable", "SamplingPlan", "all_devices", "find_device"]

_MODULES = {  # a device's name → where it is, `module:variable`; imported when asked for
    "cpu": "edgedl.devices.cpu:device",
    "arm64": "edgedl.devices.arm64.device:device",
    "android": "edgedl.devices.android:device",
    "ssh": "edgedl.devices.ssh:device",
    "tpu": "edgedl.devices.edge_tpu:device",
    "ethos-u55": "edgedl.devices.ethos:u55",
    "ethos-u65": "edgedl.devices.ethos:u65",
    "ethos-u85": "edgedl.devices.ethos:u85",
}


def all_devices() -> Sequence[Device]:
    """Every device, available or not."""
    return [_load(name) for name in _MODULES]


def find_device(spec: str) -> tuple[Device, str | None]:
    """The device and target of `name` or `name:target`, e.g. "cpu" or "arm64:cortex-a76".

    Raises UnavailableError naming the nearest and the existing ones when there is no such device or target.
    """
    name, colon, target = spec.partition(":")
    if name not in _MODULES:
        raise _unknown(f"no device is called {name!r}", name, list(_MODULES))
    device = _load(name)
    targets = device.targets()
    if colon and targets is not None and target not in targets:
        raise _unknown(f"device {name!r} has no target {target!r}", target, targets)
    return device, target if colon else None


def _load(name: str) -> Device:
    module, _, variable = _MODULES[name].partition(":")
    return getattr(importlib.import_module(module), variable)


def _unknown(what: str, given: str, existing: Sequence[str]) -> UnavailableError:
    nearest = difflib.get_close_matches(given, existing, n=1)
    return UnavailableError(
        what,
        required=f"one of {', '.join(existing)}" if existing else "no target at all: it has only one",
        advice=f"Did you mean {nearest[0]!r}?" if nearest else "`edgedl devices` lists what there is",
    )
