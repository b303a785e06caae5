"""The calibration linter: one constructed case for every warning, and silence where nothing is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import edgedl
from edgedl.core.artifacts import CalibrationWarning, CompressedModel, Run
from edgedl.core.contract import InputContract
from edgedl.pipeline.compress.calibration.lint import lint_tensors
from edgedl.pipeline.compress.calibration.lint_inputs import (
    NormStatistics,
    like_contract,
    like_normalisation,
    like_rescaling,
    like_training,
)
from edgedl.pipeline.compress.calibration.ranges import histogram_of
from edgedl.pipeline.compress.calibration.statistics import TensorStatistics

RNG = np.random.default_rng(2)


def tensor(values: NDArray[Any], op: str = "CONV_2D", fused: str = "NONE", output: bool = False) -> TensorStatistics:
    """Statistics of the values (n, …, channels) of a tensor of layer "stem"."""
    values = values.astype(np.float32)
    half, flat = values[::2], values.reshape(-1, values.shape[-1])
    return TensorStatistics(
        name="net/stem/Conv2D",
        op=op,
        layer="stem",
        fused=fused,
        output=output,
        histogram=histogram_of(values),
        first_half=(float(half.min()), float(half.max())),
        lows=flat.min(axis=0),
        highs=flat.max(axis=0),
    )


def kinds(*tensors: TensorStatistics, n: int = 200) -> list[str]:
    found = lint_tensors(tensors, n)
    assert all(one.layer == "stem" and "stem" in one.said for one in found)
    return [one.kind for one in found]


USUAL = RNG.normal(size=(200, 4, 4, 8))


@pytest.mark.parametrize(
    "sound",
    [
        tensor(USUAL),
        tensor(np.maximum(USUAL, 0), fused="RELU"),
        tensor(np.clip(2 * USUAL, 0, 6), fused="RELU6"),
        tensor(RNG.laplace(size=(200, 4, 4, 8))),
        tensor(1 / (1 + np.exp(-2 * USUAL)), op="LOGISTIC"),
        tensor(np.tanh(USUAL), op="TANH"),
        tensor(np.eye(10)[RNG.integers(0, 10, 200)], op="SOFTMAX", output=True),
        tensor(np.maximum(USUAL - 3, 0), fused="RELU"),  # fires in one value of a thousand
        tensor(np.where(np.arange(8) < 2, 0, np.maximum(USUAL, 0)), fused="RELU"),  # a quarter of the channels is dead
    ],
)  # fmt: skip
def test_sound_tensors_say_nothing(sound: TensorStatistics) -> None:
    assert kinds(sound) == []


def test_ranges_that_still_grow() -> None:
    values = USUAL.copy()
    values[101] *= 3  # an example that every second one lacks
    assert kinds(tensor(values), tensor(values), tensor(USUAL)) == ["too-few-examples"]
    assert kinds(tensor(values), *[tensor(USUAL)] * 2) == []  # one tensor alone: an outlier, not too few
    assert kinds(tensor(USUAL[:4]), n=4)[0] == "too-few-examples"


def test_channels_without_effect() -> None:
    dead = np.maximum(USUAL, 0) * (np.arange(8) > 2)
    (found,) = lint_tensors([tensor(dead, fused="RELU")], 200)
    assert (found.kind, found.layer) == ("dead-channels", "stem")
    assert "3 of 8 channels" in found.said
    assert "(0, 1, 2)" in found.said
    assert kinds(tensor(dead, op="RESHAPE")) == []


def test_values_at_the_bound() -> None:
    assert kinds(tensor(np.clip(USUAL + 5.5, 0, 6), fused="RELU6")) == ["saturated"]
    assert kinds(tensor(np.clip(USUAL + 5.5, 0, 6), op="RELU6")) == ["saturated"]
    for op, values in (("LOGISTIC", 1 / (1 + np.exp(-30 * USUAL))), ("TANH", np.tanh(30 * USUAL))):
        assert kinds(tensor(values, op=op)) == ["saturated"]
        assert kinds(tensor(values, op=op, output=True)) == []


def test_single_values_far_beyond_all_others() -> None:
    values = USUAL.copy()
    values[0, 0, 0, 0] = values[1, 0, 0, 0] = 60
    (found,) = lint_tensors([tensor(values)], 200)
    assert (found.kind, found.layer) == ("outliers", "stem")
    assert "percentile" in found.said


PIXELS = InputContract("image", (4, 4, 1), raw_range=(0, 255), mean=(127.5,), std=(127.5,))


@pytest.mark.parametrize(
    ("low", "high", "wrong"), [(-1, 1, False), (-0.9, 0.4, False), (0, 255, True), (0, 0.007, True)]
)
def test_inputs_against_the_contract(low: float, high: float, wrong: bool) -> None:
    values = RNG.uniform(low, high, (50, 4, 4, 1)).astype(np.float32)
    assert bool([*like_contract({"image": values}, [PIXELS])]) == wrong


def test_inputs_against_the_training_split() -> None:
    training = {"x": RNG.normal(3, 2, (500, 4)).astype(np.float32)}
    assert [*like_training({"x": training["x"][::5]}, training)] == []
    for wrong in ((training["x"] - 3) / 2, training["x"] * 10, training["x"] + 2):
        assert [one.kind for one in like_training({"x": wrong}, training)] == ["inputs-differ"]
    assert [*like_training({"tokens": np.arange(5)}, {"tokens": np.arange(100, 200)})] == []


def test_inputs_against_what_a_normalisation_remembers() -> None:
    mean, variance = RNG.normal(size=8), RNG.uniform(0.5, 2, 8)
    assert [*like_normalisation([NormStatistics("bn", mean, variance, mean + 0.3, variance * 1.5)])] == []
    for seen_mean, seen_variance in ((mean * 255, variance * 255**2), (mean + 5, variance), (mean, variance / 100)):
        (found,) = like_normalisation([NormStatistics("bn", mean, variance, seen_mean, seen_variance)])
        assert (found.kind, found.layer) == ("inputs-differ", "bn")


def test_inputs_that_are_scaled_twice() -> None:
    pixels = RNG.integers(0, 256, (20, 4)).astype(np.float32)
    assert [*like_rescaling({"x": pixels}, {"x": 1 / 255})] == []
    assert [one.kind for one in like_rescaling({"x": pixels / 255}, {"x": 1 / 255})] == ["inputs-differ"]
    assert [*like_rescaling({"x": pixels / 255}, {"x": 1.5})] == []


# --- whole models ------------------------------------------------------------------------------------------------


def test_a_sound_run_says_nothing(tiny_run: Run) -> None:
    int8 = next(one for one in tiny_run.compressed if one.name == "int8")
    assert int8.calibration is not None
    assert int8.calibration.warnings == ()
    assert not [note for note in int8.notes if "calibration" in note]


def compressed(model: Any, x: NDArray[Any], tmp_path: Path, normalize: str = "none") -> CompressedModel:
    np.savez(tmp_path / "data.npz", x=x.astype(np.float32), y=np.asarray(model(x.astype(np.float32))))
    data = {"source": "npz", "file": str(tmp_path / "data.npz"), "normalize": normalize}
    return edgedl.compress(model, {"method": "int8", "calibration": {"n": 150}}, data=data, out=tmp_path / "run")


def warnings(found: CompressedModel) -> dict[str, CalibrationWarning]:
    assert found.calibration is not None
    assert [f"calibration: {one.said}" for one in found.calibration.warnings] == [
        note for note in found.notes if note.startswith("calibration: ")
    ]
    return {one.kind: one for one in found.calibration.warnings}


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_model_of_unit_inputs_that_is_given_pixels(tmp_path: Path) -> None:
    """BatchNorm remembers 0 to 1; relu6 and a dead half say the rest. All name their layers."""
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    given = tf_keras.Input((6, 6, 1), name="x")
    hidden = layers.Conv2D(4, 3, name="stem", use_bias=False)(given)
    hidden = layers.BatchNormalization(name="stem_bn", momentum=0.5)(hidden)
    hidden = layers.ReLU(6.0, name="stem_relu")(hidden)
    hidden = layers.Conv2D(4, 3, name="body", activation="relu")(hidden)
    model = tf_keras.Model(given, layers.Dense(2, name="y")(layers.Flatten()(hidden)))
    body: Any = model.get_layer("body")
    kernel, _ = body.get_weights()
    body.set_weights([kernel, np.array([-1000, -1000, 0, 0], np.float32)])
    unit = RNG.uniform(0, 1, (256, 6, 6, 1)).astype(np.float32)
    for _ in range(12):
        model(unit, training=True)  # moving statistics only

    for case in ("unit", "pixels", "standardised"):
        (tmp_path / case).mkdir()
    sound = warnings(compressed(model, unit, tmp_path / "unit"))
    assert sound.keys() == {"dead-channels"}
    assert sound["dead-channels"].layer == "body"
    wrong = warnings(compressed(model, 255 * unit, tmp_path / "pixels"))
    assert wrong["inputs-differ"].layer == "stem_bn"
    assert wrong["saturated"].layer == "stem"
    wrong = warnings(compressed(model, unit, tmp_path / "standardised", "standard"))
    assert wrong["inputs-differ"].layer == "stem_bn"


@pytest.mark.tensorflow
def test_a_model_that_scales_pixels_is_given_scaled_ones(tmp_path: Path) -> None:
    import tf_keras
    from tf_keras import layers

    given = tf_keras.Input((8,), name="x")
    model = tf_keras.Model(given, layers.Dense(2, name="y")(layers.Rescaling(1 / 255)(given)))
    found = warnings(compressed(model, RNG.uniform(0, 1, (100, 8)), tmp_path))
    assert "scaled twice" in found["inputs-differ"].said
