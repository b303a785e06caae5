"""edgedl run: the whole pipeline on one recipe."""

from __future__ import annotations

import typer

from edgedl.pipeline.cli.options import AsJson, Out, Quiet, RecipePath, Settings
from edgedl.pipeline.cli.output import Output, output, size


def command(
    recipe: RecipePath, set: Settings = None, out: Out = None, as_json: AsJson = False, quiet: Quiet = False
) -> None:
    """Train, compress, export, verify, profile, check and report; what is unchanged is used again."""
    with output(as_json, quiet) as say:
        from edgedl.pipeline.recipe import read_recipe
        from edgedl.pipeline.report import facts_of_run
        from edgedl.pipeline.run import exit_code
        from edgedl.pipeline.verbs import run

        done = run(read_recipe(recipe, set or []), out=out)
        say.data(facts_of_run(done))
        _summary(say, done)
        raise typer.Exit(exit_code(done))


def _summary(say: Output, run) -> None:
    from edgedl.core.artifacts import Run
    from edgedl.pipeline.cli.words import quality_words, ratio_words, time_words

    assert isinstance(run, Run)
    latencies = {model.file: model for report in run.latency for model in report.models}
    parity = {report.file: report for report in run.parity}
    rows = []
    for one in run.exported:
        model, same = latencies.get(one.model_file), parity.get(one.model_file)
        rows.append(
            (
                one.model_file,
                size(one.size_bytes),
                size(one.gzip_bytes),
                quality_words(one.quality),
                time_words(model.median_us) if model else "–",
                ratio_words(model) if model else "–",
                "–" if same is None else "same" if same.passed else "DIFFERS",
            )
        )
    title = run.trained.quality.metric if run.trained.quality else "quality"
    say.table(("file", "size", "gzip", title, "median", "ratio of p10", "answers"), rows)
    for report in run.latency:
        say.line(
            f"latency {report.obtained} on {report.device} ({report.hardware}), files interleaved in "
            f"{report.processes} processes; 95 % intervals"
        )
    for verdict in run.verdicts:
        for finding in verdict.findings:
            say.line(f"check {verdict.new}: {finding.outcome}: {finding.sentence}")
    for note in run.notes:
        say.line(f"note: {note}")
    if run.reused:
        say.line(f"used again: {len(run.reused)} results of {run.folder}")
    say.line(f"report: {run.folder / 'report.html'}")
