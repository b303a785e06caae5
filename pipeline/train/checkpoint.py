"""One file per run that holds all a killed training needs to go on: written after each epoch, whole or not at all.

`checkpoint.npz`: every variable of model, optimizer and random generators in order, and the history so far.
`best.npz`: the model's weights at its best epoch (early stopping).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.files import write_atomically
from edgedl.models import KerasModel

History = list[dict[str, float]]

CHECKPOINT = "checkpoint.npz"
BEST = "best.npz"


def state_variables(model: KerasModel) -> list[Any]:
    """Everything that training changes: weights, optimizer state, states of random generators (dropout)."""
    generators = [
        generator.state
        for layer in model._flatten_layers(include_self=False, recursive=True)
        if (generator := getattr(getattr(layer, "_random_generator", None), "_generator", None)) is not None
    ]
    optimizers = getattr(model, "all_optimizers", None) or [model.optimizer]
    states = [variable for one in optimizers for variable in _optimizer_variables(one)]
    return [*model.variables, *states, *generators]


def _optimizer_variables(optimizer: Any) -> list[Any]:
    variables: Any = optimizer.variables
    found: Any = variables() if callable(variables) else variables  # a method in mixed precision's wrapper
    return list(found)


def save_checkpoint(folder: Path, model: KerasModel, history: History) -> None:
    """Replace the folder's checkpoint by the model's present state."""
    values = [variable.numpy() for variable in state_variables(model)]
    _write(folder / CHECKPOINT, values, {"history": history})


def read_history(folder: Path) -> History:
    """The history up to the checkpoint; [] without one."""
    path = folder / CHECKPOINT
    return _read(path)[1]["history"] if path.exists() else []


def restore_checkpoint(folder: Path, model: KerasModel) -> None:
    """Put a model, compiled as it was then, where the checkpoint was taken."""
    values, _ = _read(folder / CHECKPOINT)
    for variable, value in zip(state_variables(model), values, strict=True):
        variable.assign(value)


def save_best(folder: Path, model: KerasModel) -> None:
    """Keep the model's weights as the best so far."""
    _write(folder / BEST, model.get_weights(), {})


def restore_best(folder: Path, model: KerasModel) -> None:
    """Put the best weights into the model."""
    model.set_weights(_read(folder / BEST)[0])


def remove_checkpoints(folder: Path) -> None:
    """The run has ended well: nothing needs to go on."""
    for name in (CHECKPOINT, BEST):
        (folder / name).unlink(missing_ok=True)


def _write(path: Path, values: Sequence[NDArray[Any]], extra: Mapping[str, Any]) -> None:
    # bfloat16 has no NumPy type that npz knows; weights are float32 and optimizers keep float32.
    arrays = {f"variable_{i:05d}": value for i, value in enumerate(values)}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, extra=np.array(json.dumps(extra)), **arrays)
    write_atomically(path, buffer.getvalue())


def _read(path: Path) -> tuple[list[NDArray[Any]], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as archive:
        names = sorted(name for name in archive.files if name.startswith("variable_"))
        return [archive[name] for name in names], json.loads(str(archive["extra"]))
