"""What a device asks before a session: that it is there, that a target was named, that it takes the files."""

from __future__ import annotations

from collections.abc import Sequence

from edgedl.core.errors import ModelError, UnavailableError
from edgedl.core.model_facts import ModelFile
from edgedl.devices.protocol import Device


def check_available(device: Device) -> None:
    """Raise UnavailableError, with the command that brings what is missing, for a device that cannot be used now."""
    status = device.status()
    if not status.available:
        advice = f"`{status.command}` brings it" if status.command else None
        raise UnavailableError(f"device {device.name!r}: {status.detail}", advice=advice)


def check_target(device: Device, target: str | None) -> str:
    """The target, for a device that is nothing without one. Raises UnavailableError."""
    if target is None:
        required = f"one of {', '.join(device.targets() or ())}"
        raise UnavailableError(f"device {device.name!r} needs a target", required=required, received="none")
    return target


def check_formats(files: Sequence[ModelFile], where: str, *formats: str) -> None:
    """Raise ModelError for a file that is in none of the formats ("tflite", "onnx"). where: as errors name it."""
    for file in files:
        if file.format not in formats:
            raise ModelError(
                f"{file.path.name} does not run on {where}",
                required=f"a file in the format {' or '.join(formats)}",
                received=file.format,
            )
