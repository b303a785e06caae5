"""edgedl run: the whole pipeline on one recipe."""

from __future__ import annotations

import typer

from edgedl.core.artifacts import LatencyReport, Run
from edgedl.pipeline.cli.options import AsJson, Out, Quiet, RecipePath, Settings
from edgedl.pipeline.cli.output import Output, output, size


def command(
    recipe: RecipePath, set: Settings = None, out: Out = None, as_json: AsJson = False, quiet: Quiet = False
) -> None:
    """Train, compress, export, verify, profile, check and report; what is unchanged is used again."""
    with output(as_json, quiet) as say:
        from edgedl.pipeline.recipe import read_recipe
        from edgedl.pipeline.report.facts import report_facts
        from edgedl.pipeline.run import exit_code
        from edgedl.pipeline.verbs import run

        done = run(read_recipe(recipe, set or []), out=out)
        say.data(report_facts(done))
        _summary(say, done)
        raise typer.Exit(exit_code(done))


def _summary(say: Output, run) -> None:
    from edgedl.pipeline.audit.words import audit_lines
    from edgedl.pipeline.cli.words import quality_words, ratio_words, speed_words

    assert isinstance(run, Run)
    latencies = {model.file: report.speed(model) for report in run.latency[:1] for model in report.models}
    parity = {report.file: report for report in run.parity}
    rows = []
    for one in run.exported:
        speed, same = latencies.get(one.model_file), parity.get(one.model_file)
        rows.append(
            (
                f"{one.name} {one.format}",
                size(one.size_bytes),
                size(one.gzip_bytes),
                quality_words(one.quality),
                speed_words(speed),
                ratio_words(speed.ratio) if speed else "–",
                "–" if same is None else "same" if same.passed else "DIFFERS",
            )
        )
    metric = run.trained.quality.metric if run.trained.quality else "quality"
    say.table(("variant", "size", "gzip", metric, "latency", "ratio", "answers"), rows)
    if run.trained.quality is not None:
        quality = run.trained.quality
        say.line(
            f"{quality.metric} {quality.obtained} on {quality.n} {quality.split} examples, 95 % intervals in brackets"
        )
    for report in run.latency:
        say.line(_latency_words(report))
    for verdict in run.verdicts:
        for finding in verdict.findings:
            say.line(f"check {verdict.new}: {finding.outcome}: {finding.sentence}")
    for audit in run.audits:
        for sentence in audit_lines(audit):
            say.line(f"{audit.name}: {sentence}")
    for note in run.notes:
        say.line(f"note: {note}")
    if run.reused:
        say.line(f"unchanged and not done again: {len(run.reused)} results in {run.folder}")
    say.line(f"report: {run.folder / 'report.html'}")


def _latency_words(report: LatencyReport) -> str:
    if not any(report.speed(model) for model in report.models):
        return f"no latency on {report.device} ({report.hardware}): {report.stopped}"
    how = f"latency {report.obtained} on {report.device} ({report.hardware})"
    samples = [model.timing.n for model in report.models if model.timing]
    if not samples:
        return how
    return (
        f"{how}: 10th percentiles, files interleaved in {report.processes} processes, {min(samples):,} inferences each "
        "or more"
    )
