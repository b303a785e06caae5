"""edgedl compress: variants of a model by one or several techniques, or the best one within a budget."""

from __future__ import annotations

from collections.abc import Mapping
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
    method: Annotated[
        str | None,
        typer.Option(
            metavar="M[,M…]",
            help="Techniques, each with settings and with what follows: int8,prune:sparsity=0.75+int8. "
            "`edgedl recipe-schema` describes them.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="LIMITS",
            help="Search for the best variant within: size<=60KB, latency<=0.5x, accuracy_drop<=0.5; also gzip, macs, "
            "parameters, instructions, loss.",
        ),
    ] = None,
    minimise: Annotated[
        str | None, typer.Option(metavar="QUANTITY", help="With --budget: what to make small within the limits.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(metavar="N", help="With --budget: candidates to try [30].", min=1)
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(metavar="M", help="With --budget: begin no candidate after so long.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL|FILE",
            help="With --budget: Optuna storage that several processes share, each with an --out of its own.",
        ),
    ] = None,
    data: Data = None,
    io: Annotated[
        str | None, typer.Option(help="Type of inputs and outputs of int8 and int16x8: integer or float.")
    ] = None,
    calibration: Annotated[int | None, typer.Option(metavar="N", help="Examples to calibrate with.", min=1)] = None,
    audit: Annotated[
        bool, typer.Option(help="Compare with the uncompressed model beyond its accuracy, where there is data.")
    ] = True,
    audit_limits: Annotated[
        str | None,
        typer.Option(metavar="KEY=N[,…]", help="Limits of the audit, e.g. per_class_drop=3,changed=2,fgsm_drop=5."),
    ] = None,
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
    """Make a smaller or faster variant, judged on the TFLite file that an app would ship; or search for one."""
    asked = {"--minimise": minimise, "--trials": trials, "--minutes": minutes, "--storage": storage}
    _check_use(method, budget, asked, {"--io": io, "--calibration": calibration})
    with output(as_json, quiet) as say:
        if budget is not None:
            from edgedl.core.isolation import Limits
            from edgedl.pipeline.cli.budget import search_within

            given: dict[str, Any] = {"data": data, "out": out, "seed": seed, "minutes": minutes, "storage": storage}
            given |= {"limits": Limits(time_limit, memory_limit)} | ({"trials": trials} if trials else {})
            search_within(say, lambda: model_argument(model, builder, custom_objects, trust), budget, minimise, given)
            return
        assert method is not None
        from edgedl.core.artifacts import to_json
        from edgedl.core.errors import ConfigError
        from edgedl.core.isolation import Limits
        from edgedl.pipeline.audit.words import audit_lines, failures
        from edgedl.pipeline.cli.words import quality_words
        from edgedl.pipeline.compress.words import loss_words, step_words
        from edgedl.pipeline.run import worst
        from edgedl.pipeline.verbs import as_technique, compress
        from edgedl.pipeline.verbs import audit as look_closer

        if audit_limits is not None and not audit:
            raise ConfigError("--no-audit and --audit-limits contradict each other")
        options: dict[str, Any] = {"io": io} if io else {}
        if calibration:
            options["calibration"] = {"n": calibration}
        techniques = [as_technique(_with(options, name)) for name in split_list("--method", method)]
        chosen = model_argument(model, builder, custom_objects, trust)
        found = [
            compress(chosen, one, data=data, out=out, seed=seed, limits=Limits(time_limit, memory_limit))
            for one in techniques
        ]
        config = _audit_config(audit_limits)
        audits = {
            one.folder: look_closer(one, config, data=data, limits=Limits(time_limit, memory_limit))
            for one in found
            if audit and (one.quality is not None or config is not None)
        }
        said = {folder: {"audit": to_json(one)} for folder, one in audits.items()}
        say.data([{"folder": str(one.folder), **to_json(one), **said.get(one.folder, {})} for one in found])
        rows = [
            (
                one.name,
                f"{size(one.size_bytes)} ({one.size_bytes / one.float_size_bytes:.0%})",
                f"{size(one.gzip_bytes)} ({one.gzip_bytes / one.float_gzip_bytes:.0%})",
                f"{one.macs:,} ({one.macs / max(1, one.float_macs):.0%})",
                quality_words(one.quality.after if one.quality else None),
                loss_words(one.quality),
                f"{one.integer_ops:.0%}",
                str(one.folder / one.model_file),
            )
            for one in found
        ]
        headings = ("variant", "size (of float32)", "gzip", "MACs", "quality", "loss", "integer ops", "file")
        say.table(headings, rows)
        for one in found:
            for step in one.steps:
                for sentence in step_words(step):
                    say.line(f"{one.name}: {sentence}")
            for op in one.float_ops:
                say.line(f"{one.name}: op {op.index} {op.op} (layer {op.layer or 'unknown'}) stays float: {op.reason}")
            for note in one.notes:
                say.line(f"{one.name}: {note}")
            for sentence in audit_lines(audits[one.folder]) if one.folder in audits else ():
                say.line(f"{one.name}: {sentence}")
        for one in audits.values():
            for outcome in ("regressed", "inconclusive"):
                for sentence in failures(one, outcome):
                    say.line(f"audit {outcome}: {sentence}")
        raise typer.Exit(worst(one.outcome for one in audits.values()))


def _audit_config(limits: str | None) -> dict[str, Any] | None:
    """The run's own configuration (None), or one with these limits."""
    if limits is None:
        return None
    from edgedl.core.config import apply_settings

    return {"limits": apply_settings({}, split_list("--audit-limits", limits))}


def _check_use(
    method: str | None, budget: str | None, for_budget: Mapping[str, object], for_method: Mapping[str, object]
) -> None:
    """Raise ConfigError unless exactly one way is asked for, with its own options."""
    from edgedl.core.errors import ConfigError

    if method is None and budget is None:
        raise ConfigError("Missing option '--method' or '--budget'", advice="See `edgedl compress --help`")
    if method is not None and budget is not None:
        raise ConfigError("--method and --budget exclude each other", required="one of them")
    other, options = ("--budget", for_budget) if budget is None else ("--method", for_method)
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"{name} goes with {other} only")


def _with(options: dict[str, Any], words: str) -> dict[str, Any]:
    """A chain in words, with the options of the command line in its last technique."""
    from edgedl.pipeline.compress import technique_in_words

    section = dict(technique_in_words(words))
    last = section
    while last.get("then"):
        last = last["then"][-1]
    last |= options
    return section
