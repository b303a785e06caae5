"""edgedl inspect: what a model file is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedl.pipeline.cli.options import AsJson, Builder, CustomObjects, Quiet, Trust
from edgedl.pipeline.cli.output import output, size


def command(
    file: Annotated[Path, typer.Argument(help="A Keras, TFLite or ONNX file, or a SavedModel folder.")],
    builder: Builder = None,
    custom_objects: CustomObjects = None,
    trust: Trust = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what a file is: inputs, outputs, layers or ops, parameters, MACs, bytes, precision."""
    with output(as_json, quiet) as say:
        from edgedl.core.artifacts import to_json
        from edgedl.export.inspect import inspect_file
        from edgedl.models import LoadOptions

        options = LoadOptions(builder=builder, custom_objects=tuple(custom_objects or ()), trust=trust)
        facts = inspect_file(file, options)
        say.data(to_json(facts))
        say.line(f"{facts.file}: {facts.kind}, {facts.precision}")
        zeros = f" ({facts.sparsity:.0%} zeros)" if facts.sparsity else ""
        say.line(
            f"{facts.parameters:,} parameters{zeros}, {facts.macs:,} MACs per example, "
            f"{size(facts.size_bytes)} ({size(facts.gzip_bytes)} gzipped)"
        )
        for what, specs in (("input", facts.inputs), ("output", facts.outputs)):
            for one in specs:
                scale = f", scale {one.scale:.6g}, zero point {one.zero_point}" if one.scale else ""
                say.line(f"{what} {one.name}: {one.dtype} {list(one.shape)}{scale}")
        for key, value in facts.metadata.items():
            say.line(f"{key}: {value if len(value) < 200 else value[:200] + ' …'}")
        for note in facts.notes:
            say.line(f"note: {note}")
        rows = [
            (
                f"{op.index} {op.op}",
                op.layer or "–",
                op.precision,
                "×".join(map(str, op.output_shape)) or "scalar",
                f"{op.macs:,}",
                f"{op.parameters:,}",
                size(op.weight_bytes),
            )
            for op in facts.ops
        ]
        say.table(("op", "layer", "precision", "output", "MACs", "parameters", "weights"), rows)
