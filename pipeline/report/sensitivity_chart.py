"""The picture of a sensitivity report: a bar a layer, the worst on top."""

from __future__ import annotations

import io
from pathlib import Path

from edgedl.core.artifacts import SensitivityReport
from edgedl.core.files import write_atomically
from edgedl.pipeline.report.charts import INK, MUTED, SERIES, STYLE, shortened

_MOST = 40


def sensitivity_png(report: SensitivityReport, path: Path) -> None:
    """Write the loss of each layer alone in int8 (left, 95 % intervals) and its noise (right). Raises OutputError."""
    import matplotlib
    from matplotlib.figure import Figure

    rows = report.rows[:_MOST]
    places = range(len(rows))
    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white", "axes.facecolor": "white"}):
        figure = Figure(figsize=(9.4, 0.28 * max(4, len(rows)) + 1.4), layout="constrained")
        loss, noise = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        share = report.plain.before.is_share
        unit = "points" if share else report.plain.before.metric
        values = [row.change.interval for row in rows]
        loss.barh(places, [one.value for one in values], color=SERIES[0], height=0.6)
        for place, one in zip(places, values, strict=True):
            loss.plot([one.low, one.high], [place, place], color=INK, linewidth=1)
        loss.axvline(report.plain.loss, color=SERIES[1], linewidth=1.2, label="all in int8")
        loss.set_xlabel(f"loss, {unit}; n = {report.n:,} validation examples, {report.obtained}")
        loss.set_title("one layer in int8, the others float32")
        loss.legend(labelcolor=MUTED)
        loss.set_yticks(places, [shortened(row.layer, 36) for row in rows])
        loss.invert_yaxis()
        known = [(place, row.sqnr_db) for place, row in zip(places, rows, strict=True) if row.sqnr_db is not None]
        noise.plot([value for _, value in known], [place for place, _ in known], "o", color=SERIES[2], markersize=5)
        if report.plain_sqnr_db is not None:
            noise.axvline(report.plain_sqnr_db, color=SERIES[1], linewidth=1.2)
        noise.set_xlabel("SQNR of the output, dB")
        noise.tick_params(axis="y", labelleft=False)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=144, metadata={"Software": None})
    write_atomically(path, content.getvalue())
