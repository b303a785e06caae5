"""edgedl verify: the same answers as the Keras model?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedl.core.errors import ExitCode
from edgedl.pipeline.cli.options import AsJson, Builder, CustomObjects, Data, Quiet, Seed, Trust, model_argument
from edgedl.pipeline.cli.output import output


def command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help=".tflite or .onnx files.")],
    against: Annotated[str, typer.Option(metavar="MODEL|RUN", help="The Keras model they were made from.")],
    data: Data = None,
    seed: Seed = 0,
    builder: Builder = None,
    custom_objects: CustomObjects = None,
    trust: Trust = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare exported files with their Keras model on the same inputs; exit code 1 when one differs."""
    with output(as_json, quiet) as say:
        from edgedl.core.artifacts import to_json
        from edgedl.pipeline.verbs import verify

        given = model_argument(against, builder, custom_objects, trust)
        reports = [verify(file, given, data=data, seed=seed) for file in files]
        say.data([to_json(report) for report in reports])
        rows = [
            (
                report.file,
                one.name,
                f"{one.max_abs_error:.3g}",
                f"{one.relative_error:.2g}",
                "∞" if one.sqnr_db is None else f"{one.sqnr_db:.1f} dB",
                "–" if one.agreement is None else f"{one.agreement:.1%}",
                "same" if report.passed else "DIFFERS",
            )
            for report in reports
            for one in report.outputs
        ]
        say.table(("file", "output", "largest error", "relative", "SQNR", "same answer", "verdict"), rows)
        for report in reports:
            say.line(f"{report.file}: measured on {report.examples}; judged by {report.judged_by}")
            for failure in report.failures:
                say.line(f"{report.file}: {failure}")
        raise typer.Exit(ExitCode.FINE if all(report.passed for report in reports) else ExitCode.CHECK_FAILED)
