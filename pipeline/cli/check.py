"""edgedl check: slower, bigger or worse than before?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedl.pipeline.cli.options import AsJson, Data, Quiet, Seed, Threads
from edgedl.pipeline.cli.output import Output, output, split_list

if TYPE_CHECKING:
    from edgedl.core.artifacts import Checked, Gate
    from edgedl.pipeline.check.gate import Question


def command(
    context: typer.Context,
    new: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[NEW…]", help="Candidates, .tflite or .onnx; without any, all of latency.yaml."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="OLD",
            help="The old file; git:REVISION (NEW as it was there); a baseline (.json); a folder with either. "
            "Without it, what latency.yaml says of NEW.",
        ),
    ] = None,
    max_slowdown: Annotated[
        str, typer.Option(help="As 5% or 0.05; auto: 5 % where it is timed, 1 % where instructions are counted; none.")
    ] = "auto",
    max_size_growth: Annotated[str, typer.Option(help="Of the file, as 1% or 0.01.")] = "none",
    max_memory_growth: Annotated[str, typer.Option(help="Of peak memory, or of the arena, as 5%.")] = "none",
    max_macs_growth: Annotated[str, typer.Option(help="Of multiply–accumulates, as 1%.")] = "none",
    max_added_ops: Annotated[int | None, typer.Option(help="Ops that may be added.", min=0)] = None,
    max_added_boundaries: Annotated[
        int | None, typer.Option(help="QUANTIZE and DEQUANTIZE ops that may be added.", min=0)
    ] = None,
    max_added_cpu_ops: Annotated[
        int, typer.Option(help="Ops that may fall from the accelerator to the CPU.", min=0)
    ] = 0,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(help="Points of accuracy that may be lost; needs --data.", min=0)
    ] = None,
    max_output_change: Annotated[
        str, typer.Option(help="Of an output on random inputs, as a share of the largest.")
    ] = "none",
    data: Data = None,
    device: Annotated[str, typer.Option(help="One, or several as a,b; `edgedl devices` lists them.")] = "cpu",
    budget_s: Annotated[float, typer.Option("--budget-s", help="Seconds of sampling, at most.", min=0.5)] = 30.0,
    threads: Threads = 1,
    config: Annotated[Path, typer.Option(metavar="FILE", help="Another latency.yaml.")] = Path("latency.yaml"),
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Accept NEW: show what changed, then write the baseline.")
    ] = False,
    history: Annotated[Path | None, typer.Option(metavar="FILE", help="Append a line to this history.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a pull request's comment.")] = None,
    sarif: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write SARIF, for code scanning.")] = None,
    code_quality: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write GitLab's code-quality report.")
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare new files with old ones, side by side. Exit code 0 pass or improved, 1 regressed, 4 inconclusive.

    `edgedl check` alone checks what latency.yaml names (`edgedl init --check` writes one); `edgedl check history` finds
    the commits that changed a figure.
    """
    with output(as_json, quiet) as say:
        from edgedl.core.artifacts import Verdict, to_json
        from edgedl.core.files import write_atomically
        from edgedl.pipeline.check import gate, words

        given = _given(context, SETTINGS)
        _check_limits(given)
        devices = split_list("--device", device)
        if against is not None and new:
            asked = gate.named(new, against, devices, given)
        else:
            asked, listed_history = gate.listed(
                config, new or (), devices if _is_given(context, "device") else (), given, against
            )
            history = history or listed_history

        def answer(one: Question) -> Verdict:
            return (
                gate.accept(one, seed=seed) if update_baseline else gate.check_one(one, seed=seed, history_file=history)
            )

        found, errors = gate.on_all(asked, answer)
        for path, written in (
            (junit, words.to_junit),
            (markdown, words.to_markdown),
            (sarif, words.to_sarif),
            (code_quality, words.to_code_quality),
        ):
            if path is not None:
                write_atomically(path, written(found).encode(errors="backslashreplace"))  # a name may be no text
        if errors and len(asked) == 1:
            raise errors[0]
        only = found.checked[0].verdict if len(asked) == 1 else None
        say.data(to_json(only or found))
        for one in found.checked:
            _say(say, one)
        if len(asked) > 1:
            _matrix(say, found)
        raise typer.Exit(gate.gate_exit_code(found))


SETTINGS = (
    "max_slowdown",
    "max_size_growth",
    "max_memory_growth",
    "max_macs_growth",
    "max_added_ops",
    "max_added_boundaries",
    "max_added_cpu_ops",
    "max_accuracy_drop",
    "max_output_change",
    "data",
    "budget_s",
    "threads",
)


def _given(context: typer.Context, names: Iterable[str]) -> dict[str, Any]:
    """The options among `names` that stand on the command line; they go before those of latency.yaml."""
    return {name: context.params[name] for name in names if _is_given(context, name)}


def _check_limits(given: dict[str, Any]) -> None:
    """Raises ConfigError naming the option, before anything runs."""
    from edgedl.core.config import check
    from edgedl.pipeline.check.limits import Limits

    for name in Limits.model_fields:
        if name in given:
            check(Limits, {name: given[name]}, source=f"--{name.replace('_', '-')}")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _say(say: Output, checked: Checked) -> None:
    from edgedl.pipeline.check.words import verdict_in_words

    if checked.verdict is None:
        say.line(f"failed: {checked.model} on {checked.device}: {checked.failure}")
        return
    for line in verdict_in_words(checked.verdict):
        say.line(line)


def _matrix(say: Output, gate: Gate) -> None:
    from edgedl.pipeline.check.words import outcome_of

    devices = list(dict.fromkeys(one.device for one in gate.checked))
    found = {(one.model, one.device): outcome_of(one) for one in gate.checked}
    models = dict.fromkeys(one.model for one in gate.checked)
    say.table(("model", *devices), [(model, *(found.get((model, one), "") for one in devices)) for model in models])
