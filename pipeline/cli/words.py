"""Results in the words and columns that several commands share."""

from __future__ import annotations

from edgedl.core.artifacts import LatencyReport, ModelLatency, Quality, QualityChange
from edgedl.core.statistics import Interval
from edgedl.pipeline.cli.output import Output, size


def quality_words(quality: Quality | None) -> str:
    """ "97.2 % [95.4, 98.4]" or "0.31 [0.28, 0.34]"; "–" where nothing was judged."""
    if quality is None:
        return "–"
    if quality.is_share:
        return f"{100 * quality.value:.1f} % [{100 * quality.interval.low:.1f}, {100 * quality.interval.high:.1f}]"
    return f"{quality.value:.4g} [{quality.interval.low:.4g}, {quality.interval.high:.4g}]"


def loss_words(change: QualityChange | None) -> str:
    """ "0.3 [-0.2, 0.9]" in points (accuracy) or the target's unit."""
    if change is None:
        return "–"
    return f"{change.loss:+.2g} [{change.interval.low:+.2g}, {change.interval.high:+.2g}]"


def time_words(time_us: Interval) -> str:
    """ "103.1 µs [102.0, 104.4]" """
    return f"{time_us.value:.1f} µs [{time_us.low:.1f}, {time_us.high:.1f}]"


def ratio_words(model: ModelLatency) -> str:
    """Ratio to the first file of the session."""
    return (
        "1 (reference)"
        if model.ratio is None
        else f"{model.ratio.value:.3f} [{model.ratio.low:.3f}, {model.ratio.high:.3f}]"
    )


def latency_table(out: Output, report: LatencyReport) -> None:
    """One row a file, then how the figures came to be."""
    rows = [
        (
            model.file,
            time_words(model.median_us),
            time_words(model.p10_us),
            ratio_words(model),
            f"{model.load_ms:.1f} ms",
            f"{model.first_inference_ms:.2f} ms",
            size(max(0, model.memory.peak_bytes - model.memory.runtime_bytes)),
            f"{model.n:,}",
        )
        for model in report.models
    ]
    columns = ("file", "median", "p10", "ratio of p10", "load", "first", "memory above runtime", "n")
    out.table(columns, rows)
    out.line(
        f"{report.obtained} on {report.device}: {report.hardware}; {report.processes} processes, files interleaved, "
        f"95 % intervals; stopped: {report.stopped}"
    )
