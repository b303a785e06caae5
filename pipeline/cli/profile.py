"""edgedl profile: latency, memory and the time of each op, on one or several devices."""

from __future__ import annotations

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
    """Measure files on a device, interleaved in one session."""
    with output(as_json, quiet) as say:
        from edgedl.core.artifacts import to_json
        from edgedl.devices import find_device
        from edgedl.pipeline.cli.words import cost_words, latency_table
        from edgedl.pipeline.verbs import profile

        devices = split_list("--device", device)
        for name in devices:
            find_device(name)  # none is measured on before all are known
        reports = [
            profile(list(files), device=name, budget_s=budget_s, threads=threads, xnnpack=xnnpack, seed=seed)
            for name in devices
        ]
        say.data([to_json(report) for report in reports])
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
