"""The proof that a model carried over to tf_keras computes what the Keras 3 model computes."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import keras.tree
import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from edgedl.models.base import KerasModel

Keras3Model = Any

AGREED = 1e-5
"""Relative to the largest output: float32's rounding, summed up over a network's depth, stays below. Answers that
differ by more are compared again in float64, where only a wrong twin differs."""


@dataclass(frozen=True)
class Comparison:
    """The largest difference of two models' outputs, relative to the largest output, on random and extreme inputs.

    doubled: on how many of the `examples` both models computed in float64.
    """

    random: float
    extreme: float
    examples: int
    doubled: int


def compare(model: Keras3Model, carried: KerasModel) -> Comparison:
    """How far the answers of a model and of its twin lie apart.

    Random: 4 standard-normal examples, of images two and two of pixels uniform in 0 to 255 (integers: uniform below the
    smallest table they index). Extreme: zeros, ones, noise of size 1000, 1e-6 and 255 and of ±1000 only, one example
    each (a constant 1000 would compare the rounding of a LayerNormalization that has no variance).

    In float32 the answers of a deep network that was never trained can change altogether when its last bits do.
    An example on which the two differ by more than `AGREED` is therefore computed in float64, if both can be.
    """
    limit, doubles = _smallest_table(model), _Doubles(model, carried)
    errors: list[float] = []
    examples = doubled = 0
    for make in (_random, _extreme):
        given = _inputs(model, make, limit)
        theirs, mine = _answers(functools.partial(_call, model), given), _answers(carried, given)
        found, peaks = _errors(theirs, mine), [_peak(one) for one in theirs]
        again = np.flatnonzero(found > AGREED)
        if len(again) and (pair := doubles.made()):
            chosen = [tf.gather(one, again) for one in given]
            chosen = [tf.cast(one, tf.float64) if one.dtype.is_floating else one for one in chosen]
            theirs, mine = _answers(functools.partial(_call, pair[0]), chosen), _answers(pair[1], chosen)
            found[again] = _errors(theirs, mine, peaks)
            doubled += len(again)
        examples += len(found)
        errors.append(float(found.max()))
    return Comparison(errors[0], errors[1], examples, doubled)


class _Doubles:
    """Two models and, once they were asked for, the same in float64."""

    def __init__(self, model: Keras3Model, carried: KerasModel) -> None:
        self._single = model, carried
        self._pair: tuple[Any, Any] | None = None
        self._tried = False

    def made(self) -> tuple[Any, Any] | None:
        """Both in float64; None where a layer cannot be made anew from its config, or computes in float32 only."""
        if not self._tried:
            self._tried = True
            with contextlib.suppress(Exception):
                self._pair = _in_float64(keras, self._single[0]), _in_float64(tf_keras, self._single[1])
        return self._pair


def _in_float64(library: Any, model: Any) -> Any:
    """The same model with all weights and computations in float64."""
    kinds = {type(layer) for layer in model._flatten_layers()}
    customs = {kind.__name__: kind for kind in kinds if not kind.__module__.startswith(f"{library.__name__}.")}
    config = json.loads(model.to_json().replace("float32", "float64"))
    doubled = library.models.model_from_json(json.dumps(config), custom_objects=customs)
    doubled.set_weights([one.astype(np.float64) if one.dtype.kind == "f" else one for one in model.get_weights()])
    return doubled


def _answers(model: Callable[..., Any], given: list[Any]) -> list[NDArray[Any]]:
    """The model's outputs, example by example: a model that is called eagerly keeps all its activations in memory."""
    examples = [[one[i : i + 1] for one in given] for i in range(len(given[0]))]
    found = [tf.nest.flatten(model(one if len(one) > 1 else one[0], training=False)) for one in examples]
    return [np.stack([np.asarray(one) for one in output]) for output in zip(*found, strict=True)]


def _call(model: Keras3Model, given: Any, *, training: bool) -> Any:
    if isinstance(getattr(model, "_inputs_struct", None), dict):
        given = dict(zip(sorted(model._inputs_struct), tf.nest.flatten(given), strict=True))
    return model(given, training=training)


def _errors(
    expected: list[NDArray[Any]], got: list[NDArray[Any]], peaks: list[float] | None = None
) -> NDArray[np.float64]:
    """By example: max |got − expected| over all outputs, each relative to its peak.

    Where both are not finite in the same places these are left out; in different places, or in another shape: inf.
    """
    worst = np.zeros(len(expected[0]))
    for theirs, mine, peak in zip(expected, got, peaks or [_peak(one) for one in expected], strict=True):
        if theirs.shape != mine.shape:
            return np.full(len(worst), np.inf)
        a, b = theirs.astype(np.float64).reshape(len(worst), -1), mine.astype(np.float64).reshape(len(worst), -1)
        finite = np.isfinite(a)
        apart = np.abs(np.where(finite, b, 0.0) - np.where(finite, a, 0.0)).max(axis=1, initial=0.0) / peak
        apart[(finite != np.isfinite(b)).any(axis=1)] = np.inf
        worst = np.maximum(worst, apart)
    return worst


def _peak(values: NDArray[Any]) -> float:
    values = np.abs(values[np.isfinite(values)].astype(np.float64))
    return max(float(values.max(initial=0.0)), 1e-12)


def _smallest_table(model: Keras3Model) -> int:
    layers = getattr(model, "_flatten_layers", list)()
    sizes = [getattr(one, name, None) for one in layers for name in ("input_dim", "num_tokens")]
    return min([size for size in sizes if isinstance(size, int)], default=2)


def _inputs(model: Keras3Model, make: Callable[[tuple[int, ...], Any, int], Any], limit: int) -> list[Any]:
    found: list[Any] = []
    for tensor in keras.tree.flatten(model.inputs):
        unknown = 64 if len(tensor.shape) == 4 else 16
        shape = tuple(int(side or unknown) for side in tensor.shape[1:])
        found.append(tf.constant(make(shape, np.dtype(str(tensor.dtype)), limit)))
    return found


def _random(shape: tuple[int, ...], dtype: Any, limit: int) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    if dtype.kind != "f":
        return rng.integers(0, limit, (4, *shape)).astype(dtype)
    found = rng.standard_normal((4, *shape))
    if len(shape) == 3:
        found[2:] = rng.uniform(0, 255, (2, *shape))
    return found.astype(dtype)


def _extreme(shape: tuple[int, ...], dtype: Any, limit: int) -> NDArray[Any]:
    if dtype.kind != "f":
        return np.stack([np.full(shape, value, dtype) for value in (0, limit - 1, limit // 2)])
    noise = np.random.default_rng(1).standard_normal((4, *shape))
    return np.stack(
        [
            np.zeros(shape),
            np.ones(shape),
            1000.0 * noise[0],
            1e-6 * noise[1],
            1000.0 * np.sign(noise[2]),
            255.0 * np.abs(noise[3]),
        ]
    ).astype(dtype)
