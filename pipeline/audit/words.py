"""An audit in sentences, for the terminal, the report and the verdict."""

from __future__ import annotations

from edgedl.core.artifacts import Audit, AuditFigure

SHOWN = 3


def change_words(one: AuditFigure) -> str:
    """ "+1.2 points [0.1, 2.4], limit 1: inconclusive"."""
    change = one.change
    sign = "" if one.before is None else "+"
    unit = f" {one.unit}" if one.unit in ("points", "%") else ""
    words = f"{change.value:{sign}.2g}{unit} [{change.low:.2g}, {change.high:.2g}]"
    return words if one.limit is None else f"{words}, limit {one.limit:g}: {one.outcome}"


def figure_words(one: AuditFigure) -> str:
    """ "noise: 91.2 → 90.4 %, a loss of +0.8 points [−0.1, 1.9]"."""
    if one.before is None or one.after is None:
        return f"{one.what}: {change_words(one)}"
    scale, unit = (100.0, " %") if one.unit == "points" else (1.0, "")
    before, after = (f"{each.value * scale:.3g}" for each in (one.before, one.after))
    return f"{one.what}: {before} → {after}{unit}, {change_words(one)}"


def audit_lines(audit: Audit) -> list[str]:
    """A few lines for the terminal: what changed most of each kind."""
    by_key: dict[str, list[AuditFigure]] = {}
    for one in audit.figures:
        by_key.setdefault(one.key, []).append(one)
    lines: list[str] = []
    for key, found in by_key.items():
        shown = found
        if key == "per_class_drop":
            shown = sorted(found, key=lambda one: -one.change.value)[:1]
            lines.append(f"worst of {len(found)} classes, n = {shown[0].n}: {figure_words(shown[0])}")
        elif key == "corruption_drop":
            lines.append("corruptions: " + "; ".join(figure_words(one) for one in shown))
        elif key == "disagreement":
            lines.append("differing answers on " + "; ".join(figure_words(one) for one in shown))
        else:
            lines.append("; ".join(figure_words(one) for one in shown))
    lines = [f"audit: {line}" for line in lines]
    lines.append(f"audit: measured on {audit.examples}, 95 % intervals, losses positive")
    return [*lines, *(f"audit: {one}" for one in audit.does_not_apply)]


def failures(audit: Audit, outcome: str = "regressed") -> list[str]:
    """One sentence for each figure with this outcome."""
    return [f"{audit.name}: {one.key}: {figure_words(one)}" for one in audit.figures if one.outcome == outcome]
