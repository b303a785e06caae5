"""edgedl models: the families of architectures."""

from __future__ import annotations

from edgedl.pipeline.cli.options import AsJson, Quiet
from edgedl.pipeline.cli.output import output


def command(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the architecture families and their settings."""
    with output(as_json, quiet) as say:
        from edgedl.models import FAMILIES

        rows = []
        for family in FAMILIES:
            name = family.model_fields["family"].default
            fields = {key: field for key, field in family.model_fields.items() if key != "family"}
            settings = ", ".join(
                f"{key}={field.get_default(call_default_factory=True)}" for key, field in fields.items()
            )
            rows.append((name, (family.__doc__ or "").splitlines()[0], settings))
        say.data([{"family": name, "summary": summary, "settings": settings} for name, summary, settings in rows])
        say.table(("family", "what", "settings with defaults"), rows)
