"""A search in the words and columns of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from edgedl.core.statistics import Interval
from edgedl.pipeline.search.budget import Quantity
from edgedl.pipeline.search.result import Candidate, Figure, SearchResult

HEADINGS: dict[Quantity, str] = {
    "parameters": "weights",
    "macs": "MACs",
    "size": "size",
    "gzip": "gzip",
    "loss": "loss, validation",
    "instructions": "instructions",
    "latency": "latency",
}


def figure_words(quantity: Quantity, figure: Figure | None) -> str:
    """ "24.1 kB (0.26x)", "+0.4 [-0.2, +0.9]", "103 µs (0.52x [0.50, 0.55])"; "–" where it was not taken."""
    if figure is None:
        return "–"
    if quantity == "loss":
        return loss_words(figure.value, figure.interval)
    value = {
        "size": f"{figure.value / 1e3:.1f} kB",
        "gzip": f"{figure.value / 1e3:.1f} kB",
        "latency": f"{figure.value:.1f} µs",
    }.get(quantity, f"{figure.value:,.0f}")
    about = "about " if figure.obtained == "estimated" else ""
    return f"{about}{value}{_ratio(figure.ratio)}"


def loss_words(value: float, interval: Interval | None) -> str:
    """ "+0.4 [-0.2, +0.9]" """
    if interval is None or interval.low == interval.high:
        return f"{value:+.2g}"
    return f"{value:+.2g} [{interval.low:+.2g}, {interval.high:+.2g}]"


def _ratio(ratio: Interval | None) -> str:
    if ratio is None:
        return ""
    if ratio.low == ratio.high:
        return f" ({ratio.value:.2f}x)"
    return f" ({ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}])"


def headings(objectives: Sequence[Quantity], *, test: bool = True) -> list[str]:
    """Columns of `rows`."""
    return ["chain", *(HEADINGS[name] for name in objectives), *(["loss, test"] if test else []), "budget"]


def row(candidate: Candidate, objectives: Sequence[Quantity], *, test: bool = True) -> list[str]:
    """One candidate as a row."""
    final = candidate.test
    judged = [loss_words(final.loss, final.interval) if final else "–"] if test else []
    return [
        candidate.chain,
        *(figure_words(name, candidate.figures.get(name)) for name in objectives),
        *judged,
        standing_words(candidate),
    ]


def standing_words(candidate: Candidate) -> str:
    """Whether it keeps the budget."""
    parts = [f"breaks {', '.join(candidate.broken)}"] if candidate.broken else []
    parts += [f"undecided: {', '.join(candidate.undecided)}"] if candidate.undecided else []
    return "; ".join(parts) or ("keeps it" if candidate.state == "judged" else candidate.state)


def summary(result: SearchResult) -> list[str]:
    """What was done, in sentences."""
    states = [one.state for one in result.candidates]
    made = sum(one.made for one in result.candidates)
    how = (
        f"{len(states)} of {result.space} chains tried in {result.seconds:.0f} s ({result.stopped}): "
        f"{states.count('judged')} judged, {states.count('stopped')} stopped early, {states.count('failed')} failed; "
        f"{made} artifacts made, the rest was there"
    )
    chosen = (
        "chosen on the validation split; the test split judges what was chosen; sizes, MACs and losses are measured"
    )
    return [how, chosen, *result.notes]
