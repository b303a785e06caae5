"""The calibration examples: drawn, checked, kept beside the variant, and looked at by the linter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import CalibrationRecord, CalibrationWarning, TrainedModel
from edgedl.core.contract import Contract
from edgedl.core.errors import DataError, ModelError, StageError
from edgedl.core.files import sha256_of
from edgedl.core.isolation import Limits
from edgedl.pipeline.compress.base import Calibration
from edgedl.pipeline.compress.calibration.lint import lint_tensors
from edgedl.pipeline.compress.calibration.lint_inputs import (
    like_contract,
    like_normalisation,
    like_rescaling,
    like_training,
    norm_statistics,
)
from edgedl.pipeline.compress.calibration.statistics import collect
from edgedl.pipeline.data import Splits
from edgedl.pipeline.tasks import TASKS

COMPARED = 1000
"""Training examples that the calibration ones are compared with."""

Arrays = Mapping[str, NDArray[Any]]


def draw_examples(path: Path, wanted: Calibration, contract: Contract, data: Splits, seed: int) -> CalibrationRecord:
    """Write `path`, an .npz with one array (n, *shape) per input. Raises DataError for values that cannot calibrate."""
    seed = wanted.seed if wanted.seed is not None else seed
    n = min(wanted.n, len(data.train))
    if not n:
        raise DataError("calibration needs training examples", required="data with a training split")
    positions = np.sort(np.random.default_rng(seed).choice(len(data.train), n, replace=False))
    inputs = TASKS[contract.task].ask(contract, data, data.train, positions).inputs
    check_examples(inputs, contract)
    np.savez(path, allow_pickle=False, **inputs)
    return CalibrationRecord(
        n=n,
        seed=seed,
        split="train",
        sha256=sha256_of(path),
        minimum=tuple(float(one.min()) for one in inputs.values()),
        maximum=tuple(float(one.max()) for one in inputs.values()),
        method=wanted.in_words,
    )


def check_examples(inputs: Arrays, contract: Contract) -> None:
    """Raise DataError for inputs (n, *shape) by name that are not the model's, or hold NaN or infinity."""
    for one in contract.inputs:
        if one.name not in inputs:
            raise DataError(
                f"the calibration data has no input {one.name}",
                required=", ".join(each.name for each in contract.inputs),
                received=", ".join(inputs) or "nothing",
            )
        values = inputs[one.name]
        if values.shape[1:] != one.shape:
            raise DataError(
                f"calibration data of the wrong shape for input {one.name}",
                required=str(one.shape),
                received=str(values.shape[1:]),
                advice="Give the data that the model was trained on, or data of its shape",
            )
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            wrong = np.argwhere(~np.isfinite(values))
            raise DataError(
                f"the calibration data of input {one.name} has {len(wrong)} values that are not finite",
                required="numbers",
                received=f"{values[tuple(wrong[0])]} in example {wrong[0][0]} of the {len(values)} drawn",
                advice="Remove or fill in those examples",
            )


def lint_calibration(
    calibration: Path,
    float_tflite: Path,
    base: TrainedModel,
    data: Splits,
    *,
    seed: int,
    name: str,
    limits: Limits,
) -> tuple[CalibrationWarning, ...]:
    """Everything that looks wrong with the calibration examples, or with the model on them. Never an error."""
    with np.load(calibration, allow_pickle=False) as archive:
        inputs = {key: archive[key] for key in archive.files}
    contract = base.contract
    n = len(next(iter(inputs.values())))
    found = [*like_contract(inputs, contract.inputs)]
    if base.data is not None and base.data.fingerprint == data.record.fingerprint:
        found += like_training(inputs, _training_sample(contract, data, seed))
    try:
        norms, scales = norm_statistics(base.path(base.model_file), calibration, name=name, limits=limits)
        found += [*like_rescaling(inputs, scales), *like_normalisation(norms)]
        found += lint_tensors(collect(float_tflite, calibration, name=name, layers=base.layers, limits=limits), n)
    except (ModelError, StageError) as error:
        found.append(CalibrationWarning("not-checked", None, f"the calibration linter could not go on: {error}"))
    return tuple(found)


def _training_sample(contract: Contract, data: Splits, seed: int) -> Arrays:
    n = min(COMPARED, len(data.train))
    positions = np.sort(np.random.default_rng([seed, 1]).choice(len(data.train), n, replace=False))
    return TASKS[contract.task].ask(contract, data, data.train, positions).inputs
