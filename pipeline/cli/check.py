"""edgedl check: slower, bigger or worse than before?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedl.pipeline.cli.options import AsJson, Data, Quiet, Seed, Threads
from edgedl.pipeline.cli.output import output


def command(
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The candidate, a .tflite or .onnx file.")],
    against: Annotated[Path, typer.Option(metavar="OLD", help="The baseline file.")],
    max_slowdown: Annotated[str, typer.Option(help="Limit on the ratio of latencies, as 5% or 0.05; `none`.")] = "5%",
    max_size_growth: Annotated[str, typer.Option(help="Limit on the growth of the file, as 1% or 0.01.")] = "none",
    max_accuracy_drop: Annotated[
        float | None, typer.Option(help="Points of accuracy that may be lost; needs --data.", min=0)
    ] = None,
    data: Data = None,
    device: Annotated[str, typer.Option(help="`edgedl devices` lists them.")] = "cpu",
    budget_s: Annotated[float, typer.Option("--budget-s", help="Seconds of sampling, at most.", min=0.5)] = 30.0,
    threads: Threads = 1,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the verdict as JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the verdict for a pull request's comment.")
    ] = None,
    sarif: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write it as SARIF, for code scanning.")
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare two files side by side; exit code 0 pass or improved, 1 regressed, 4 inconclusive."""
    with output(as_json, quiet) as say:
        from edgedl.core.artifacts import to_json
        from edgedl.core.files import write_atomically
        from edgedl.pipeline.check import exit_code, explanation_in_words, to_junit, to_markdown, to_sarif
        from edgedl.pipeline.verbs import check

        verdict = check(
            new,
            against,
            max_slowdown=share("--max-slowdown", max_slowdown),
            max_size_growth=share("--max-size-growth", max_size_growth),
            max_accuracy_drop=max_accuracy_drop,
            data=data,
            device=device,
            budget_s=budget_s,
            threads=threads,
            seed=seed,
        )
        for path, written in ((junit, to_junit), (markdown, to_markdown), (sarif, to_sarif)):
            if path is not None:
                write_atomically(path, written(verdict))
        say.data(to_json(verdict))
        say.line(f"{verdict.outcome}: {verdict.new} against {verdict.old}")
        for finding in verdict.findings:
            say.line(f"  {finding.what}: {finding.outcome}: {finding.sentence}")
        for line in explanation_in_words(verdict):
            say.line(f"  where: {line}")
        raise typer.Exit(exit_code(verdict))


def share(option: str, text: str) -> float | None:
    """ "5%" or "0.05" as 0.05; "none" as None. Raises ConfigError."""
    if text == "none":
        return None
    from edgedl.core.errors import ConfigError

    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 100:
        raise ConfigError(f"{option} cannot be read", required="a share such as 5% or 0.05, or none", received=text)
    return value
