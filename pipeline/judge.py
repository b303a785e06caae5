"""Judging a model file on the test split. Its answers are kept, so that models compare example by example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import Artifact, Quality, QualityChange, TrainedModel
from edgedl.core.console import reporter
from edgedl.export.inference import run_file
from edgedl.export.inspect import inspect_file
from edgedl.pipeline.data import Splits, examples_array
from edgedl.pipeline.evaluate import quality, quality_change

FILE = "test-outputs.npz"

CHUNK_BYTES = 128e6


def judge(path: Path, trained: TrainedModel, data: Splits, *, of: str, folder: Path) -> QualityChange | None:
    """The loss of a .tflite or .onnx file against the trained model; its answers stay in `folder`.

    of: what the file is, in words. None where there is no test split.
    """
    if not len(data.test) or trained.quality is None:
        return None
    outputs = run_on_test(path, data, trained.contract.outputs[0].name)
    save_outputs(folder, outputs)
    after = quality(outputs, data.test.targets, data.task, of=of)
    return quality_change((trained.quality, load_outputs(trained)), (after, outputs), data.test.targets)


def run_on_test(path: Path, data: Splits, output: str) -> NDArray[np.float32]:
    """One output of a .tflite or .onnx file on all test examples, shape (n, …), chunk by chunk."""
    n = len(data.test)
    chunk = max(1, int(CHUNK_BYTES / (4 * np.prod(data.input.shape))))
    parts: list[NDArray[Any]] = []
    with reporter().progress(f"judging {path.name}", n) as bar:
        for start in range(0, n, chunk):
            positions = np.arange(start, min(start + chunk, n))
            inputs = examples_array(data.test, data.input, positions)
            parts.append(run_file(path, {data.input.name: inputs})[output])
            bar.update(positions[-1] + 1)
    return np.concatenate(parts).astype(np.float32)


def save_outputs(folder: Path, outputs: NDArray[np.float32]) -> None:
    """Keep the answers in an artifact's folder."""
    np.savez(folder / FILE, outputs=outputs)


def load_outputs(artifact: Artifact) -> NDArray[np.float32]:
    """The answers that an artifact kept."""
    with np.load(artifact.path(FILE), allow_pickle=False) as archive:
        return archive["outputs"]


def quality_change_of_files(before: Path, after: Path, data: Splits) -> QualityChange:
    """The loss from one .tflite or .onnx file to another on the test split."""
    judged: list[tuple[Quality, NDArray[np.float32]]] = []
    for path in (before, after):
        facts = inspect_file(path)
        named = data.named(facts.inputs[0].name)
        outputs = run_on_test(path, named, facts.outputs[0].name)
        what = f"{facts.kind} {facts.precision}"
        judged.append((quality(outputs, data.test.targets, data.task, of=what), outputs))
    return quality_change(judged[0], judged[1], data.test.targets)
