"""edgedl init: a commented recipe to begin with."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from edgedl.pipeline.cli.options import AsJson, Quiet
from edgedl.pipeline.cli.output import output


def command(
    path: Annotated[Path | None, typer.Argument(help="Where to write it.", show_default="recipe.yaml")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Instead, a latency.yaml for the model files below this folder.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a recipe with every key explained. Asks only on a terminal, and only before replacing a file."""
    import shlex
    import sys

    from edgedl.core.errors import OutputError
    from edgedl.core.files import write_atomically

    with output(as_json, quiet) as say:
        path = path or Path("latency.yaml" if check else "recipe.yaml")
        text = _latency_yaml(path) if check else _recipe()
        if path.exists() and not force:
            asked = sys.stdin.isatty() and sys.stdout.isatty() and typer.confirm(f"{path} exists; replace it?")
            if not asked:
                raise OutputError(f"{path} exists already", advice="Choose another name, or give --force")
        write_atomically(path, text)
        say.data({"written": str(path)})
        options = [] if str(path) == "latency.yaml" else ["--config", str(path)]
        then = shlex.join(["edgedl", "check", *options] if check else ["edgedl", "run", str(path)])
        say.line(f"written: {path}; next: {then}")


def _recipe() -> str:
    return resources.files("edgedl.pipeline").joinpath("recipe_template.yaml").read_text()


def _latency_yaml(path: Path) -> str:
    """For the models below the folder where it will lie. Raises ConfigError when there is none."""
    from edgedl.core.errors import ConfigError
    from edgedl.core.git import commit_of
    from edgedl.pipeline.check.latency_yaml import models_below, template

    folder = path.resolve().parent
    models = models_below(folder)
    if not models:
        raise ConfigError(f"there is no model below {folder}", required="at least one .tflite or .onnx file")
    return template(models, in_git=commit_of(folder) is not None)
