"""edgedl export: files that an app ships."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    TimeLimit,
    Trust,
    model_argument,
)
from edgedl.pipeline.cli.output import output, size, split_list


def command(
    model: ModelOrRun,
    to: Annotated[
        str,
        typer.Option(
            metavar="F[,F…]",
            help="tflite, onnx, saved-model, coreml, c-array, front-end; or NAME:TARGET of a device that compiles.",
        ),
    ] = "tflite",
    variant: Annotated[str | None, typer.Option(help="Only this variant of a run; all unless given.")] = None,
    data: Data = None,
    batch: Annotated[str, typer.Option(help="Static batch size, or `dynamic`.")] = "1",
    out: Out = None,
    time_limit: TimeLimit = 900.0,
    memory_limit: MemoryLimit = None,
    builder: Builder = None,
    custom_objects: CustomObjects = None,
    trust: Trust = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the model, and the compressed variants of a run, in the formats asked for."""
    with output(as_json, quiet) as say:
        from edgedl.core.artifacts import to_json
        from edgedl.core.errors import ConfigError
        from edgedl.core.isolation import Limits
        from edgedl.pipeline.cli.words import quality_words
        from edgedl.pipeline.export import refusal
        from edgedl.pipeline.verbs import export, variants_of

        if batch != "dynamic" and not (batch.isdecimal() and int(batch)):
            raise ConfigError("--batch cannot be read", required="a number from 1, or dynamic", received=batch)
        size_of_batch = None if batch == "dynamic" else int(batch)
        formats = split_list("--to", to)
        for format in formats:
            refusal(None, format)
        given = model_argument(model, builder, custom_objects, trust)
        found = []
        for one in variants_of(Path(model), variant):
            for format in formats:
                reason = refusal(one, format)
                if reason is not None:
                    say.line(f"skipped: {reason}")
                    continue
                limits = Limits(time_limit, memory_limit)
                found.append(export(one or given, format, data=data, out=out, batch=size_of_batch, limits=limits))
        say.data([{"folder": str(one.folder), **to_json(one)} for one in found])
        rows = [
            (str(one.model_path), one.precision, size(one.size_bytes), size(one.gzip_bytes), quality_words(one.quality))
            for one in found
        ]
        say.table(("file", "precision", "size", "gzip", "quality"), rows)
        for one in found:
            for note in one.notes:
                say.line(f"{one.model_path.name}: {note}")
