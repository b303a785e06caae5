"""edgedl recipe-schema: for editors."""

from __future__ import annotations

from edgedl.pipeline.cli.options import AsJson, Quiet


def command(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Print the JSON schema of a recipe; it is JSON with and without --json."""
    from edgedl.pipeline.recipe import recipe_schema

    print(recipe_schema())
