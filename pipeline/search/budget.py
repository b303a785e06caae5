"""A budget in words, `size<=60KB, latency<=0.5x, accuracy_drop<=0.5`: checked before anything heavy is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgedl.core.config import unknown
from edgedl.core.errors import ConfigError

Quantity: TypeAlias = Literal["parameters", "macs", "size", "gzip", "loss", "instructions", "latency"]

QUANTITIES: Mapping[Quantity, str] = {
    "parameters": "weights of the Keras model",
    "macs": "multiply–accumulates of an inference",
    "size": "bytes of the file",
    "gzip": "bytes of the file after gzip -9",
    "loss": "quality lost against float32",
    "instructions": "instructions of an inference, emulated",
    "latency": "time of an inference, measured on this machine",
}
"""What a budget may name, the cheapest to find out first."""

_NAMES: Mapping[str, Quantity] = {**{name: name for name in QUANTITIES}, "accuracy_drop": "loss"}

_BYTES = {"b": 1, "kb": 1e3, "kib": 1024, "mb": 1e6, "mib": 1024**2}
_COUNTS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}
_US = {"us": 1, "µs": 1, "μs": 1, "ms": 1e3, "s": 1e6}
_UNITS: Mapping[Quantity, Mapping[str, float]] = {
    "parameters": _COUNTS,
    "macs": _COUNTS,
    "size": _BYTES,
    "gzip": _BYTES,
    "loss": {"": 1},
    "instructions": _COUNTS,
    "latency": _US,
}
_EXAMPLES: Mapping[Quantity, str] = {
    "parameters": "50k or 0.5x of float32",
    "macs": "2.5M or 0.5x of float32",
    "size": "60KB, 60KiB, 0.1MB or 0.3x of float32",
    "gzip": "60KB, 60KiB, 0.1MB or 0.3x of float32",
    "loss": "0.5, in points of 100 for shares such as accuracy",
    "instructions": "1.5M or 0.5x of float32",
    "latency": "250us, 2ms or 0.5x of float32",
}
_LIMIT = re.compile(r"\s*([A-Za-z][\w -]*?)\s*(<=|≤|>=|≥|==|<|>|=)\s*(.*?)\s*")
_VALUE = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\d\s.]*)")
MOST_POINTS = 100.0


@dataclass(frozen=True)
class Limit:
    """One upper limit.

    value: in bytes, µs, a count, or what the loss is measured in; a share of float32's where `relative`. points:
    whether the user spoke of accuracy, which only shares have.
    """

    quantity: Quantity
    value: float
    relative: bool = False
    points: bool = False

    @property
    def words(self) -> str:
        """As a budget says it: "size<=60KB"."""
        name = "accuracy_drop" if self.points else self.quantity
        if self.relative:
            return f"{name}<={self.value:g}x"
        if self.quantity == "latency":
            return f"{name}<={self.value:.12g}us"
        unit = {"size": "B", "gzip": "B"}.get(self.quantity, "")
        if unit and self.value >= 1e3:
            return f"{name}<={self.value / 1e3:.12g}KB"
        return f"{name}<={self.value:.12g}{unit}"


@dataclass(frozen=True)
class Budget:
    """Upper limits, and which quantity should be as small as it can within them."""

    limits: tuple[Limit, ...]
    minimise: Quantity

    @property
    def words(self) -> str:
        """The limits as they would be typed."""
        return ", ".join(limit.words for limit in self.limits)

    @property
    def objectives(self) -> tuple[Quantity, ...]:
        """What the search trades off, cheapest first: what the budget names, always the loss, and one cost at least."""
        named = {limit.quantity for limit in self.limits} | {self.minimise, "loss"}
        if named == {"loss"}:
            named.add("size")
        return tuple(name for name in QUANTITIES if name in named)


def parse_budget(text: str, minimise: str | None = None) -> Budget:
    """The budget that the words name.

    minimise: the goal; unless given, the loss where no limit speaks of it, the size where no other limit is set, else
    the first quantity named. Raises ConfigError for what cannot be read, makes no sense or contradicts itself.
    """
    parts = [part for part in re.split(r"[,;\n]", text) if part.strip()]
    if not parts:
        raise ConfigError("--budget is empty", required="limits such as size<=60KB, latency<=0.5x, accuracy_drop<=0.5")
    limits: list[Limit] = []
    for part in parts:
        limit = _parse_limit(part.strip())
        for before in limits:
            if before.quantity == limit.quantity:
                _refuse_second(before, limit)
        limits.append(limit)
    if minimise is not None:
        return Budget(tuple(limits), _quantity(minimise, "--minimise"))
    named: list[Quantity] = [limit.quantity for limit in limits]
    if "loss" not in named:
        return Budget(tuple(limits), "loss")
    goal: Quantity = "size" if set(named) == {"loss"} else named[0]
    return Budget(tuple(limits), goal)


def _refuse_second(before: Limit, limit: Limit) -> None:
    if before.relative != limit.relative:
        return  # 60 kB and half of float32's are two questions
    raise ConfigError(
        f"budget: {limit.quantity} is limited twice",
        required="one limit for each quantity",
        received=f"{before.words} and {limit.words}",
    )


def _quantity(name: str, where: str) -> Quantity:
    key = re.sub(r"[ -]+", "_", name.strip().lower())
    if key not in _NAMES:
        raise ConfigError(f"{where}: {unknown(key, set(_NAMES), what='quantity')}")
    return _NAMES[key]


def _parse_limit(text: str) -> Limit:
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise ConfigError(
            "budget: this is no limit", required="QUANTITY<=VALUE, for example size<=60KB", received=repr(text)
        )
    name, sign, value = found.groups()
    quantity = _quantity(name, "budget")
    if sign not in {"<=", "≤"}:
        raise ConfigError(
            f"budget: {quantity} is limited with {sign}",
            required=f"an upper limit, {name}<=…",
            received=repr(text),
        )
    points = quantity == "loss" and name.strip().lower().startswith("accuracy")
    return _checked(quantity, value, text, points)


def _checked(quantity: Quantity, value: str, text: str, points: bool) -> Limit:
    units = _UNITS[quantity]
    found = _VALUE.fullmatch(value)
    unit = found[2].lower() if found else ""
    relative = unit in {"x", "×"} and quantity != "loss"
    if found is None or not (relative or unit in units):
        raise ConfigError(f"budget: {quantity} is not understood", required=_EXAMPLES[quantity], received=repr(text))
    number = float(found[1]) * (1.0 if relative else units[unit])
    zero_is_fine = quantity == "loss"
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero_is_fine):
        raise ConfigError(
            f"budget: no file keeps {text}",
            required=f"{quantity} {'0 or more' if zero_is_fine else 'more than 0'}",
            received=repr(value),
        )
    if points and number >= MOST_POINTS:
        raise ConfigError(f"budget: {text} asks nothing", required="points of accuracy below 100 (0.5 is half a point)")
    return Limit(quantity, number, relative, points)
