"""Judging one file of anybody's on a work: the same examples, the same runtime, the same statistics for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.files import gzip_size
from edgedl.core.statistics import Interval, bootstrap_mean, paired_difference, wilson

DEVICE = "arm64:cortex-a76"


@dataclass(frozen=True)
class Judgement:
    """One file.

    quality: accuracy (share), or for reconstructions the mean distance of a score from the float model's. loss: against
    the float model on the same examples, in points; for reconstructions as `quality`. worst: largest distance of a
    score. gzip_bytes: at level 9. instructions: of one inference, emulated; None where the emulator cannot run it.
    """

    file_bytes: int
    gzip_bytes: int
    quality: Interval
    loss: Interval
    n: int
    worst: float | None = None
    instructions: int | None = None
    instructions_refused: str = ""


def judge(path: Path, float_answers: NDArray[Any], x: NDArray[Any], y: NDArray[Any], classifies: bool) -> Judgement:
    """float_answers: of the model that the file is compared with, (n, …), to the inputs x, (n, …). y: what is right."""
    found = answers(path, x)
    worst = None
    if classifies:
        before, after = (given.argmax(axis=1) == y for given in (float_answers, found))
        quality, loss = wilson(int(after.sum()), len(y)), paired_difference(before, after).scaled(100.0)
    else:
        distance = np.abs(scores(found, x) - scores(float_answers, x))
        quality = loss = bootstrap_mean(distance)
        worst = float(distance.max())
    counted, refused = instructions(path)
    return Judgement(path.stat().st_size, gzip_size(path), quality, loss, len(x), worst, counted, refused)


def scores(reconstruction: NDArray[Any], x: NDArray[Any]) -> NDArray[np.float64]:
    """How badly each example was reconstructed: mean squared error, (n,)."""
    return np.square(reconstruction.astype(np.float64) - x).reshape(len(x), -1).mean(axis=1)


def answers(path: Path, x: NDArray[Any]) -> NDArray[np.float32]:
    """A .tflite or .onnx file's first output to every example, (n, …), in the float model's units."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return np.concatenate([np.asarray(session.run(None, {name: one[None]})[0], np.float32) for one in x])
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    takes, gives = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for one in x:
        interpreter.set_tensor(takes["index"], stored(one[None], takes))
        interpreter.invoke()
        scale, zero = gives["quantization"]
        value = interpreter.get_tensor(gives["index"]).astype(np.float32)
        found.append((value - zero) * scale if scale else value)
    return np.concatenate(found)


def stored(value: NDArray[Any], tensor: dict[str, Any]) -> NDArray[Any]:
    """Values as a tensor of the file holds them."""
    scale, zero = tensor["quantization"]
    if not scale:
        return value.astype(tensor["dtype"])
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(value / scale + zero), limits.min, limits.max).astype(tensor["dtype"])


def instructions(path: Path) -> tuple[int | None, str]:
    """Of one inference on an emulated Cortex-A76, or why they cannot be counted."""
    import edgedl
    from edgedl.core.errors import EdgedlError

    if path.suffix != ".tflite":
        return None, "counted for TFLite files only"
    try:
        counted = edgedl.profile(path, device=DEVICE).models[0].instructions
    except EdgedlError as error:
        return None, str(error).splitlines()[0]
    return (round(counted.total), "") if counted else (None, "no count")


# --- the front ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """A file as a point: small and with little loss is good."""

    name: str
    size: int
    loss: float

    def beats(self, other: Point) -> bool:
        """Smaller and more accurate, or one of the two with the other equal."""
        return (
            self.size <= other.size
            and self.loss <= other.loss
            and (self.size, self.loss) != (other.size, other.loss)
            and not math.isnan(self.loss)
        )


def front(points: Sequence[Point]) -> set[str]:
    """Names of the points that no other beats."""
    return {one.name for one in points if not any(other.beats(one) for other in points)}


def beaten_by_peers(ours: Sequence[Point], theirs: Sequence[Point]) -> list[tuple[Point, list[Point]]]:
    """Peers' points that none of ours matches (as small and as accurate), each with ours that it beats."""
    unmatched = [peer for peer in theirs if not any(own.size <= peer.size and own.loss <= peer.loss for own in ours)]
    return [(peer, beaten) for peer in unmatched if (beaten := [own for own in ours if peer.beats(own)])]
