"""edgedl doctor: what is installed, what is missing, and the one command that brings it."""

from __future__ import annotations

import typer

from edgedl.core.errors import ExitCode
from edgedl.core.provenance import Requirement
from edgedl.pipeline.cli.options import AsJson, Quiet
from edgedl.pipeline.cli.output import output


def command(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Say what is installed and what is missing; exit code 3 when a package that edgedl needs is missing."""
    with output(as_json, quiet) as say:
        from edgedl.core.provenance import machine, requirements
        from edgedl.devices import all_devices

        packages = requirements()
        devices = [(device.name, device.status()) for device in all_devices()]
        missing = [one.specifier for one in packages if not one.fits]
        mend = "pip install " + " ".join(f"'{specifier}'" for specifier in missing) if missing else None
        say.data(
            {
                "machine": machine(),
                "packages": [
                    {"name": one.name, "installed": one.installed, "required": one.specifier, "fits": one.fits}
                    for one in packages
                ],
                "devices": [
                    {"name": name, "available": s.available, "detail": s.detail, "command": s.command}
                    for name, s in devices
                ],
                "command": mend,
            }
        )
        say.line(machine())
        say.table(
            ("package", "installed", "required", "state"),
            [(one.name, one.installed or "–", one.specifier, _state(one)) for one in packages],
        )
        rows = [
            (name, "yes" if status.available else "no", status.detail, status.command or "") for name, status in devices
        ]
        say.table(("device", "there", "status", "what brings it"), rows)
        say.line(f"to mend: {mend}" if mend else "everything that edgedl needs is installed")
        raise typer.Exit(ExitCode.UNAVAILABLE if missing else ExitCode.FINE)


def _state(one: Requirement) -> str:
    if one.fits:
        return "ok"
    return "MISSING" if one.installed is None else "WRONG VERSION"
