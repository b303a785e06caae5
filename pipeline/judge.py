"""Judging a model on the test split. The evidence is kept, so that models compare example by example."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import Artifact, QualityChange, TrainedModel
from edgedl.core.console import reporter
from edgedl.core.contract import Contract, OutputContract
from edgedl.export.inference import run_file
from edgedl.export.inspect import inspect_file
from edgedl.pipeline.data import Splits
from edgedl.pipeline.evaluate import Arrays, Evidence, quality, quality_change
from edgedl.pipeline.tasks import TASKS

FILE = "test-evidence.npz"

CHUNK_BYTES = 128e6


def judge(path: Path, trained: TrainedModel, data: Splits, *, of: str, folder: Path) -> QualityChange | None:
    """The loss of a .tflite or .onnx file against the trained model; its evidence stays in `folder`.

    of: what the file is, in words. None where there is no test split.
    """
    if not len(data.test) or trained.quality is None:
        return None
    measure = TASKS[trained.contract.task].measure
    found = evidence(lambda inputs: run_file(path, inputs), trained.contract, data, title=path.name)
    save_evidence(folder, found)
    after = quality(found, measure, of=of)
    return quality_change((trained.quality, load_evidence(trained)), (after, found), measure)


def evidence(
    run: Callable[[Arrays], Arrays],
    contract: Contract,
    data: Splits,
    *,
    title: str,
    split: Literal["test", "validation"] = "test",
) -> Evidence:
    """What the task's measure keeps of a model's answers to all examples of the split, chunk by chunk.

    run: from inputs by name, (b, …), to outputs by name.
    """
    examples = data.test if split == "test" else data.validation
    rules, n = TASKS[contract.task], len(examples)
    chunk = max(1, int(CHUNK_BYTES / (4 * np.prod(data.input.shape))))
    parts: list[NDArray[Any]] = []
    with reporter().progress(f"judging {title}", n) as bar:
        for start in range(0, n, chunk):
            asked = rules.ask(contract, data, examples, np.arange(start, min(start + chunk, n)))
            output = run(asked.inputs)[contract.outputs[0].name]
            parts.append(rules.measure.evidence(np.asarray(output, np.float32), asked))
            bar.update(start + len(output))
    return np.concatenate(parts)


def save_evidence(folder: Path, found: Evidence) -> None:
    """Keep the evidence in an artifact's folder."""
    np.savez(folder / FILE, evidence=found)


def load_evidence(artifact: Artifact) -> Evidence:
    """The evidence that an artifact kept."""
    with np.load(artifact.path(FILE), allow_pickle=False) as archive:
        return archive["evidence"]


def quality_change_of_files(before: Path, after: Path, data: Splits) -> QualityChange:
    """The loss from one .tflite or .onnx file to another on the test split, doing what the data is made for."""
    measure = TASKS[data.task].measure
    judged = []
    for path in (before, after):
        facts = inspect_file(path)
        named = data.named(facts.inputs[0].name)
        outputs = tuple(OutputContract(one.name, one.shape[1:]) for one in facts.outputs)
        found = evidence(
            lambda given, path=path: run_file(path, given),
            Contract(data.task, (named.input,), outputs),
            named,
            title=path.name,
        )
        judged.append((quality(found, measure, of=f"{facts.kind} {facts.precision}"), found))
    return quality_change(judged[0], judged[1], measure)
