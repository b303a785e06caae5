"""edgedl devices: what can measure, and whether it is there."""

from __future__ import annotations

from edgedl.pipeline.cli.options import AsJson, Quiet
from edgedl.pipeline.cli.output import output


def command(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the devices with their status."""
    with output(as_json, quiet) as say:
        from edgedl.devices import all_devices

        found = [(device, device.status()) for device in all_devices()]
        say.data(
            [
                {
                    "name": device.name,
                    "summary": device.summary,
                    "targets": list(device.targets()),
                    "available": status.available,
                    "detail": status.detail,
                    "missing": list(status.missing),
                    "command": status.command,
                }
                for device, status in found
            ]
        )
        say.table(
            ("device", "there", "what", "status"),
            [
                (device.name, "yes" if s.available else "no", device.summary, s.command or s.detail)
                for device, s in found
            ],
        )
