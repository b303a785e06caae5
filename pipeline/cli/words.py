"""Results in the words and columns that several commands share."""

from __future__ import annotations

from collections.abc import Sequence

from edgedl.core.artifacts import Estimate, LatencyReport, ModelLatency, OpCost, Quality, Speed
from edgedl.core.statistics import Interval
from edgedl.pipeline.cli.output import Output, size
from edgedl.pipeline.pays import does_not_pay


def quality_words(quality: Quality | None) -> str:
    """ "97.2 % [95.4, 98.4]" or "0.31 [0.28, 0.34]"; "–" where nothing was judged."""
    if quality is None:
        return "–"
    if quality.is_share:
        return f"{100 * quality.value:.1f} % [{100 * quality.interval.low:.1f}, {100 * quality.interval.high:.1f}]"
    return f"{quality.value:.4g} [{quality.interval.low:.4g}, {quality.interval.high:.4g}]"


def time_words(time_us: Interval) -> str:
    """ "103.1 µs [102.0, 104.4]" """
    return f"{time_us.value:.1f} µs [{time_us.low:.1f}, {time_us.high:.1f}]"


def ratio_words(ratio: Interval | None) -> str:
    """Ratio to the first file of the session."""
    if ratio is None:
        return "1 (reference)"
    return f"{ratio.value:.3f}" if ratio.low == ratio.high else f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def speed_words(speed: Speed | None) -> str:
    """ "103.1 µs", "1.50 M instructions", "about 22.1 ms (estimated)"; "–" without one."""
    if speed is None:
        return "–"
    value = speed.value.value
    if speed.unit == "instructions":
        return f"{value / 1e6:.2f} M instructions"
    return f"{value:.1f} µs" if speed.what == "p10" else f"about {value / 1e3:.3g} ms (estimated)"


def cost_words(op: OpCost) -> str:
    """ "12 µs", "272,129 instructions"."""
    return f"{op.cost:.0f} µs" if op.unit == "us" else f"{op.cost:,.0f} {op.unit}"


def latency_table(out: Output, report: LatencyReport) -> None:
    """One row a file, then how the figures came to be."""
    if all(model.timing for model in report.models):
        _timing_table(out, report)
    else:
        _count_table(out, report)
    for sentence in does_not_pay(report):
        out.line(sentence)


def latency_matrix(out: Output, reports: Sequence[LatencyReport]) -> None:
    """Files by devices; each figure with how it came to be."""
    columns = [f"{report.device}, {report.obtained}" for report in reports]
    rows = [
        (models[0].file, *(_cell(report, model) for report, model in zip(reports, models, strict=True)))
        for models in zip(*(report.models for report in reports), strict=True)
    ]
    out.table(("file", *columns), rows)


def _cell(report: LatencyReport, model: ModelLatency) -> str:
    speed = report.speed(model)
    if speed is None:
        memory = _memory(model)
        return memory if memory == "–" else f"{memory} of memory"
    ratio = f" (× {speed.ratio.value:.2f})" if speed.ratio else ""
    return speed_words(speed) + ratio


def _timing_table(out: Output, report: LatencyReport) -> None:
    told = any(model.energy_uj for model in report.models)
    rows = [
        (
            model.file,
            time_words(timing.median_us),
            time_words(timing.p10_us),
            ratio_words(timing.ratio),
            f"{timing.load_ms:.1f} ms",
            f"{timing.first_ms:.2f} ms",
            _memory(model),
            *((f"{model.energy_uj:,.3g} µJ" if model.energy_uj else "–",) if told else ()),
            f"{timing.n:,}",
        )
        for model in report.models
        if (timing := model.timing)
    ]
    columns = (
        "file",
        "median",
        "p10",
        "ratio of p10",
        "load",
        "first",
        "memory above runtime",
        *(("energy",) if told else ()),
        "n",
    )
    out.table(columns, rows)
    out.line(
        f"{report.obtained} on {report.device}: {report.hardware}; {report.processes} processes, files interleaved, "
        f"95 % intervals; stopped: {report.stopped}"
    )


def _count_table(out: Output, report: LatencyReport) -> None:
    counted = any(model.instructions for model in report.models)
    compared = any(report.speed(model) for model in report.models)
    rows: list[tuple[str, ...]] = []
    for model in report.models:
        counts, estimate = model.instructions, model.estimate
        counts_of = (f"{counts.total:,}", _told(counts.simd), _told(counts.load, counts.store)) if counts else ()
        rows.append(
            (
                model.file,
                *(counts_of or (("–",) * 3 if counted else ())),
                *((_ratio(report, model), _milliseconds(estimate)) if compared else ()),
                _memory(model),
            )
        )
    columns = ("instructions", "vector", "loads, stores") if counted else ()
    speeds = ("ratio", "latency, estimated") if compared else ()
    out.table(("file", *columns, *speeds, "memory"), rows)
    for what in dict.fromkeys(model.memory.what for model in report.models if model.memory):
        out.line(f"memory: {what}")
    nothing = "" if compared or report.obtained == "estimated" else f"; no latency: {report.stopped}"
    out.line(f"{report.obtained} on {report.device}: {report.hardware}{nothing}")
    for basis in dict.fromkeys(model.estimate.basis for model in report.models if model.estimate):
        out.line(f"estimated: {basis}")


def _told(*counts: int | None) -> str:
    """The sum of counts; "–" where the counter does not tell one."""
    told = [count for count in counts if count is not None]
    return f"{sum(told):,}" if len(told) == len(counts) else "–"


def _ratio(report: LatencyReport, model: ModelLatency) -> str:
    speed = report.speed(model)
    return ratio_words(speed.ratio) if speed and (speed.ratio or model is report.models[0]) else "–"


def _milliseconds(estimate: Estimate | None) -> str:
    return f"{estimate.latency_us.value / 1e3:.3g} ms" if estimate else "–"


def _memory(model: ModelLatency) -> str:
    return size(model.memory.model_bytes) if model.memory and model.memory.model_bytes else "–"
