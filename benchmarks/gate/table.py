"""From recorded decisions to docs/gate.json, the tables of docs/gate.md, and its plots.

    python -m benchmarks.gate.table --work DIR --docs docs

Prints the tables as Markdown. DIR holds decisions.jsonl (of `record`) and counted.json (of `counted`).
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gate.peers import PEERS, Samples

from edgedl.core.files import write_atomically
from edgedl.core.statistics import wilson

LOADS = ("quiet", "busy")
OURS = "edgedl check"
Row = Mapping[str, Any]
Rates = dict[str, dict[str, tuple[int, int]]]
"""By gate, then by column ("+0 % quiet"): how many builds it fails, of how many."""


def rates(rows: Sequence[Row], *, stored: bool) -> Rates:
    """How often each gate fails the build. stored: peers get the old file's samples of the session before."""
    found: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    before: dict[tuple[str, str], Row] = {}
    for row in rows:
        column, key = f"+{row['added']:g} % {row['load']}", (row["pair"], row["load"])
        found[OURS][column].append(row["outcome"] == "regressed")
        reference = before.get(key) if stored else row
        before[key] = row
        if reference is None:
            continue
        old, new = Samples(reference["old"], reference["old_min"]), Samples(row["new"], row["new_min"])
        for name, fails in PEERS.items():
            found[name][column].append(fails(old, new))
    return {name: {column: (sum(one), len(one)) for column, one in columns.items()} for name, columns in found.items()}


def outcomes(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What became of each pair under each load, with the time to a verdict and the noise."""
    groups: dict[tuple[str, float, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["pair"], row["added"], row["load"]].append(row)
    found = []
    for (pair, added, load), group in groups.items():
        counts = Counter(row["outcome"] for row in group)
        found.append(
            {
                "pair": pair, "added_percent": added, "load": load, "n": len(group), **counts,
                "ratio_smallest": min(row["ratio"][0] for row in group),
                "ratio_median": median(row["ratio"][0] for row in group),
                "ratio_largest": max(row["ratio"][0] for row in group),
                "missed": sum(not row["ratio"][1] <= 1 <= row["ratio"][2] for row in group) if added == 0 else None,
                "visible_median": median(row["visible"] for row in group),
                "seconds_median": median(row["seconds"] for row in group),
                "seconds_largest": max(row["seconds"] for row in group),
            }
        )  # fmt: skip
    return found


def as_table(found: Rates) -> str:
    """Markdown: a gate a line."""
    columns = [f"+{added} % {load}" for added in (0, 2, 5, 10) for load in LOADS]
    columns = [column for column in columns if column in found[OURS]]
    lines = [f"| gate | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, cells in found.items():
        words = [f"{cells[one][0]}/{cells[one][1]}" if one in cells else "" for one in columns]
        lines.append(f"| {name} | {' | '.join(words)} |")
    return "\n".join(lines)


def as_outcomes(found: Sequence[Row]) -> str:
    """Markdown: a pair under a load a line."""
    lines = [
        "| pair | work | load | n | pass | regressed | inconclusive | improved | ratio seen | visible | time |",
        "|---" * 11 + "|",
    ]
    for one in found:
        lines.append(
            f"| {one['pair']} | +{one['added_percent']:g} % | {one['load']} | {one['n']} | "
            f"{' | '.join(str(one.get(name, 0)) for name in ('pass', 'regressed', 'inconclusive', 'improved'))} | "
            f"{one['ratio_median']:.4f} ({one['ratio_smallest']:.4f}–{one['ratio_largest']:.4f}) | "
            f"{one['visible_median']:.2%} | {one['seconds_median']:.1f} s (≤ {one['seconds_largest']:.0f}) |".replace(
                "%", " %"
            ).replace("  %", " %")
        )
    return "\n".join(lines)


def totals(rows: Sequence[Row]) -> dict[str, Any]:
    """The goals' figures, with 95 % intervals (Wilson)."""
    same = [row for row in rows if row["added"] == 0]
    found: dict[str, Any] = {
        "same_file": _share(sum(row["outcome"] == "regressed" for row in same), len(same)),
        "same_file_inconclusive": _share(sum(row["outcome"] == "inconclusive" for row in same), len(same)),
    }
    for added in (2, 5, 10):
        group = [row for row in rows if row["added"] == added]
        if group:
            found[f"found_{added}"] = _share(sum(row["outcome"] == "regressed" for row in group), len(group))
    return found


def _share(count: int, n: int) -> dict[str, Any]:
    seen = wilson(count, n)
    return {"count": count, "n": n, "share": seen.value, "low": seen.low, "high": seen.high}


def plot_rates(side_by_side: Rates, stored: Rates, path: Path) -> None:
    """False alarms against what was found of +2 % and +5 %, a dot for each gate and use."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharex=True, sharey=True)
    colours = plt.get_cmap("tab10").colors
    for axis, added in zip(axes, (2, 5), strict=True):
        for index, name in enumerate([OURS, *PEERS]):
            for found, marker, use in ((side_by_side, "o", "side by side"), (stored, "x", "stored result")):
                if name == OURS and marker == "x":
                    continue
                false, truth = _pooled(found[name], 0), _pooled(found[name], added)
                label = f"{name}{'' if name == OURS else f', {use}'}" if axis is axes[0] else None
                size = 130 if name == OURS else 45
                axis.scatter(100 * false, 100 * truth, marker=marker, color=colours[index], s=size, label=label)
        axis.set_title(f"true +{added} %")
        axis.set_xlabel("false alarms, % of identical files")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("found, %")
    figure.legend(loc="outside right center", fontsize=7)
    figure.subplots_adjust(right=0.66)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def _pooled(cells: Mapping[str, tuple[int, int]], added: int) -> float:
    chosen = [cells[f"+{added} % {load}"] for load in LOADS if f"+{added} % {load}" in cells]
    return sum(one[0] for one in chosen) / max(sum(one[1] for one in chosen), 1)


def plot_ratios(rows: Sequence[Row], path: Path) -> None:
    """The ratio of a file to its copy: edgedl's, and that of means against the session before."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
    bins = np.linspace(-15, 15, 121)
    for axis, load in zip(axes, LOADS, strict=True):
        same = [row for row in rows if row["added"] == 0 and row["load"] == load]
        ours = [100 * (row["ratio"][0] - 1) for row in same]
        pairs = itertools.pairwise(same)
        theirs = [
            100 * (np.mean(row["new"]) / np.mean(last["old"]) - 1) for last, row in pairs if last["pair"] == row["pair"]
        ]
        axis.hist(np.clip(theirs, -15, 15), bins, color="tab:orange", alpha=0.7, label="means, against a stored result")
        axis.hist(np.clip(ours, -15, 15), bins, color="tab:blue", alpha=0.7, label="edgedl check")
        axis.set(title=f"{load}, n = {len(same)}", xlabel="change seen where there is none, % (clipped at 15)")
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("decisions")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    """Read, sum up, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--docs", type=Path, required=True)
    options = parser.parse_args()
    rows = [json.loads(line) for line in (options.work / "decisions.jsonl").read_text().splitlines()]
    side_by_side, stored, found = rates(rows, stored=False), rates(rows, stored=True), outcomes(rows)
    counted = options.work / "counted.json"
    summary = {
        "goals": totals(rows),
        "outcomes": found,
        "fails_side_by_side": side_by_side,
        "fails_against_stored": stored,
        "counted": json.loads(counted.read_text()) if counted.exists() else None,
    }
    write_atomically(options.docs / "gate.json", json.dumps(summary, indent=1) + "\n")
    plot_rates(side_by_side, stored, options.docs / "gate-rates.png")
    plot_ratios(rows, options.docs / "gate-ratios.png")
    print(json.dumps(summary["goals"], indent=1))
    print("\nOutcomes\n", as_outcomes(found), "\nSide by side\n", as_table(side_by_side), sep="\n")
    print("\nAgainst a stored result\n", as_table(stored), sep="\n")


if __name__ == "__main__":
    main()
