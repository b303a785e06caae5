"""What the answers of a page are worth: outputs beside those on this computer, and what the runtimes say."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedl.core.artifacts import DeviceParity
from edgedl.core.errors import ModelError, StageError
from edgedl.core.isolation import Limits, run_isolated
from edgedl.core.model_facts import ModelFile
from edgedl.devices import parity
from edgedl.devices.protocol import SamplingPlan

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIMITS = Limits(time_s=120.0)


def outputs_here(path: Path, file_format: str, xnnpack: bool, seed: int) -> tuple[str, list[NDArray[Any]]]:
    """The runtime, and the file's outputs in it, for the session's inputs; call it in a child process."""
    from edgedl.devices.session import runtime_of

    runtime = runtime_of(file_format)
    runtime.load_runtime()
    session = runtime.open_session(path, threads=1, xnnpack=xnnpack, seed=seed)
    session.invoke()
    return session.runtime, session.outputs()


def compared(file: ModelFile, there: Sequence[bytes], plan: SamplingPlan) -> tuple[list[DeviceParity], list[str]]:
    """How far the page's outputs are from this computer's, and that in words."""
    import numpy as np

    arguments = file.path, file.format, plan.xnnpack, plan.seed
    try:
        runtime, here = run_isolated(
            outputs_here, *arguments, stage="profiling", subject=file.path.name, nursery="runtime", limits=LIMITS
        )
    except (ModelError, StageError) as error:
        return [], [f"outputs not compared: {error.what} on this computer"]
    if [array.nbytes for array in here] != [len(content) for content in there]:
        return [], [f"outputs have other sizes than in {runtime} on this computer"]
    found = [np.frombuffer(content, array.dtype) for array, content in zip(here, there, strict=True)]
    names = [tensor.name for tensor in file.facts.outputs]
    one = parity.parity("the file's types", f"{runtime} on this computer's CPU", names, [found], [here])
    return [one], parity.words([one], "the browser")


def decoded(text: str) -> bytes:
    """An output's bytes, as the page writes them."""
    return base64.b64decode(text)


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
