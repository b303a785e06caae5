"""edgedl models: the families of architectures, and how large they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from edgedl.pipeline.cli.options import AsJson, Quiet
from edgedl.pipeline.cli.output import output


def command(
    shape: Annotated[
        str | None, typer.Option("--input", metavar="HxWxC", help="Sizes at this input: 96x96x3, 100x3 (a series), 64.")
    ] = None,
    classes: Annotated[int, typer.Option(help="Classes, or words of the vocabulary.", min=1)] = 10,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the architecture families and their settings; with --input, parameters and MACs."""
    with output(as_json, quiet) as say:
        from edgedl.core.errors import ConfigError
        from edgedl.models import FAMILIES

        if shape is None:
            rows = []
            for family in FAMILIES:
                name = family.model_fields["family"].default
                fields = {key: field for key, field in family.model_fields.items() if key != "family"}
                settings = {key: field.get_default(call_default_factory=True) for key, field in fields.items()}
                rows.append((name, (family.__doc__ or "").splitlines()[0], ", ".join(family.tasks), _words(settings)))
            keys = ("family", "summary", "tasks", "settings")
            say.data([dict(zip(keys, row, strict=True)) for row in rows])
            say.table(("family", "what", "tasks", "settings with defaults"), rows)
            return
        from edgedl.core.artifacts import to_json
        from edgedl.models.sizes import sizes

        sides = shape.lower().replace("×", "x").split("x")
        if not all(side.isdecimal() and 0 < int(side) <= 1 << 20 for side in sides):
            raise ConfigError("--input cannot be read", required="sides like 96x96x3, 100x3 or 64", received=shape)
        found = sizes(FAMILIES, tuple(map(int, sides)), classes)
        say.data([to_json(one) for one in found])
        fit = [one for one in found if one.parameters is not None]
        rows = [(one.family, _words(one.settings), f"{one.parameters:,}", f"{one.macs:,}") for one in fit]
        say.table(("family", "settings", "parameters", "MACs"), rows)
        reasons = {one.family: one.reason for one in found if one.parameters is None}
        for name, reason in reasons.items():
            say.line(f"{name}: {reason}")


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())
