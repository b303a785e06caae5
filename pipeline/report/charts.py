"""Charts: inline SVG for the report, whose colours follow the page's theme, and the training curves as a picture.

No pyplot: figures are plain objects, so nothing global is touched and no display is needed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedl.core.artifacts import SHARES
from edgedl.core.files import write_atomically
from edgedl.pipeline.report import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE = "#1c2127", "#69727d", "#e1e4e9"
SERIES = ("#2563c9", "#d0701b", "#1d8a63", "#8a4fc4", "#c23b4a", "#0e8a9c", "#8c6d1f", "#5b6472")
_THEME = {INK: "--ink", MUTED: "--muted", LINE: "--line"} | {color: f"--s{i}" for i, color in enumerate(SERIES)}
STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a layer called "$x$" is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "edgedl",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlecolor": MUTED,
    "axes.titlelocation": "left",
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
"""How every chart looks; matplotlib's own settings."""
_WIDTH, _HEIGHT = 4.7, 2.7  # inches of 72 px: about a phone's width, so that text keeps its size there


# --- training curves ---------------------------------------------------------------------------------------------


def curves_png(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write the training curves as a picture: one panel per quantity, training and validation.

    history: one mapping per epoch (epoch, loss, val_loss, metrics …). Raises OutputError.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white"}):
        names = curve_names(history)
        figure = Figure(figsize=(_WIDTH * max(1, len(names)), _HEIGHT + 0.3), layout="constrained")
        for axes, name in zip(figure.subplots(1, max(1, len(names)), squeeze=False)[0], names, strict=False):
            _draw_curve(axes, history, name)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=144)
    write_atomically(path, content.getvalue())


def curve_names(history: Sequence[Mapping[str, float]]) -> list[str]:
    """The quantities that curves show, loss first; time and learning rate are none."""
    hidden = {"epoch", "phase", "seconds", "learning_rate"}
    names = {key.removeprefix("val_") for epoch in history for key in epoch if key not in hidden}
    return sorted(names, key=lambda name: (name != "loss", name))


def curve_svg(history: Sequence[Mapping[str, float]], name: str) -> str:
    """One quantity over the epochs, training and validation, as inline SVG."""

    def draw(figure: Figure) -> None:
        _draw_curve(figure.subplots(), history, name)

    return _svg(draw, f"{name} over the epochs")


def _draw_curve(axes: Axes, history: Sequence[Mapping[str, float]], name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for key, label, color in ((name, "training", SERIES[0]), (f"val_{name}", "validation", SERIES[1])):
        points = [(epoch.get("epoch", i + 1), epoch[key]) for i, epoch in enumerate(history) if key in epoch]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=color, label=label, marker="o" if len(points) == 1 else None, markersize=4)
    axes.set_title(name)
    axes.set_xlabel("epoch")
    axes.set_xmargin(0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.legend(labelcolor=MUTED, handlelength=1.4)


# --- size, quality, latency --------------------------------------------------------------------------------------


def tradeoff_svg(variants: Sequence[Mapping[str, Any]], session: int | None) -> str:
    """Quality against latency of one session, or against the gzipped size (session None); "" without figures.

    The area of a point is the file's gzipped size; bars are 95 % intervals.
    """
    rows = [row for row in variants if row["quality"] and (session is None or len(row["latency"]) > session)]
    if not rows:
        return ""
    metric = rows[0]["quality"]["metric"]
    share = metric in SHARES
    names = list(dict.fromkeys(row["variant"] for row in rows))
    largest = max(row["gzip_bytes"] for row in rows)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        places: list[tuple[float, float]] = []
        for row in rows:
            color = SERIES[names.index(row["variant"]) % len(SERIES)]
            y, low, high = ((100 if share else 1) * row["quality"]["interval"][key] for key in ("value", "low", "high"))
            x = row["gzip_bytes"] / 1e3
            if session is not None:
                found = row["latency"][session]["value"]
                x = found["value"]
                axes.plot([found["low"], found["high"]], [y, y], color=color, alpha=0.4, linewidth=1, zorder=1)
            axes.plot([x, x], [low, high], color=color, alpha=0.4, linewidth=1, zorder=1)
            area = 30 + 250 * row["gzip_bytes"] / largest
            marker = {"tflite": "o", "onnx": "s"}.get(row["format"], "D")
            axes.scatter(x, y, s=area, color=color, alpha=0.8, marker=marker, linewidths=0, zorder=2)
            places.append((x, y))
        _horizontal_axis(axes, [x for x, _ in places])
        axes.margins(x=0.12, y=0.1)
        axes.set_title(f"{words.metric(metric)}{', %' if share else ''}; the area is the gzipped size")
        if session is None:
            axes.set_xlabel("gzipped size, kB")
        else:
            found = rows[0]["latency"][session]
            what = {"p10": "p10 latency, µs", "estimate": "latency, µs"}.get(found["what"], found["what"])
            axes.set_xlabel(f"{what}, on {found['device']} ({found['obtained']})")
        _label_points(figure, axes, places, [f"{row['variant']} {row['format']}" for row in rows])

    return _svg(
        draw, f"Quality against {'size' if session is None else f'latency {session}'} of every variant", height=3.2
    )


def _horizontal_axis(axes: Axes, values: Sequence[float]) -> None:
    """Logarithmic where the values span much, with round numbers that people read: 10, 20, 50, 100 …"""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    axes.xaxis.set_major_locator(MaxNLocator(6))
    if not max(values) > 8 * min(values) > 0:
        return
    axes.set_xscale("log")
    ticks = [step * 10.0**power for power in range(-3, 10) for step in (1, 2, 5)]
    inside = [tick for tick in ticks if min(values) / 1.5 <= tick <= max(values) * 1.5]
    axes.xaxis.set_major_locator(FixedLocator(inside if len(inside) <= 7 else inside[:: len(inside) // 6 + 1]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _label_points(figure: Figure, axes: Axes, places: Sequence[tuple[float, float]], labels: Sequence[str]) -> None:
    """Write each label beside its point, at the first place that touches no other label and no point."""
    figure.canvas.draw()
    scale = 72 / figure.dpi
    points = [tuple(value * scale for value in axes.transData.transform(place)) for place in places]
    left, bottom, right, top = (value * scale for value in (axes.bbox.x0, axes.bbox.y0, axes.bbox.x1, axes.bbox.y1))
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in points]
    for (x, y), place, label in zip(points, places, labels, strict=True):
        width, height = 5.2 * len(label), 12.0
        offsets = [
            (dx, dy)
            for dy in (0, 13, -13, 26, -26, 39, -39, 52, -52, 65, -65)
            for dx in (12, -12 - width, -width / 2)
            if dy or dx != -width / 2
        ]
        boxes = [(x + dx, y + dy - height / 2, x + dx + width, y + dy + height / 2) for dx, dy in offsets]
        inside = [
            i for i, box in enumerate(boxes) if left < box[0] and box[2] < right and bottom < box[1] and box[3] < top
        ]
        free = [i for i in inside if not any(_overlap(boxes[i], one) for one in taken)]
        best = next(iter([*free, *inside]), 0)
        taken.append(boxes[best])
        line = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.5} if abs(offsets[best][1]) > 13 else None
        axes.annotate(label, place, offsets[best], textcoords="offset points", va="center", fontsize=9, arrowprops=line)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


# --- ops ---------------------------------------------------------------------------------------------------------

_MOST_BARS = 12


def op_bars_svg(ops: Sequence[Mapping[str, Any]], title: str) -> str:
    """Where an inference goes: the costliest ops first, the rest in one bar. ops: at least one, of one unit."""
    ordered = sorted(ops, key=lambda op: -op["cost"])
    unit = ops[0]["unit"]
    shown, rest = ordered[:_MOST_BARS], ordered[_MOST_BARS:]
    rows = [(_op_label(op), op["cost"], op["share"]) for op in shown]
    if rest:
        total, share = sum(op["cost"] for op in rest), sum(op["share"] for op in rest)
        rows.append((f"{len(rest)} more", total, share))

    def draw(figure: Figure) -> None:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        longest = max(cost for _, cost, _ in rows) or 1
        for i, (label, cost, share) in enumerate(rows):
            color = SERIES[0] if i < len(shown) else SERIES[7]
            axes.barh(-i, 1, height=0.2, color=LINE, linewidth=0)
            axes.barh(-i, cost / longest, height=0.2, color=color, linewidth=0)
            axes.text(0, 0.24 - i, shortened(label, 40), fontsize=9.5, va="bottom")
            value = f"{words.cost(cost, unit)} · {100 * share:.0f} %"
            axes.text(1, 0.24 - i, value, fontsize=9.5, va="bottom", ha="right", color=MUTED)
        axes.set_xlim(0, 1)
        axes.set_ylim(0.3 - len(rows), 0.75)

    return _svg(draw, f"Cost per op of {title}", height=0.36 * len(rows) + 0.1)


def _op_label(op: Mapping[str, Any]) -> str:
    return f"{op['op']} · {op['layer']}" if op["layer"] else str(op["op"])


def shortened(text: str, length: int) -> str:
    """The text, cut to `length` letters."""
    return text if len(text) <= length else text[: length - 1] + "…"


# --- figure to SVG -----------------------------------------------------------------------------------------------


def write_picture(draw: Callable[[Figure], None], path: Path, *, width: float, height: float) -> None:
    """Write the drawing as a .png or .svg file in this style, on white. width, height: inches. Raises OutputError."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        content = io.BytesIO()
        dated = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(content, format=path.suffix[1:], dpi=144, metadata=dated)
    write_atomically(path, content.getvalue())


def _svg(draw: Any, title: str, height: float = _HEIGHT) -> str:
    """The drawing as an inline SVG of flexible width, its colours the page's variables, its ids its own."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, height), dpi=72, layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))
        draw(figure)
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = text.replace("<svg", f'<svg class="chart" role="img" aria-label="{escape(title)}"', 1)
    for color, variable in _THEME.items():
        text = text.replace(color, f"var({variable})")
    return _own_ids(text, title)


def _own_ids(svg: str, title: str) -> str:
    """Drop ids that nothing refers to and make the others unique on the page."""
    prefix = re.sub(r"\W+", "", title)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{prefix}-{found[1]}"' if found[1] in used else "", svg)
    return re.sub(r'(url\(#|href="#)', rf"\1{prefix}-", svg)
