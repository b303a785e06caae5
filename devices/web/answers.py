"""What the answers of a page are worth: outputs beside those on this computer, and what the runtimes say."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedl.core.errors import ModelError, StageError
from edgedl.core.isolation import Limits, run_isolated
from edgedl.core.model_facts import ModelFile
from edgedl.devices.protocol import SamplingPlan

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALIKE = 1e-4
"""Differences of float outputs below this share of the largest are rounding (fused multiply–adds, order of sums)."""
LIMITS = Limits(time_s=120.0)


def outputs_here(path: Path, file_format: str, xnnpack: bool, seed: int) -> tuple[str, list[NDArray[Any]]]:
    """The runtime, and the file's outputs in it, for the session's inputs; call it in a child process."""
    from edgedl.devices.session import runtime_of

    runtime = runtime_of(file_format)
    runtime.load_runtime()
    session = runtime.open_session(path, threads=1, xnnpack=xnnpack, seed=seed)
    session.invoke()
    return session.runtime, session.outputs()


def compared(file: ModelFile, there: Sequence[bytes], plan: SamplingPlan, *, always: bool) -> tuple[str, ...]:
    """A note where the page's outputs are not this computer's; with `always`, also where they are alike."""
    arguments = file.path, file.format, plan.xnnpack, plan.seed
    try:
        runtime, here = run_isolated(
            outputs_here, *arguments, stage="profiling", subject=file.path.name, nursery="runtime", limits=LIMITS
        )
    except (ModelError, StageError) as error:
        return (f"outputs are not compared: {error.what} on this computer",)
    share = difference(here, there)
    if share is None:
        return (f"outputs have other sizes than in {runtime} on this computer",)
    if share <= ALIKE and not always:
        return ()
    if share == 0:
        return (f"outputs are those of {runtime} on this computer, to the bit",)
    return (f"outputs differ from those of {runtime} on this computer by up to {share:.1e} of the largest",)


def decoded(text: str) -> bytes:
    """An output's bytes, as the page writes them."""
    return base64.b64decode(text)


def difference(here: Sequence[NDArray[Any]], there: Sequence[bytes]) -> float | None:
    """The largest difference as a share of the output's largest value, of all outputs; infinite where only one side is
    finite; None for other sizes."""
    import numpy as np

    if [array.nbytes for array in here] != [len(content) for content in there]:
        return None
    worst = 0.0
    for array, content in zip(here, there, strict=True):
        a = np.asarray(array, np.float64).ravel()
        b = np.frombuffer(content, array.dtype).astype(np.float64)
        finite = np.isfinite(a) & np.isfinite(b)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return float("inf")
        if finite.any():
            largest = np.abs(a[finite]).max() or 1.0
            worst = max(worst, float(np.abs(a[finite] - b[finite]).max() / largest))
    return worst


# --- what the runtimes say on the page's console --------------------------------------------------------------------

_FAILED = re.compile(
    r"^ERROR: (?:\[litert_\w+\.cc:\d+\] (.*)|(.*(?:unresolved custom op|failed to prepare|invoke).*))$"
)


def complaints(said: Sequence[str]) -> str:
    """Errors that LiteRT.js writes on the console and hides from the app: its `run` then gives whatever the memory
    held. Empty where there are none."""
    found = [match[1] or match[2] for line in said if (match := _FAILED.match(line))]
    return "; ".join(dict.fromkeys(found))[:300]


def reason(thrown: str, said: Sequence[str]) -> str:
    """Why a file does not run, in a line: what was thrown, without LiteRT's places in its sources, and what it hid."""
    words = re.sub(r"(└\s*)?ERROR: \[[^\]]*\]\s*", "", thrown)
    errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
    found = [" ".join(words.split()), complaints(said)]
    return "; ".join(part for part in found if part)[:400] or (errors or ["no reason given"])[-1][:400]


_SPLIT = re.compile(r"(\d+|No) operations will run on the GPU, and (?:the remaining|all) (\d+) operations")
_REFUSED = re.compile(r"(?!ERROR|INFO|WARNING)([A-Z][A-Z0-9_]+): (.+)")


def placement(file: ModelFile, said: Sequence[str]) -> str:
    """Which part of the file the GPU runs, by the runtime's own log. (LiteRT.js's `isFullyAccelerated` is true where
    nothing runs there.)"""
    if file.format == "onnx":
        placed = [match for line in said if (match := re.search(r"laced on \[(\w+)\]\. Number of nodes: (\d+)", line))]
        gpu = sum(int(match[2]) for match in placed if match[1].startswith("WebGpu"))
        total = sum(int(match[2]) for match in placed)
        if not total:
            return "ONNX Runtime Web does not tell which nodes the GPU runs"
        return f"the GPU runs {'all' if gpu == total else gpu} of {total} nodes, as ONNX Runtime fused them"
    split = next((match for line in said if (match := _SPLIT.match(line))), None)
    if split is None:
        whole = any("WebGPU-based API" in line for line in said)
        return "the GPU runs the whole file" if whole else "LiteRT.js does not tell what the GPU runs"
    gpu, cpu = 0 if split[1] == "No" else int(split[1]), int(split[2])
    why: dict[str, str] = {}
    for line in said:
        if match := _REFUSED.match(line):
            why.setdefault(match[1], match[2])
    reasons = "; ".join(f"{kind}: {words}" for kind, words in why.items())[:600]
    return f"the GPU runs {gpu or 'none'} of {gpu + cpu} ops, the CPU the rest ({reasons})"
