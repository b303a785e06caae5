"""edgedl sensitivity: which layers int8 hurts."""

from __future__ import annotations

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
    Seed,
    TimeLimit,
    Trust,
    model_argument,
)
from edgedl.pipeline.cli.output import output


def command(
    model: ModelOrRun,
    data: Data = None,
    calibration: Annotated[int, typer.Option(metavar="N", help="Examples to calibrate with.", min=1)] = 200,
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
    """What each layer costs when it alone is int8, on the validation split; a table and a picture."""
    with output(as_json, quiet) as say:
        from edgedl.core.artifacts import to_json
        from edgedl.core.isolation import Limits
        from edgedl.pipeline.verbs import sensitivity

        given = model_argument(model, builder, custom_objects, trust)
        found = sensitivity(
            given,
            data=data,
            calibration=calibration,
            out=out,
            seed=seed,
            limits=Limits(time_limit, memory_limit),
        )
        say.data({"folder": str(found.folder), **to_json(found)})
        rows = [
            (
                row.layer,
                ", ".join(row.ops),
                f"{row.lost:+.3g}",
                f"[{row.change.interval.low:+.2g}, {row.change.interval.high:+.2g}]",
                _decibels(row.sqnr_db),
            )
            for row in found.rows
        ]
        before = found.plain.before
        unit = "loss, points" if before.is_share else f"growth of the {before.metric}, %"
        change = "95 %" if before.is_share else f"change of the {before.metric}, 95 %"
        say.table(("layer alone in int8", "ops", unit, change, "SQNR of the output"), rows)
        say.line(f"all in int8: {found.plain_lost:+.3g}, {_decibels(found.plain_sqnr_db)}")
        say.line(f"{found.obtained} on {found.n:,} validation examples, against the float32 file")
        for one in found.skipped:
            say.line(f"{one.layer} ({one.kind}): {one.reason}")
        say.line(str(found.folder / found.picture))


def _decibels(value: float | None) -> str:
    return "∞" if value is None else f"{value:.1f} dB"
