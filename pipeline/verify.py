"""The verify stage: does the exported file give the Keras model's answers on the same inputs?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import ExportedModel, ParityReport, QualityChange, TrainedModel
from edgedl.core.contract import Contract
from edgedl.core.store import RunStore
from edgedl.export.inference import run_file, run_keras
from edgedl.export.verify import compare, random_inputs
from edgedl.pipeline.data import Splits
from edgedl.pipeline.tasks import TASKS

EXAMPLES = 200


def verify_stage(
    store: RunStore, exported: ExportedModel, trained: TrainedModel, *, data: Splits | None, seed: int
) -> ParityReport:
    """Compare the file with its Keras model on test examples (or random inputs where there is no data)."""
    return store.build(
        ParityReport,
        f"verify-{exported.name}-{exported.format}",
        lambda folder: _verify(folder, exported, trained, data, seed),
        config={"examples": EXAMPLES, "data": data.record.fingerprint if data else None},
        parents=[trained, exported],
        seed=seed,
    )


def _verify(
    folder: Path, exported: ExportedModel, trained: TrainedModel, data: Splits | None, seed: int
) -> ParityReport:
    inputs, examples = parity_inputs(trained.contract, data, seed)
    return parity(
        exported.model_path, trained.path(trained.model_file), exported.precision, trained.contract, inputs,
        examples, folder=folder, format=exported.format, name=exported.name, change=exported.change,
    )  # fmt: skip


def parity_inputs(contract: Contract, data: Splits | None, seed: int) -> tuple[dict[str, NDArray[Any]], str]:
    """Inputs by name for a comparison, and what they are in words."""
    if data is None or not len(data.test):
        return random_inputs(contract, EXAMPLES, seed), f"{EXAMPLES} random inputs (seed {seed})"
    n = min(EXAMPLES, len(data.test))
    positions = np.sort(np.random.default_rng(seed).choice(len(data.test), n, replace=False))
    asked = TASKS[contract.task].ask(contract, data, data.test, positions)
    return dict(asked.inputs), f"{n} test examples (seed {seed})"


def parity(
    file: Path,
    keras: Path,
    precision: str,
    contract: Contract,
    inputs: dict[str, NDArray[Any]],
    examples: str,
    *,
    folder: Path,
    format: str,
    name: str,
    change: QualityChange | None = None,
) -> ParityReport:
    """Run both on the inputs and compare. Raises ModelError, StageError when one of them cannot be run."""
    reference, got = run_keras(keras, inputs), run_file(file, inputs)
    outputs, judged_by, failures = compare(reference, got, precision, contract, change)
    if failures and precision == "float16":
        rounded = run_keras(keras, inputs, half_weights=True)
        outputs, judged_by, failures = compare(reference, got, precision, contract, change, rounded)
    return ParityReport(
        name=name,
        folder=folder,
        file=file.name,
        against=keras.name,
        format=format,
        precision=precision,
        n=len(next(iter(inputs.values()))),
        examples=examples,
        outputs=outputs,
        judged_by=judged_by,
        passed=not failures,
        failures=failures,
    )
