"""Options that several commands share, so that they read alike everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

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
