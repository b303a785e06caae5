"""Figures as people read them: units chosen by size, three significant digits, a real minus sign."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgedl.core.artifacts import SHARES

Json = Mapping[str, Any]


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, no exponent where it is not needed: "12.3", "0.0456"."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    style = f".{digits - 1}e" if size < -4 or size >= 9 else f".{max(0, digits - 1 - size)}f"
    return format(value, style).replace("-", "−")


def count(value: float) -> str:
    """A whole number, its thousands set apart by thin spaces: "200 000"."""
    return f"{value:,.0f}".replace(",", "\u2009")


def plain(value: float) -> str:
    """A number as a recipe would write it: "127.5", "16"."""
    return f"{value:g}".replace("-", "−")


def size(size_bytes: float) -> str:
    """Bytes in decimal units, as stores and networks count them: "14.2 kB"."""
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{number(size_bytes / factor)} {unit}"
    return f"{size_bytes:.0f} B"


def time(time_us: float) -> str:
    """Microseconds in a unit that fits: "21.3 µs", "4.56 ms"."""
    if time_us >= 1e6:
        return f"{number(time_us / 1e6)} s"
    if time_us >= 1e3:
        return f"{number(time_us / 1e3)} ms"
    return f"{number(time_us)} µs"


def speed(found: Json) -> str:
    """A time, or a number of instructions: "1.5 M instructions"."""
    value = found["value"]["value"]
    return time(value) if found["unit"] == "us" else instructions(value)


def instructions(value: float) -> str:
    """ "1.5 M instructions", "48,540 instructions"."""
    return f"{number(value / 1e6)} M instructions" if value >= 1e6 else f"{count(value)} instructions"


def cost(value: float, unit: str) -> str:
    """What an op takes: a time, instructions, cycles, or multiply–accumulates."""
    if unit == "us":
        return time(value)
    return instructions(value) if unit == "instructions" else f"{count(value)} {unit}"


def time_range(interval: Json) -> str:
    """The bounds of an interval in microseconds, in the unit of the larger: "20.9–21.8 µs"."""
    factor, unit = (1e6, "s") if interval["high"] >= 1e6 else (1e3, "ms") if interval["high"] >= 1e3 else (1, "µs")
    return f"{number(interval['low'] / factor)}–{number(interval['high'] / factor)} {unit}"


def duration(seconds: float) -> str:
    """Seconds as a duration: "42 s", "3 min 20 s", "1 h 05 min"."""
    if seconds < 10:
        return f"{number(seconds, 2)} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def metric(name: str) -> str:
    """A metric's name in full."""
    return "mean absolute error" if name == "mae" else name


def quality(judged: Json) -> str:
    """The value of a quality: a share in per cent, an error as a number."""
    return f"{100 * judged['value']:.2f} %" if judged["metric"] in SHARES else number(judged["value"])


def quality_range(judged: Json) -> str:
    """The bounds of a quality's interval, in the unit of its value."""
    low, high = judged["interval"]["low"], judged["interval"]["high"]
    if judged["metric"] in SHARES:
        return f"{100 * low:.2f}–{100 * high:.2f} %"
    return f"{number(low)} to {number(high)}"


def change(value: float, unit: str) -> str:
    """A signed change in points (two decimals, as accuracies have) or in another unit."""
    if unit == "points":
        return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−").replace("+0.00", "0.00")
    return ("+" if value > 0 else "") + number(value)


def ratio(value: float) -> str:
    """A ratio: "0.93×", "21.4×"."""
    return f"{value:.2f}×" if value < 10 else f"{number(value)}×"


def ratio_range(interval: Json) -> str:
    """The bounds of a ratio's interval, with one digit more than the ratio."""
    digits = 3 if interval["high"] < 10 else 1
    return f"{interval['low']:.{digits}f}–{interval['high']:.{digits}f}"
