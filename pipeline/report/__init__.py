"""The report of a run: `report.html`, one file that opens without a network, and `report.json`, the same facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgedl.core.artifacts import Run, json_text
from edgedl.core.files import write_atomically


def write_report(run: Run) -> Path:
    """Write `report.html` and `report.json` into the run's folder; returns the path of the page. Raises OutputError."""
    from edgedl.pipeline.report.facts import report_facts

    facts = report_facts(run)
    write_atomically(run.folder / "report.json", json_text(facts) + "\n")
    page = run.folder / "report.html"
    write_atomically(page, render(facts))
    return page


def render(facts: dict[str, Any]) -> str:
    """The page for the facts of `report_facts`. Every text in it is escaped: names are somebody else's input."""
    import jinja2
    import yaml
    from markupsafe import Markup

    from edgedl.pipeline.report import charts, words

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = (
        "number",
        "count",
        "plain",
        "size",
        "time",
        "time_range",
        "speed",
        "instructions",
        "duration",
        "change",
        "ratio",
        "ratio_range",
        "quality",
    )
    environment.filters |= {name: getattr(words, name) for name in (*names, "quality_range")}
    history = facts["training"]["history"]
    sessions = (*range(len(facts["latency"])), None)
    return environment.get_template("report.html.j2").render(
        **facts,
        recipe_text=yaml.safe_dump(facts["recipe"], sort_keys=False, allow_unicode=True),
        curves=[Markup(charts.curve_svg(history, name)) for name in charts.curve_names(history)] if history else [],
        tradeoffs=[Markup(svg) for i in sessions if (svg := charts.tradeoff_svg(facts["variants"], i))],
        op_bars=[
            [
                (model["file"], Markup(charts.op_bars_svg(model["ops"], f"{model['file']} on {session['device']}")))
                for model in session["models"]
                if model["ops"] and model["ops"][0]["unit"] != "MACs"  # a size, not a cost
            ]
            for session in facts["latency"]
        ],
    )
