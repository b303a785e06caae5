"""edgedl recipe-schema: for editors."""

from __future__ import annotations


def command() -> None:
    """Print the JSON schema of a recipe."""
    from edgedl.pipeline.recipe import recipe_schema

    print(recipe_schema())
