"""edgedl report: the report of a finished run, made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedl.pipeline.cli.options import AsJson, Quiet
from edgedl.pipeline.cli.output import output


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `edgedl run` wrote.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write report.html and report.json of a run again."""
    with output(as_json, quiet) as say:
        from edgedl.pipeline.report import write_report
        from edgedl.pipeline.report.facts import report_facts
        from edgedl.pipeline.run import load_run

        finished = load_run(run)
        path = write_report(finished)
        say.data(report_facts(finished))
        say.line(f"report: {path}")
