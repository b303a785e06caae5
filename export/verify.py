"""Parity: does the exported file give the Keras model's answers?

float32 and float16 are judged by their error; quantised schemes by what the error does to the answer, because an error
of one step of the scale is their nature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import OutputParity, QualityChange
from edgedl.core.contract import Contract


@dataclass(frozen=True)
class Tolerance:
    """What a precision may do to an output; None: not judged by this.

    relative_error: largest absolute error over the largest absolute reference value. sqnr_db: at least this
    signal-to-quantization-noise ratio. agreement: at least this share of equal arg-max answers (classifiers).
    """

    relative_error: float | None = None
    sqnr_db: float | None = None
    agreement: float | None = None


TOLERANCES: dict[str, Tolerance] = {
    # 24 bits of mantissa; other summation orders cost a few of them.
    "float32": Tolerance(relative_error=1e-4, agreement=0.99),
    # 11 bits of mantissa in the weights: 2^-11 each, before they are summed; a deep model amplifies that (`compare`).
    "float16": Tolerance(relative_error=1e-2, agreement=0.98),
    # 8-bit uniform quantization of a full-range signal has 6.02·8 + 1.76 = 49.9 dB at most (Bennett 1948).
    "dynamic-range": Tolerance(sqnr_db=20.0, agreement=0.95),
    "weight-only-int8": Tolerance(sqnr_db=20.0, agreement=0.95),
    # Of a full-range signal 4 bits leave 6.02·4 + 1.76 = 25.8 dB at most; a network's layers add their errors up.
    "weight-only-int4": Tolerance(sqnr_db=10.0, agreement=0.9),
    "int8": Tolerance(sqnr_db=15.0, agreement=0.95),
    "int16x8": Tolerance(sqnr_db=20.0, agreement=0.95),
}


EXACT = ("float32", "float16")
"""Precisions whose error is judged as it is; the others are judged by the task where data tells how well it is done."""

MOST_ROUNDING = 4.0
"""How far two roundings of one network to float16 may lie apart: an exporter rounds weights into which normalisations
were multiplied, so each falls on another side. Scaling channels by chance before rounding (8 times each for
mobilenet-v1, -v2, efficientnet-lite and resnet50 of `examples/zoo`) gave largest errors of 0.4 to 2.8 times that of
the weights as they are; the exported files had 0.4 to 2.5 times it."""

MOST_POINTS, MOST_ERROR = 2.0, 0.1
"""What quantization may cost: points of a share (accuracy, AUC), or this part of an error (perplexity, mae)."""


def compare(
    reference: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
    precision: str,
    contract: Contract,
    change: QualityChange | None = None,
    rounded: Mapping[str, NDArray[Any]] | None = None,
) -> tuple[tuple[OutputParity, ...], str, tuple[str, ...]]:
    """Compare outputs by name, shapes (n, …); returns (per output, the rule in words, what broke it).

    rounded: the Keras model's own outputs with weights in the file's precision. The file, whose weights are rounded
    after BatchNorm was folded into them, may err `MOST_ROUNDING` times as much, where this is more than the tolerance.
    change: of the task's quality from the Keras model to this file, where data was there to judge it. An error that
    was almost nothing may grow by more than its part as long as the answers are the same within the tolerance.
    """
    choices = {one.name for one in contract.outputs if one.content in ("probabilities", "logits")}
    tolerance = TOLERANCES.get(precision, TOLERANCES["int8"])  # "mixed" is judged like the roughest of its parts
    rule = _in_words(precision, tolerance, bool(choices))
    found: list[OutputParity] = []
    failures: list[str] = []
    broken: list[str] = []
    for name, expected in reference.items():
        if name not in outputs:
            failures.append(f"output {name} is missing; the file has {', '.join(outputs)}")
            continue
        if outputs[name].shape != expected.shape:
            failures.append(f"output {name} has shape {outputs[name].shape[1:]} instead of {expected.shape[1:]}")
            continue
        parity = _compare_one(name, expected, outputs[name], classes=name in choices)
        found.append(parity)
        allowed = tolerance
        if rounded is not None and tolerance.relative_error is not None:
            own = MOST_ROUNDING * _compare_one(name, expected, rounded[name], classes=False).relative_error
            allowed = replace(tolerance, relative_error=max(tolerance.relative_error, own))
            rule = f"{precision}: relative error at most {allowed.relative_error:.2g} ({MOST_ROUNDING:g} times what "
            rule += "rounding its weights does to the Keras model)"
        broken += _broken(parity, allowed)
    if change is not None and precision not in EXACT and all(math.isfinite(one.max_abs_error) for one in found):
        worst = MOST_POINTS if change.after.is_share else MOST_ERROR * change.before.value
        unit = " points" if change.after.is_share else ""
        if change.loss > worst and change.interval.low > 0 and (change.after.is_share or broken):
            failures.append(f"{change.after.metric}: a loss of {change.loss:.3g}{unit} > {worst:.3g}{unit}")
        judged = f"{change.after.metric} on {change.after.n:,} test examples"
        return tuple(found), f"{precision}: {judged}, a loss of {worst:.3g}{unit} at most", tuple(failures)
    return tuple(found), rule, (*failures, *broken)


def _compare_one(name: str, expected: NDArray[Any], got: NDArray[Any], *, classes: bool) -> OutputParity:
    reference, error = expected.astype(np.float64), got.astype(np.float64) - expected.astype(np.float64)
    if not np.isfinite(got).all():
        return OutputParity(name, float("inf"), float("inf"), float("inf"), float("-inf"), 0.0 if classes else None)
    noise, signal = float((error**2).sum()), float((reference**2).sum())
    peak = float(np.abs(reference).max(initial=0.0))
    largest = float(np.abs(error).max(initial=0.0))
    agreement = None
    if classes and expected.ndim > 1 and expected.shape[-1] > 1:
        agreement = float((expected.argmax(axis=-1) == got.argmax(axis=-1)).mean())
    return OutputParity(
        name=name,
        max_abs_error=largest,
        mean_abs_error=float(np.abs(error).mean()),
        relative_error=largest / peak if peak else largest,
        sqnr_db=float(10 * np.log10(signal / noise)) if noise and signal else None,
        agreement=agreement,
    )


def _broken(parity: OutputParity, tolerance: Tolerance) -> list[str]:
    broken: list[str] = []
    if tolerance.relative_error is not None and parity.relative_error > tolerance.relative_error:
        broken.append(f"{parity.name}: relative error {parity.relative_error:.2g} > {tolerance.relative_error:g}")
    if tolerance.sqnr_db is not None and parity.sqnr_db is not None and parity.sqnr_db < tolerance.sqnr_db:
        broken.append(f"{parity.name}: signal-to-noise ratio {parity.sqnr_db:.1f} dB < {tolerance.sqnr_db:g} dB")
    if tolerance.agreement is not None and parity.agreement is not None and parity.agreement < tolerance.agreement:
        broken.append(f"{parity.name}: same answer in {parity.agreement:.1%} of examples < {tolerance.agreement:.0%}")
    return broken


def _in_words(precision: str, tolerance: Tolerance, choices: bool) -> str:
    rules = []
    if tolerance.relative_error is not None:
        rules.append(f"relative error at most {tolerance.relative_error:g}")
    if tolerance.sqnr_db is not None:
        rules.append(f"signal-to-noise ratio at least {tolerance.sqnr_db:g} dB")
    if tolerance.agreement is not None and choices:
        rules.append(f"same answer in at least {tolerance.agreement:.0%} of examples")
    return f"{precision}: " + ", ".join(rules)


def random_inputs(contract: Contract, n: int, seed: int) -> dict[str, NDArray[Any]]:
    """Inputs by name, shape (n, …), for a model without data: uniform over the contract's raw range, normalised.

    Without a raw range, standard normal values. The first and second example are the range's two ends.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, NDArray[Any]] = {}
    for one in contract.inputs:
        shape = (n, *one.shape)
        if np.issubdtype(np.dtype(one.dtype), np.integer):
            found[one.name] = rng.integers(0, 2, shape).astype(one.dtype)
            continue
        if one.raw_range is None:
            found[one.name] = rng.standard_normal(shape).astype(one.dtype)
            continue
        raw = rng.uniform(*one.raw_range, shape)
        raw[0], raw[min(1, n - 1)] = one.raw_range
        mean, std = one.scaling()
        found[one.name] = ((raw - mean) / std).astype(one.dtype)
    return found
