"""The verdicts of a gate for build servers and for people who review a change."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from edgedl.core.artifacts import Checked, Finding, Gate, OpChange, Verdict, json_text, to_json


def verdict_in_words(verdict: Verdict) -> list[str]:
    """The whole of it for a terminal, a line each."""
    on = f", on {verdict.device}" if verdict.device else ""
    return [
        f"{verdict.outcome}: {verdict.new} against {verdict.old}{on}",
        *(f"  {one.what}: {one.outcome}: {one.sentence}" for one in verdict.findings),
        *(f"  where: {line}" for line in explanation_in_words(verdict)),
        *(f"  note: {note}" for note in verdict.notes),
    ]


LONGEST, MOST_LAYERS = 8, 3
"""Lines that are shown of an explanation, and layers in a line; the JSON has all."""


def explanation_in_words(verdict: Verdict) -> list[str]:
    """Where the difference comes from, a line each, the largest first."""
    lines = [f"ops: {verdict.op_counts}"] if verdict.op_counts else []
    told = [change_in_words(*alike) for alike in _alike(verdict.explanation)]
    lines += told[:LONGEST]
    rest = len(told) - LONGEST
    return [*lines, f"and {rest} more (--json)"] if rest > 0 else lines


def _alike(changes: Iterable[OpChange]) -> list[list[OpChange]]:
    """Ops of one kind that only one of the files has are told together, where the first of them would be."""
    groups: dict[object, list[OpChange]] = {}
    for number, one in enumerate(changes):
        key = number if one.kind == "changed" else (one.kind, one.op, one.unit)
        groups.setdefault(key, []).append(one)
    return sorted(groups.values(), key=lambda group: -abs(sum(one.added for one in group)))


def change_in_words(change: OpChange, *alike: OpChange) -> str:
    """ "CONV_2D of conv1: 110,200 → 153,000 instructions (+38.8 %), emulated; output [8, 8, 16] → [8, 8, 24]"; of
    several that are alike "3 DEQUANTIZE of a, b, c: are new; +1,200 instructions, emulated"."""
    layers = [one.layer for one in (change, *alike) if one.layer]
    shown = ", ".join(layers[:MOST_LAYERS]) + (" …" if len(layers) > MOST_LAYERS else "")
    name = f"{f'{1 + len(alike)} ' if alike else ''}{change.op}{f' of {shown}' if shown else ''}"
    cost = ""
    if change.unit is not None:
        unit = {"us": "µs"}.get(change.unit, change.unit)
        if change.old_cost is not None and change.new_cost is not None:
            share = f" ({change.added / change.old_cost:+.1%})".replace("%", " %") if change.old_cost else ""
            cost = f"{change.old_cost:,.6g} → {change.new_cost:,.6g} {unit}{share}, {change.obtained}"
        else:
            cost = f"{sum(one.added for one in (change, *alike)):+,.6g} {unit}, {change.obtained}"
    verb = "are" if alike else "is"
    what = {"new": f"{verb} new", "gone": f"{verb} gone", "changed": ""}[change.kind]
    return f"{name}: {'; '.join(part for part in (what, cost, *change.differs) if part)}"


_SIGN = {"pass": "✅", "improved": "✅", "regressed": "❌", "inconclusive": "❔", "failed": "⚠️"}


def outcome_of(checked: Checked) -> str:
    """One of the four outcomes, or "failed" where there is no verdict."""
    return checked.verdict.outcome if checked.verdict else "failed"


def _title(checked: Checked) -> str:
    return f"{checked.model} on {checked.device}" if checked.device else checked.model


# --- JUnit ---------------------------------------------------------------------------------------------------------


def to_junit(gate: Gate) -> str:
    """A test suite for each model and device, a test case for each finding: regressed is a failure, inconclusive is
    skipped, no verdict an error."""
    suites = ElementTree.Element("testsuites", name="edgedl check")
    for checked in gate.checked:
        suites.append(_suite(checked))
    ElementTree.indent(suites)
    return (
        _NO_XML.sub("\N{REPLACEMENT CHARACTER}", ElementTree.tostring(suites, "unicode", xml_declaration=True)) + "\n"
    )


_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold (§2.2)."""


def _suite(checked: Checked) -> ElementTree.Element:
    findings = checked.verdict.findings if checked.verdict else ()
    counts = Counter(finding.outcome for finding in findings)
    suite = ElementTree.Element(
        "testsuite",
        name=_title(checked),
        tests=str(len(findings) or 1),
        failures=str(counts["regressed"]),
        errors=str(int(checked.verdict is None)),
        skipped=str(counts["inconclusive"]),
        time=f"{checked.verdict.record.seconds if checked.verdict else 0:.3f}",
    )
    for finding in findings:
        case = ElementTree.SubElement(suite, "testcase", classname=_title(checked), name=finding.what)
        if finding.outcome == "regressed":
            ElementTree.SubElement(case, "failure", type="regressed", message=finding.sentence)
        elif finding.outcome == "inconclusive":
            ElementTree.SubElement(case, "skipped", message=finding.sentence)
        ElementTree.SubElement(case, "system-out").text = finding.sentence
    if not findings:
        case = ElementTree.SubElement(suite, "testcase", classname=_title(checked), name="check")
        if checked.verdict is None:
            ElementTree.SubElement(case, "error", type="failed", message=checked.failure)
        else:
            ElementTree.SubElement(case, "system-out").text = "\n".join(checked.verdict.notes)
    return suite


# --- Markdown ------------------------------------------------------------------------------------------------------


def to_markdown(gate: Gate) -> str:
    """The verdicts for a pull request's comment or a job's summary: a matrix, then each with its findings."""
    parts = [_matrix(gate)] if len(gate.checked) > 1 else []
    parts += [_section(one) for one in gate.checked]
    return "\n".join(parts)


def _matrix(gate: Gate) -> str:
    devices = list(dict.fromkeys(one.device for one in gate.checked))
    found = {(one.model, one.device): outcome_of(one) for one in gate.checked}
    counts = Counter(found.values())
    lines = [
        f"### edgedl check: {', '.join(f'{n} {outcome}' for outcome, n in counts.items())}",
        "",
        f"| model | {' | '.join(map(_cell, devices))} |",
        "|---" * (len(devices) + 1) + "|",
    ]
    for model in dict.fromkeys(one.model for one in gate.checked):
        cells = [found.get((model, device)) for device in devices]
        lines.append(f"| {_cell(model)} | {' | '.join(f'{_SIGN[one]} {one}' if one else '' for one in cells)} |")
    return "\n".join([*lines, ""])


def _section(checked: Checked) -> str:
    verdict = checked.verdict
    outcome = outcome_of(checked)
    lines = [f"### {_SIGN[outcome]} {_title(checked)}: {outcome}", ""]
    if verdict is None:
        return "\n".join([*lines, _cell(checked.failure), ""])
    lines += [f"`{verdict.new}` against `{verdict.old}`", ""]
    if verdict.findings:
        lines += ["| | | |", "|---|---|---|"]
        lines += [f"| {_SIGN[one.outcome]} | {one.what} | {_cell(one.sentence)} |" for one in verdict.findings]
    where = explanation_in_words(verdict)
    if where:
        lines += ["", "Where it comes from:", "", *(f"- {_cell(line)}" for line in where)]
    if verdict.notes:
        lines += ["", *(f"- {_cell(note)}" for note in verdict.notes)]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# --- SARIF, and GitLab's code quality --------------------------------------------------------------------------------

_RULES = {
    "latency": "An inference takes longer than before, beyond the limit.",
    "size": "The file is larger than before, beyond the limit.",
    "memory": "The model needs more memory than before, beyond the limit.",
    "MACs": "The model multiplies more than before, beyond the limit.",
    "ops": "The file has more ops than before, beyond the limit.",
    "boundaries": "The file changes between integers and floats more often than before, beyond the limit.",
    "CPU ops": "Ops fell back from the accelerator to the CPU, beyond the limit.",
    "accuracy": "The model answers worse than before, beyond the limit.",
    "outputs": "The outputs moved from those of before, beyond the limit.",
    "failed": "The file could not be checked.",
}
_LEVEL = {"regressed": "error", "inconclusive": "warning"}


def _told(gate: Gate) -> Iterator[tuple[Checked, str, str, str, Finding | None]]:
    """What a reviewer has to look at: where, which rule, how grave (as SARIF), the message, the finding."""
    for checked in gate.checked:
        if checked.verdict is None:
            yield checked, "failed", "error", f"{_title(checked)}: {checked.failure}", None
            continue
        where = explanation_in_words(checked.verdict)
        for finding in checked.verdict.findings:
            if finding.outcome in _LEVEL:
                told = where if finding.outcome == "regressed" else []
                message = "\n".join([f"{_title(checked)}: {finding.sentence}", *told])
                yield checked, finding.what, _LEVEL[finding.outcome], message, finding


def _place(checked: Checked) -> str:
    """The new file as a URI, relative to the folder where the command runs, where it lies below it."""
    path = Path(checked.file)
    return quote((path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix())


def to_sarif(gate: Gate) -> str:
    """SARIF 2.1.0 (OASIS Standard), for code scanning: a result for what regressed, failed or cannot be told.

    The place of a result is the new file (§3.28); explanation and figures are in its message and properties.
    """
    results: list[dict[str, Any]] = [
        {
            "ruleId": rule,
            "level": level,
            "message": {"text": message},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": _place(checked)}}}],
            "properties": to_json(finding) if finding else {},
        }
        for checked, rule, level, message, finding in _told(gate)
    ]
    rules = [{"id": name, "shortDescription": {"text": text}} for name, text in _RULES.items()]
    driver = {"name": "edgedl check", "semanticVersion": version("edgedl"), "rules": rules}
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }
    return json_text(log) + "\n"


_SEVERITY = {"error": "major", "warning": "info"}


def to_code_quality(gate: Gate) -> str:
    """GitLab's code-quality report, a subset of Code Climate's format: a list of issues, each with a fingerprint that
    stays the same from run to run."""
    issues = [
        {
            "description": message,
            "check_name": f"edgedl-{rule.replace(' ', '-').lower()}",
            "fingerprint": hashlib.sha256(f"{checked.model}/{checked.device}/{rule}".encode()).hexdigest(),
            "severity": _SEVERITY[level],
            "location": {"path": unquote(_place(checked)), "lines": {"begin": 1}},
        }
        for checked, rule, level, message, _ in _told(gate)
    ]
    return json_text(issues) + "\n"
