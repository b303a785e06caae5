"""edgedl init: a commented recipe to begin with."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from edgedl.pipeline.cli.options import AsJson, Quiet
from edgedl.pipeline.cli.output import output


def command(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a recipe with every key explained. Asks only on a terminal, and only before replacing a file."""
    import sys

    from edgedl.core.errors import OutputError
    from edgedl.core.files import write_atomically

    with output(as_json, quiet) as say:
        if path.exists() and not force:
            asked = sys.stdin.isatty() and sys.stdout.isatty() and typer.confirm(f"{path} exists; replace it?")
            if not asked:
                raise OutputError(f"{path} exists already", advice="Choose another name, or give --force")
        write_atomically(path, resources.files("edgedl.pipeline").joinpath("recipe_template.yaml").read_text())
        say.data({"written": str(path)})
        say.line(f"written: {path}; next: edgedl run {path}")
