"""The calibration linter, inputs: is the representative data prepared as the training data were?

Three witnesses of training: the contract (raw range and normalisation), the training split, and the model's own
normalisation layers, which remember what came through in training. The last one also speaks for a model that was
brought as a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import CalibrationWarning
from edgedl.core.contract import InputContract
from edgedl.core.isolation import DEFAULT_LIMITS, Limits, run_isolated

OUTSIDE, TOO_NARROW = 0.1, 0.05
"""Parts of the range that the contract promises: how far inputs may lie beyond it, and the least they should cover."""
MEAN_SHIFT, STD_RATIO = 0.5, 2.0
"""Calibration inputs against training inputs: difference of means in standard deviations, ratio of those."""
NORM_SHIFT, NORM_RATIO = 0.75, 1.8
"""The same against what a normalisation layer remembers, medians over channels. Seen on the digits CNN: 0.02 and 0.99
on its own data; 1.48 and 1.9 on -1 to 1 instead of 0 to 1; 0.63 and 2.5 on standardised data."""
PIXELS = 10.0
"""Inputs whose magnitudes stay below this are not in 0 to 255."""
EXAMPLES = 64
"""How many examples are run through the Keras model."""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class NormStatistics:
    """A normalisation layer of the Keras model: what it remembers of training, and what calibration shows it.

    Means and variances by channel, shape (channels,).
    """

    layer: str
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    seen_mean: NDArray[np.float64]
    seen_variance: NDArray[np.float64]


def like_contract(inputs: Arrays, contracts: Sequence[InputContract]) -> Iterable[CalibrationWarning]:
    """Inputs (n, *shape) by name against the range that raw range and normalisation give; floats only."""
    for one in contracts:
        values = inputs[one.name]
        if one.raw_range is None or not np.issubdtype(values.dtype, np.floating):
            continue
        mean, std = one.scaling()
        ends = [(raw - mean) / std for raw in one.raw_range]
        low, high = float(np.min(ends)), float(np.max(ends))
        seen = float(values.min()), float(values.max())
        span = high - low
        beyond = max(low - seen[0], seen[1] - high) > OUTSIDE * span
        if beyond or seen[1] - seen[0] < TOO_NARROW * span:
            yield CalibrationWarning(
                "inputs-differ",
                None,
                f"calibration inputs {one.name} go from {seen[0]:.3g} to {seen[1]:.3g}, but the contract's raw range "
                f"and normalisation give {low:.3g} to {high:.3g}: were they prepared as in training?",
            )


def like_training(inputs: Arrays, training: Arrays) -> Iterable[CalibrationWarning]:
    """Inputs (n, *shape) by name against a sample of the training split, both as the model takes them; floats only."""
    for name, values in inputs.items():
        if name not in training or not np.issubdtype(values.dtype, np.floating):
            continue
        reference = training[name].astype(np.float64)
        mean, std = float(reference.mean()), float(reference.std())
        seen_mean, seen_std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
        if std and (abs(seen_mean - mean) > MEAN_SHIFT * std or not 1 / STD_RATIO < seen_std / std < STD_RATIO):
            yield CalibrationWarning(
                "inputs-differ",
                None,
                f"calibration inputs {name} have mean {seen_mean:.3g} and standard deviation {seen_std:.3g}, the "
                f"training data's {mean:.3g} and {std:.3g}: were they prepared as in training?",
            )


def like_normalisation(found: Sequence[NormStatistics]) -> Iterable[CalibrationWarning]:
    """What the model's first normalisation layers see against what they saw in training. One warning for all."""
    for one in found:
        std = np.sqrt(np.maximum(one.variance, 1e-12))
        ratio = float(np.median(np.sqrt(np.maximum(one.seen_variance, 1e-12)) / std))
        shift = float(np.median(np.abs(one.seen_mean - one.mean) / std))
        if shift > NORM_SHIFT or not 1 / NORM_RATIO < ratio < NORM_RATIO:
            yield CalibrationWarning(
                "inputs-differ",
                one.layer,
                f"on the calibration inputs, layer {one.layer} sees {ratio:.2g} times the standard deviation that it "
                f"remembers of training, and means {shift:.2g} of those away (medians over channels): is the data "
                "scaled as in training, and was the training long enough for the layer to remember it?",
            )
            return


def like_rescaling(inputs: Arrays, scales: Mapping[str, float]) -> Iterable[CalibrationWarning]:
    """Inputs against the Rescaling layers right behind them. scales: by name of the input."""
    for name, scale in scales.items():
        values = inputs[name]
        peak = float(np.abs(values).max(initial=0))
        if 0 < scale * 255 <= 2.0 and 0 < peak < PIXELS:  # 1/255, 1/127.5: made for pixels
            yield CalibrationWarning(
                "inputs-differ",
                None,
                f"the model multiplies its input {name} by {scale:.3g}, as if for pixels from 0 to 255, but no "
                f"calibration value is larger than {peak:.3g}: are they scaled twice?",
            )


def norm_statistics(
    keras: Path, calibration: Path, *, name: str, limits: Limits = DEFAULT_LIMITS
) -> tuple[tuple[NormStatistics, ...], dict[str, float]]:
    """The model's first normalisation layers on the first examples, and the scales of Rescaling layers at its inputs.

    Raises ModelError when the model cannot be loaded, StageError when its child is lost.
    """
    return run_isolated(_norm_statistics, keras, calibration, stage="calibration check", subject=name, limits=limits)


_FIRST = 2


def _norm_statistics(keras: Path, calibration: Path) -> tuple[tuple[NormStatistics, ...], dict[str, float]]:
    import tf_keras

    from edgedl.models.load import load_keras

    model = load_keras(keras)
    normalising = (tf_keras.layers.BatchNormalization, tf_keras.layers.Normalization)
    layers = [one for one in model.layers if isinstance(one, normalising) and _is_plain(one)][:_FIRST]
    scales: dict[str, float] = {}
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.Rescaling):
            given: Any = layer.input
            if given.name.split(":")[0] in model.input_names:
                scales[given.name.split(":")[0]] = float(np.max(np.abs(layer.scale)))
    if not layers:
        return (), scales
    with np.load(calibration, allow_pickle=False) as archive:
        arrays = {key: archive[key][:EXAMPLES] for key in archive.files}
    probe: Any = tf_keras.Model(model.inputs, [one.input for one in layers])
    seen: Any = probe.predict([arrays[key] for key in model.input_names], verbose=0)
    return tuple(
        _compared(one, values) for one, values in zip(layers, seen if len(layers) > 1 else [seen], strict=True)
    ), scales


def _is_plain(layer: Any) -> bool:
    """Whether it is used once, normalises the last axis, and remembers by channel."""
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else (layer.axis,)
    try:
        rank = len(layer.input.shape)
    except AttributeError:  # used several times, or in a model that is not functional
        return False
    return len(axes) == 1 and axes[0] in (-1, rank - 1)


def _compared(layer: Any, values: NDArray[Any]) -> NormStatistics:
    mean = layer.moving_mean if hasattr(layer, "moving_mean") else layer.mean
    variance = layer.moving_variance if hasattr(layer, "moving_variance") else layer.variance
    by_channel = values.reshape(-1, values.shape[-1]).astype(np.float64)
    return NormStatistics(
        layer=layer.name,
        mean=np.asarray(mean, np.float64).reshape(-1),
        variance=np.asarray(variance, np.float64).reshape(-1),
        seen_mean=by_channel.mean(axis=0),
        seen_variance=by_channel.var(axis=0),
    )
