"""What an audit feeds the models."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgedl.core.contract import AudioFrontEnd, Contract, InputContract, OutputContract
from edgedl.pipeline.audit.corruptions import Range, corruptions_for
from edgedl.pipeline.audit.inputs import attacked, corrupted, gradient_of_loss, shuffled, strange

IMAGE = InputContract("x", (8, 8, 3), content="image", raw_range=(0, 255), mean=(127.5,), std=(127.5,))
VECTOR = InputContract("x", (3,), mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0))
SERIES = InputContract("x", (50, 2))
TOKENS = InputContract("x", (6,), dtype="int32", content="text")


def contract(given: InputContract, task: Any = "classification") -> Contract:
    return Contract(task, (given,), (OutputContract("y", (2,), content="probabilities"),))


def images(n: int = 200) -> Any:
    return np.random.default_rng(0).integers(64, 192, (n, *IMAGE.shape)).astype(np.uint8)


def corrupt(name: str, raw: Any, given: InputContract, severity: int = 3) -> Any:
    found = corruptions_for(given)[name]
    return found(raw.astype(np.float64), Range.of(raw, given), severity - 1, np.random.default_rng(1))


def test_noise_has_the_published_strength():
    raw = np.full((50, *IMAGE.shape), 128, np.uint8)
    noise = corrupt("noise", raw, IMAGE) - 128.0
    assert noise.std() == pytest.approx(0.08 * 255, rel=0.03)
    assert noise.mean() == pytest.approx(0.0, abs=0.5)
    large = replace(IMAGE, shape=(96, 96, 3))
    raw = np.full((4, *large.shape), 128, np.uint8)
    assert corrupt("noise", raw, large, severity=1).std() == pytest.approx(0.08 * 255, rel=0.03)


def test_brightness_stays_in_the_range():
    raw = np.array([0.0, 100.0, 250.0]).reshape(1, 1, 1, 3)
    given = replace(IMAGE, shape=(1, 1, 3))
    assert corrupt("brightness", raw, given).ravel() == pytest.approx([38.25, 138.25, 255.0])


def test_blur_spreads_a_point_and_keeps_channels_apart():
    raw = np.zeros((1, 9, 9, 3))
    raw[0, 4, 4, 0] = 200.0
    found = corrupt("blur", raw, replace(IMAGE, shape=(9, 9, 3)))
    row = np.exp(-np.square(np.arange(-3, 4)) / (2 * 0.7**2))  # scipy cuts at 4 sigma, rounded
    kernel = row / row.sum()
    assert found[0, 4, 1:8, 0] == pytest.approx(200 * kernel[3] * kernel, rel=1e-4)
    assert not found[..., 1:].any()


def test_shift_moves_whole_images_and_repeats_the_edge():
    raw = np.tile(np.arange(50.0)[None, :, None], (40, 1, 2))
    found = corrupt("shift", raw, SERIES)  # 6 % of 50 steps
    moved = {tuple(one[:, 0]) for one in found}
    later, earlier = np.clip(np.arange(50) + 3, 0, 49), np.clip(np.arange(50) - 3, 0, 49)
    assert moved == {tuple(later.astype(float)), tuple(earlier.astype(float))}
    tiny = corrupt("shift", images(20), IMAGE, severity=1)  # less than a pixel: one
    assert not np.array_equal(tiny, images(20))


def test_scaling_and_loudness():
    raw = np.ones((40, 3))
    assert set(np.round(corrupt("scaling", raw, VECTOR).ravel(), 6)) == {np.float32(0.85), np.float32(1.15)}
    sound = InputContract("x", (4, 5, 1), content="audio", audio=AudioFrontEnd(16000, 16000))
    raw = np.zeros((2, 4, 5, 1))
    assert corrupt("loudness", raw, sound) == pytest.approx(-math.log(10**0.9))
    assert "scaling" not in corruptions_for(sound)


def test_what_applies_to_which_inputs():
    assert list(corruptions_for(IMAGE)) == ["noise", "blur", "brightness", "shift"]
    assert list(corruptions_for(VECTOR)) == ["noise", "scaling"]
    assert list(corruptions_for(SERIES)) == ["noise", "shift", "scaling"]
    assert not corruptions_for(TOKENS)
    assert not list(corrupted(images(), contract(IMAGE, "denoising"), 3, 0))
    assert not list(strange(images(), contract(IMAGE, "generation"), 0))


def test_noise_of_vectors_is_scaled_by_each_feature():
    raw = np.random.default_rng(0).normal(0.0, [1.0, 10.0, 0.0], (4000, 3))
    noise = corrupt("noise", raw, VECTOR) - raw
    assert noise.std(axis=0) == pytest.approx([0.24, 2.4, 0.0], rel=0.05)


def test_inputs_are_in_the_models_units_and_repeat():
    raw = images()
    for make in (lambda: corrupted(raw, contract(IMAGE), 3, 5), lambda: strange(raw, contract(IMAGE), 5)):
        once, again = dict(make()), dict(make())
        for name, inputs in once.items():
            assert inputs.dtype == np.float32 and inputs.shape == raw.shape
            assert inputs.min() >= -1.0 and inputs.max() <= 1.0
            assert np.array_equal(inputs, again[name])


def test_strange_inputs():
    raw = images()
    found = dict(strange(raw, contract(IMAGE), 0))
    noise = found["uniform noise"] * 127.5 + 127.5
    assert (noise.min(), noise.mean(), noise.max()) == pytest.approx((0.0, 127.5, 255.0), abs=1.0)
    mixed = shuffled(raw, IMAGE, np.random.default_rng(0))
    pixels = [sorted(map(tuple, one.reshape(-1, 3).tolist())) for one in (raw[0], mixed[0])]
    assert pixels[0] == pixels[1] and not np.array_equal(raw[0], mixed[0])
    columns = np.arange(30.0).reshape(10, 3)
    torn = shuffled(columns, VECTOR, np.random.default_rng(0))
    assert np.array_equal(np.sort(torn, axis=0), columns) and not np.array_equal(torn, columns)
    tokens = np.random.default_rng(0).integers(0, 9, (20, 6))
    found = dict(strange(tokens, contract(TOKENS, "next-token"), 0))
    assert set(found) == {"uniform noise", "shuffled steps"}
    assert all(one.dtype == np.int32 and one.min() >= 0 and one.max() < 9 for one in found.values())


@pytest.mark.tensorflow
def test_fgsm_of_a_linear_model():
    """J = −log softmax(W x)_y, so ∇J = Wᵀ (p − y): the step is its sign, times ε · range / std."""
    import tf_keras
    from tf_keras import layers

    weights = np.array([[2.0, -1.0], [0.5, -0.25], [-3.0, 1.0]], np.float32)
    model: Any = tf_keras.Sequential([tf_keras.Input((3,)), layers.Dense(2, activation="softmax", use_bias=False)])
    model.set_weights([weights])
    x, y = np.array([[0.3, -0.2, 0.1], [90.0, 0.0, -90.0]], np.float32), np.array([0, 0])
    gradient = gradient_of_loss(model, x, y, "probabilities")
    logits = x @ weights
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert gradient[0] == pytest.approx((p[0] - [1.0, 0.0]) @ weights.T, rel=1e-4)
    raw = x * np.asarray(VECTOR.std) + np.asarray(VECTOR.mean)
    moved = attacked(x, gradient, raw, VECTOR, 0.1)
    step = 0.1 * 4.0 * raw.std(axis=0) / np.asarray(VECTOR.std)
    assert moved[0] - x[0] == pytest.approx(step * [-1.0, -1.0, 1.0], rel=1e-3)


@pytest.mark.tensorflow
def test_fgsm_of_values_and_within_the_range():
    import tf_keras
    from tf_keras import layers

    model: Any = tf_keras.Sequential([tf_keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(1, use_bias=False)])
    model.set_weights([np.ones((192, 1), np.float32)])
    raw = np.full((2, *IMAGE.shape), 255.0)
    x = np.ones((2, *IMAGE.shape), np.float32)
    gradient = gradient_of_loss(model, x, np.array([[0.0], [400.0]]), "values")
    assert gradient[0] == pytest.approx(2 * 192.0) and gradient[1] == pytest.approx(2 * (192.0 - 400.0))
    moved = attacked(x, gradient, raw, IMAGE, 0.02)
    assert moved[0] == pytest.approx(1.0)  # white stays white
    assert moved[1] == pytest.approx(1.0 - 0.02 * 2.0)
