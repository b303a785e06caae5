"""Options that several commands share, so that they read alike everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from edgedl.models import ModelFileSection

MAX_THREADS = 256
"""LiteRT starts as many as it is told to, and falls over its own stack beyond some thousands."""

AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output; logs go to standard error.")
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but the result.")]
RecipePath: TypeAlias = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe; `edgedl init` writes one.")]
Settings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe, e.g. train.epochs=3; repeatable."),
]
Out: TypeAlias = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The run's folder [runs/NAME].")]
ModelOrRun: TypeAlias = Annotated[
    str, typer.Argument(metavar="MODEL|RUN", help="Any Keras file, or a folder that an earlier command wrote.")
]
Builder: TypeAlias = Annotated[
    str | None, typer.Option(metavar="MODULE:FUNCTION", help="Builds the model whose weights MODEL holds.")
]
CustomObjects: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="MODULE:NAME", help="A layer class that MODEL uses and Keras has not; repeatable."),
]
Trust: TypeAlias = Annotated[
    bool, typer.Option("--trust", help="Run code that is in MODEL. Only for files whose author you trust.")
]
Data: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE", help="Data to calibrate and judge with: digits, npz:FILE, csv:FILE:TARGET, RECIPE …"
    ),
]
Seed: TypeAlias = Annotated[int, typer.Option(help="Seed of everything random.", min=0)]
TimeLimit: TypeAlias = Annotated[float, typer.Option(metavar="S", help="Seconds a converter may take.", min=1)]
MemoryLimit: TypeAlias = Annotated[
    float | None, typer.Option(metavar="MB", help="Memory a converter may use; no limit unless given.", min=1)
]
Threads: TypeAlias = Annotated[int, typer.Option(help="Threads the runtime may use.", min=1, max=MAX_THREADS)]


def model_argument(
    model: str, builder: str | None, custom_objects: list[str] | None, trust: bool
) -> str | ModelFileSection:
    """MODEL as the verbs take it: a file with what else the user said about it."""
    if builder is None and not custom_objects and not trust:
        return model
    from edgedl.models import ModelFileSection

    return ModelFileSection(file=Path(model), builder=builder, custom_objects=tuple(custom_objects or ()), trust=trust)
