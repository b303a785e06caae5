"""edgedl devices: what can measure, and whether it is there."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from edgedl.pipeline.cli.options import AsJson, Quiet
from edgedl.pipeline.cli.output import output


def command(
    action: Annotated[Literal["list", "setup"], typer.Argument(help="setup: bring what a device needs.")] = "list",
    device: Annotated[str | None, typer.Argument(metavar="[DEVICE]", help="The device to set up.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the devices with their status, or set one up."""
    with output(as_json, quiet) as say:
        if action == "setup":
            done = _set_up(device)
            say.data({"device": device, "done": done})
            for sentence in done:
                say.line(sentence)
            return
        from edgedl.devices import all_devices

        found = [(device, device.status()) for device in all_devices()]
        say.data(
            [
                {
                    "name": device.name,
                    "summary": device.summary,
                    "targets": None if (targets := device.targets()) is None else list(targets),
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


def _set_up(name: str | None) -> list[str]:
    from edgedl.core.errors import ConfigError
    from edgedl.devices import Installable, all_devices, find_device

    can = [device.name for device in all_devices() if isinstance(device, Installable)]
    if name is None:
        raise ConfigError("which device?", required=f"one of {', '.join(can)}", received="no name")
    device, _ = find_device(name)
    if not isinstance(device, Installable):
        raise ConfigError(f"device {name!r} needs no setup", required=f"one of {', '.join(can)}", received=name)
    return device.set_up()
