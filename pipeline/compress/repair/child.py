"""One repair of the Keras model's weights, in a child process: weights in, weights and a SavedModel out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import SkippedLayer

KerasRepair = Literal["equalise", "bias-correction", "rounding"]

WEIGHTS, SAVED_MODEL, INTEGERS = "weights.npz", "saved-model", "integers.npz"
LAYER = "layer."
"""Before a layer's name in INTEGERS: a layer may be called "file"."""

_MOST_BYTES = 1e9


@dataclass(frozen=True)
class Task:
    """What to do.

    keras: the model's file; saved_model: its float export, for the batch size. calibration: .npz by input name.
    weights: `WEIGHTS` of an earlier repair to go on from. corrected: whether biases are corrected after rounding.
    """

    repair: KerasRepair
    keras: Path
    saved_model: Path
    calibration: Path
    weights: Path | None
    corrected: bool
    iterations: int
    seed: int


@dataclass(frozen=True)
class Told:
    """What was done, in sentences, and what was left alone."""

    said: tuple[str, ...]
    skipped: tuple[SkippedLayer, ...]


def repair_weights(task: Task, folder: Path) -> Told:
    """Fill `folder` with WEIGHTS, SAVED_MODEL and, of rounding, INTEGERS (by layer). Raises ModelError."""
    import tensorflow as tf
    import tf_keras

    from edgedl.export.saved_model import SIGNATURE, write_saved_model
    from edgedl.models.facts import leaf_layers
    from edgedl.models.load import load_keras
    from edgedl.pipeline.compress.repair.bias_correction import correct_biases
    from edgedl.pipeline.compress.repair.equalise import equalise
    from edgedl.pipeline.compress.repair.fold import folded
    from edgedl.pipeline.compress.repair.graph import computes, largest_activation
    from edgedl.pipeline.compress.repair.rounding import round_weights

    tf_keras.utils.set_random_seed(task.seed)
    tf.config.experimental.enable_op_determinism()
    exact = folded(load_keras(task.keras))
    model = folded(load_keras(task.keras))
    if task.weights is not None:
        kept = _read(task.weights)
        exact.set_weights(kept["exact"])
        model.set_weights(kept["changed"])
    inputs = _examples(task.calibration, largest_activation(model))
    skipped = tuple(
        SkippedLayer(layer.name, type(layer).__name__, "not a layer that the repairs know")
        for layer in leaf_layers(model)
        if layer.weights and not computes(layer)
    )
    if task.repair == "equalise":
        said, alone = equalise(model, inputs)
        exact.set_weights(model.get_weights())
        skipped = (*skipped, *alone)
    elif task.repair == "bias-correction":
        said = correct_biases(exact, model, inputs)
    else:
        model.set_weights(exact.get_weights())
        said, integers = round_weights(
            exact, model, inputs, iterations=task.iterations, seed=task.seed, correct=task.corrected
        )
        _save(folder / INTEGERS, {f"{LAYER}{name}": one for name, one in integers.items()})
    _write(folder / WEIGHTS, exact=exact.get_weights(), changed=model.get_weights())
    loaded: Any = tf.saved_model.load(str(task.saved_model))
    given = loaded.signatures[SIGNATURE].structured_input_signature[1]
    write_saved_model(model, folder / SAVED_MODEL, next(iter(given.values())).shape[0])
    return Told(said, skipped)


def _examples(calibration: Path, largest: int) -> dict[str, NDArray[Any]]:
    """The calibration examples, as many as fit into memory with the activations of two models."""
    with np.load(calibration, allow_pickle=False) as archive:
        most = max(8, int(_MOST_BYTES // (6 * 4 * largest)))
        return {name: archive[name][:most] for name in archive.files}


def _write(path: Path, **lists: list[NDArray[Any]]) -> None:
    _save(path, {f"{name}.{i:05}": one for name, values in lists.items() for i, one in enumerate(values)})


def _save(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    save: Any = np.savez
    save(path, **arrays)


def _read(path: Path) -> dict[str, list[NDArray[Any]]]:
    found: dict[str, list[NDArray[Any]]] = {}
    with np.load(path, allow_pickle=False) as archive:
        for key in sorted(archive.files):
            found.setdefault(key.partition(".")[0], []).append(archive[key])
    return found
