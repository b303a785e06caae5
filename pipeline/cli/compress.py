"""edgedl compress: variants of a model by one or several techniques."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from edgedl.pipeline.cli.options import (
    AsJson,
    Builder,
    CustomObjects,
    Data,
    MemoryLimit,
    ModelOrRun,
    Out,
    Quiet,
    Seed,
    TimeLimit,
    Trust,
    model_argument,
)
from edgedl.pipeline.cli.output import output, size, split_list


def command(
    model: ModelOrRun,
    method: Annotated[str, typer.Option(metavar="M[,M…]", help="dynamic-range, float16, int8, int16x8.")],
    data: Data = None,
    io: Annotated[
        str | None, typer.Option(help="Type of inputs and outputs of int8 and int16x8: integer or float.")
    ] = None,
    calibration: Annotated[int | None, typer.Option(metavar="N", help="Examples to calibrate with.", min=1)] = None,
    out: Out = None,
    seed: Seed = 0,
    time_limit: TimeLimit = 900.0,
    memory_limit: MemoryLimit = None,
    builder: Builder = None,
    custom_objects: CustomObjects = None,
    trust: Trust = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a smaller or faster variant, judged on the TFLite file that an app would ship."""
    with output(as_json, quiet) as say:
        from edgedl.core.artifacts import to_json
        from edgedl.core.isolation import Limits
        from edgedl.pipeline.cli.words import loss_words, quality_words
        from edgedl.pipeline.verbs import as_technique, compress

        options: dict[str, Any] = {"io": io} if io else {}
        if calibration:
            options["calibration"] = {"n": calibration}
        techniques = [as_technique({"method": name, **options}) for name in split_list("--method", method)]
        given = model_argument(model, builder, custom_objects, trust)
        found = [
            compress(given, one, data=data, out=out, seed=seed, limits=Limits(time_limit, memory_limit))
            for one in techniques
        ]
        say.data([{"folder": str(one.folder), **to_json(one)} for one in found])
        rows = [
            (
                one.name,
                f"{size(one.size_bytes)} ({one.size_bytes / one.float_size_bytes:.0%})",
                f"{size(one.gzip_bytes)} ({one.gzip_bytes / one.float_gzip_bytes:.0%})",
                quality_words(one.quality.after if one.quality else None),
                loss_words(one.quality),
                f"{one.integer_ops:.0%}",
                str(one.folder / one.model_file),
            )
            for one in found
        ]
        say.table(("variant", "size (of float32)", "gzip", "quality", "loss", "integer ops", "file"), rows)
        for one in found:
            for op in one.float_ops:
                say.line(f"{one.name}: op {op.index} {op.op} (layer {op.layer or 'unknown'}) stays float: {op.reason}")
            for note in one.notes:
                say.line(f"{one.name}: {note}")
