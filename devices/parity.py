"""The same answers on the device? Its outputs against the host CPU's, on the same random inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgedl.core.artifacts import DeviceParity, OutputParity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Outputs = list[list[NDArray[Any]]]
    """By example, then output."""
else:
    Outputs = list

EXAMPLES = 4
NOT_ROUNDING = 0.05
"""Of the largest output: several steps of an 8-bit scale, and far above float16's rounding in a deep model."""


def parity(arithmetic: str, against: str, names: Sequence[str], found: Outputs, reference: Outputs) -> DeviceParity:
    """How far each output is from the reference, over all examples; infinitely where only one of them is finite."""
    outputs = tuple(
        _difference(names[index] if index < len(names) else str(index), one, other)
        for index, (one, other) in enumerate(zip(zip(*found, strict=True), zip(*reference, strict=True), strict=True))
    )
    return DeviceParity(arithmetic, against, len(found), outputs)


def _difference(name: str, found: Sequence[NDArray[Any]], reference: Sequence[NDArray[Any]]) -> OutputParity:
    import numpy as np

    ours, theirs = (np.concatenate([array.ravel() for array in arrays]).astype("f8") for arrays in (found, reference))
    finite = np.isfinite(theirs) & np.isfinite(ours)
    if not np.array_equal(ours[~finite], theirs[~finite], equal_nan=True):
        return OutputParity(name, float("inf"), float("inf"), float("inf"), None, None)
    ours, theirs = ours[finite], theirs[finite]
    error, largest = np.abs(ours - theirs), float(np.abs(theirs).max(initial=0.0))
    worst = float(error.max(initial=0.0))
    noise, signal = float((error**2).sum()), float((theirs**2).sum())
    return OutputParity(
        name=name,
        max_abs_error=worst,
        mean_abs_error=float(error.mean()) if error.size else 0.0,
        relative_error=worst / largest if largest else (float("inf") if worst else 0.0),
        sqnr_db=float(10 * np.log10(signal / noise)) if noise and signal else None,
        agreement=None,
    )


def words(found: Sequence[DeviceParity], where: str) -> list[str]:
    """ "outputs differ from the CPU's by at most 2.8e-07 (float32), 2.0e-03 (float16) of the largest …", and a warning
    where that is no rounding. where: whose outputs, e.g. "the GPU"."""
    if not found:
        return []
    on = f"on {found[0].n} random input{'s' if found[0].n > 1 else ''}"
    worst = {one.arithmetic: max((output.relative_error for output in one.outputs), default=0.0) for one in found}
    if not any(worst.values()):
        return [f"outputs equal the CPU's, {on}"]
    told = ", ".join(f"{error:.1e} ({arithmetic})" for arithmetic, error in worst.items())
    sentences = [f"outputs differ from the CPU's by at most {told} of the largest, {on}"]
    if wrong := [arithmetic for arithmetic, error in worst.items() if not error <= NOT_ROUNDING]:
        sentences.append(f"{where}'s answers are not the CPU's in {', '.join(wrong)}: judge this file there before use")
    return sentences
