"""The verdict for build servers and for people who review a change."""

from __future__ import annotations

import json
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from edgedl.core.artifacts import OpChange, Verdict, to_json


def to_junit(verdict: Verdict) -> str:
    """The verdict as JUnit XML, a test case per finding: regressed is a failure, inconclusive is skipped."""
    counts = Counter(finding.outcome for finding in verdict.findings)
    suite = ElementTree.Element(
        "testsuite",
        name="edgedl check",
        tests=str(len(verdict.findings)),
        failures=str(counts["regressed"]),
        errors="0",
        skipped=str(counts["inconclusive"]),
        time=f"{verdict.record.seconds:.3f}",
    )
    for finding in verdict.findings:
        case = ElementTree.SubElement(suite, "testcase", classname=verdict.name, name=finding.what)
        if finding.outcome == "regressed":
            ElementTree.SubElement(case, "failure", type="regressed", message=finding.sentence)
        elif finding.outcome == "inconclusive":
            ElementTree.SubElement(case, "skipped", message=finding.sentence)
        ElementTree.SubElement(case, "system-out").text = finding.sentence
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


LONGEST = 8
"""Ops that are shown of an explanation; the JSON has all."""


def explanation_in_words(verdict: Verdict) -> list[str]:
    """Where the difference comes from, a line each, the largest first."""
    lines = [f"ops: {verdict.op_counts}"] if verdict.op_counts else []
    lines += [change_in_words(one) for one in verdict.explanation[:LONGEST]]
    rest = len(verdict.explanation) - LONGEST
    return [*lines, f"and {rest} more (--json)"] if rest > 0 else lines


def change_in_words(change: OpChange) -> str:
    """ "CONV_2D of conv1: 110,200 → 153,000 instructions (+38.8 %), emulated; output [8, 8, 16] → [8, 8, 24]"."""
    name = f"{change.op} of {change.layer}" if change.layer else change.op
    cost = ""
    if change.unit is not None:
        unit = {"us": "µs"}.get(change.unit, change.unit)
        if change.old_cost is not None and change.new_cost is not None:
            share = f" ({change.added / change.old_cost:+.1%})".replace("%", " %") if change.old_cost else ""
            cost = f"{change.old_cost:,.6g} → {change.new_cost:,.6g} {unit}{share}, {change.obtained}"
        else:
            cost = f"{change.added:+,.6g} {unit}, {change.obtained}"
    what = {"new": "is new", "gone": "is gone", "changed": ""}[change.kind]
    return f"{name}: {'; '.join(part for part in (what, cost, *change.differs) if part)}"


_SIGN = {"pass": "✅", "improved": "✅", "regressed": "❌", "inconclusive": "❔"}


def to_markdown(verdict: Verdict) -> str:
    """The verdict for a pull request's comment or a job's summary."""
    lines = [
        f"### {_SIGN[verdict.outcome]} edgedl check: {verdict.outcome}",
        "",
        f"`{verdict.new}` against `{verdict.old}`",
        "",
    ]
    lines += ["| | | |", "|---|---|---|"]
    lines += [f"| {_SIGN[one.outcome]} | {one.what} | {_cell(one.sentence)} |" for one in verdict.findings]
    where = explanation_in_words(verdict)
    if where:
        lines += ["", "Where it comes from:", "", *(f"- {_cell(line)}" for line in where)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


_RULES = {
    "latency": "An inference takes longer than before, beyond the limit.",
    "size": "The file is larger than before, beyond the limit.",
    "accuracy": "The model answers worse than before, beyond the limit.",
}
_LEVEL = {"regressed": "error", "inconclusive": "warning"}


def to_sarif(verdict: Verdict) -> str:
    """The verdict as SARIF 2.1.0 (OASIS Standard), for code scanning: a result for what regressed or cannot be told.

    The place of a result is the new file (§3.28); explanation and figures are in its message and properties.
    """
    where = explanation_in_words(verdict)
    results: list[dict[str, Any]] = []
    for finding in verdict.findings:
        if finding.outcome not in _LEVEL:
            continue
        told = where if finding.outcome == "regressed" else []
        results.append(
            {
                "ruleId": finding.what,
                "level": _LEVEL[finding.outcome],
                "message": {"text": "\n".join([finding.sentence, *told])},
                "locations": [{"physicalLocation": {"artifactLocation": {"uri": Path(verdict.new).as_posix()}}}],
                "properties": to_json(finding),
            }
        )
    rules = [{"id": name, "shortDescription": {"text": text}} for name, text in _RULES.items()]
    driver = {"name": "edgedl check", "semanticVersion": version("edgedl"), "rules": rules}
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }
    return json.dumps(log, indent=1, ensure_ascii=False) + "\n"
