"""edgedl profile: latency, memory and the time of each op, on one or several devices."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgedl.pipeline.cli.options import AsJson, Quiet, Seed, Threads
from edgedl.pipeline.cli.output import output, split_list


def command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help=".tflite or .onnx files; ratios are to the first.")
    ],
    device: Annotated[str, typer.Option(metavar="D[,D…]", help="`edgedl devices` lists them.")] = "cpu",
    budget_s: Annotated[float, typer.Option("--budget-s", help="Seconds per device, for all files.", min=0.5)] = 10.0,
    threads: Threads = 1,
    xnnpack: Annotated[bool, typer.Option(help="LiteRT's optimised kernels, as apps use them.")] = True,
    ops: Annotated[int, typer.Option(metavar="N", help="Show the N costliest ops of each file.", min=0)] = 5,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure files on devices: on each, all files interleaved in one session."""
    with output(as_json, quiet) as say:
        from edgedl.core.artifacts import LatencyReport, to_json
        from edgedl.pipeline.cli.words import cost_words, latency_matrix, latency_table
        from edgedl.pipeline.matrix import profile_on_all

        devices = split_list("--device", device)
        found = profile_on_all(list(files), devices, budget_s=budget_s, threads=threads, xnnpack=xnnpack, seed=seed)
        reports = [one for one in found if isinstance(one, LatencyReport)]
        refused = {name: one for name, one in zip(devices, found, strict=True) if not isinstance(one, LatencyReport)}
        if not reports:
            raise next(iter(refused.values()))
        failures = [
            {"device": name, "error": str(error), "exit_code": int(error.exit_code)} for name, error in refused.items()
        ]
        say.data([*(to_json(report) for report in reports), *failures])
        for report in reports:
            latency_table(say, report)
            for model in report.models:
                costliest = sorted(model.ops, key=lambda op: -op.cost)[:ops]
                rows = [
                    (f"{op.index} {op.op}", op.layer or "unknown", op.runs_on, cost_words(op), f"{op.share:.1%}")
                    for op in costliest
                ]
                if rows:
                    say.table(
                        ("op", "layer", "on", "cost", "share"),
                        rows,
                        title=f"{model.file}: costliest of {len(model.ops)} ops",
                    )
                for note in model.notes:
                    say.line(f"{model.file}: {note}")
        if len(devices) > 1:
            latency_matrix(say, reports)
        for name, error in refused.items():
            print(f"edgedl: {name}: {error}", file=sys.stderr)
        if refused:
            raise typer.Exit(max(error.exit_code for error in refused.values()))
