"""Batches: what is in them, that they repeat, and what augmentation does. All that needs TensorFlow is here."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgedl.core.contract import InputContract
from edgedl.core.errors import ConfigError
from edgedl.pipeline.data import (
    ArrayExamples,
    Augment,
    Digits,
    Examples,
    ImageFolder,
    balanced_class_weights,
    evaluation_batches,
    examples_array,
    load_splits,
    training_batches,
)

EVERYTHING = Augment(flip="both", shift=0.2, rotate=20, noise=0.1, mixup=0.3)
FEATURES = InputContract(name="x", shape=(1,))


@pytest.fixture(scope="module")
def tf():
    import tensorflow

    return tensorflow


def batches(examples: Examples, contract: InputContract = FEATURES, **options: Any) -> list[Any]:
    given = {"batch_size": 8, "seed": 1, "first_epoch": 0, "epochs": 1, "n_classes": None} | options
    data, steps = training_batches(examples, contract, **given)
    found = list(data.as_numpy_iterator())
    assert len(found) == steps * (given["epochs"] - given["first_epoch"])
    return found


def same(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
    )


def numbered(n: int) -> ArrayExamples:
    """Example i is i, and so is its target."""
    values = np.arange(n, dtype=np.float32)[:, None]
    return ArrayExamples(values, values)


def pictures(n: int = 6, height: int = 9, width: int = 7, channels: int = 1) -> tuple[ArrayExamples, InputContract]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(50, 256, (n, height, width, channels), dtype=np.uint8)
    contract = InputContract(
        name="x",
        shape=(height, width, channels),
        content="image",
        raw_range=(0.0, 255.0),
        mean=(127.5,) * channels,
        std=(127.5,) * channels,
    )
    return ArrayExamples(pixels, np.arange(n) % 2), contract


# --- order -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [8, 21, 64])
def test_an_epoch_holds_every_example_and_fills_up_the_last_batch(tf, n):
    epoch = batches(numbered(n))
    assert all(len(inputs) == 8 for inputs, _ in epoch)
    seen = np.concatenate([inputs[:, 0] for inputs, _ in epoch]).astype(int)
    assert sorted(seen[:n]) == list(range(n))
    assert seen[n:].tolist() == seen[: len(seen) - n].tolist()
    assert all(np.array_equal(inputs, targets) for inputs, targets in epoch)


def test_a_batch_is_no_larger_than_the_data(tf):
    assert [len(inputs) for inputs, _ in batches(numbered(5))] == [5]


def test_epochs_and_seeds_differ_in_order(tf):
    first, second = batches(numbered(64), epochs=2)[:8], batches(numbered(64), epochs=2)[8:]
    assert not same(first, second)
    assert not same(first, batches(numbered(64), seed=2))
    assert same(first, batches(numbered(64)))


@pytest.mark.parametrize("augment", [Augment(), EVERYTHING])
def test_a_run_that_goes_on_sees_the_same_batches_bit_for_bit(tf, augment):
    source = Digits()
    splits = load_splits(source, source.split, 3)
    weights = balanced_class_weights(splits.train.targets, 10)
    options = {"batch_size": 100, "seed": 3, "n_classes": 10, "augment": augment, "class_weights": weights, "epochs": 4}
    whole = batches(splits.train, splits.input, **options)
    for epoch in (1, 3):
        assert same(whole[13 * epoch :], batches(splits.train, splits.input, first_epoch=epoch, **options))


def test_one_static_shape_for_one_trace(tf):
    data, _ = training_batches(
        numbered(21), FEATURES, batch_size=8, seed=0, first_epoch=0, epochs=3, n_classes=None, augment=Augment(mixup=1)
    )
    spec: Any = data.element_spec
    assert [tuple(one.shape) for one in spec] == [(8, 1), (8, 1)]
    traces = []

    @tf.function
    def step(inputs, targets):
        traces.append(1)
        return inputs + targets

    for batch in data:
        step(*batch)
    assert len(traces) == 1


# --- contents ----------------------------------------------------------------------------------------------------


def test_targets_weights_and_normalisation(tf):
    examples = ArrayExamples(np.array([[0], [10], [20]], np.uint8), np.array([0, 2, 2]))
    contract = InputContract(name="x", shape=(1,), mean=(10.0,), std=(5.0,))
    ((inputs, targets, weights),) = batches(examples, contract, n_classes=3, class_weights=(1.0, 9.0, 0.5))
    order = np.argsort(inputs[:, 0])
    assert inputs[order, 0].tolist() == [-2.0, 0.0, 2.0]
    assert targets[order].tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert weights[order].tolist() == [1.0, 0.5, 0.5]
    assert (inputs.dtype, targets.dtype, weights.dtype) == (np.float32,) * 3


def test_balanced_weights_make_classes_equal():
    targets = np.array([0] * 6 + [1] * 2)
    weights = balanced_class_weights(targets, 3)
    assert weights == pytest.approx((8 / 18, 8 / 6, 0.0))


def test_evaluation_is_one_pass_in_order_as_often_as_wanted(tf):
    source = Digits()
    splits = load_splits(source, source.split, 0)
    data = evaluation_batches(splits.test, splits.input, 100, n_classes=10)
    for _ in range(2):
        found = list(data.as_numpy_iterator())
        assert [len(inputs) for inputs, _ in found] == [100, 100, 100, 59]
        targets = np.concatenate([targets for _, targets in found])
        assert targets.argmax(axis=1).tolist() == splits.test.targets.tolist()
    inputs = np.concatenate([inputs for inputs, _ in found])
    np.testing.assert_allclose(inputs, examples_array(splits.test, splits.input, np.arange(359)), rtol=1e-6)
    ((_, plain),) = evaluation_batches(splits.test, splits.input, 359).as_numpy_iterator()
    np.testing.assert_array_equal(plain, splits.test.targets)


def test_images_from_disk_are_the_same_pixels_everywhere(tf, tmp_path):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for label in ("ant", "bee"):
        (tmp_path / label).mkdir()
        for k in range(10):
            file = io.BytesIO()
            pixels = rng.integers(0, 256, (20 + k, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(file, "JPEG", **({"exif": exif} if k % 2 else {}))
            Path(tmp_path / label / f"{k}.jpg").write_bytes(file.getvalue())
    source = ImageFolder(folder=tmp_path, size=(16, 12), normalize="-1..1")
    splits = load_splits(source, source.split, 0)
    assert splits.input.resize == "stretch"
    ((inputs, targets),) = evaluation_batches(splits.test, splits.input, 8).as_numpy_iterator()
    assert inputs.shape == (4, 16, 12, 3)
    np.testing.assert_allclose(inputs, examples_array(splits.test, splits.input, np.arange(4)), rtol=1e-6)
    assert (inputs.min() >= -1, inputs.max() <= 1, targets.tolist()) == (True, True, splits.test.targets.tolist())
    options = {"n_classes": 2, "augment": EVERYTHING, "batch_size": 4, "epochs": 3}
    whole = batches(splits.train, splits.input, **options)
    assert same(whole[8:], batches(splits.train, splits.input, first_epoch=2, **options))


# --- augmentation ------------------------------------------------------------------------------------------------


def augmented(augment: Augment, *, height: int = 9, width: int = 7, channels: int = 1, n: int = 64) -> Any:
    """Normalised inputs in their own order, before and after."""
    examples, contract = pictures(n, height, width, channels)
    numbers = ArrayExamples(examples.inputs, np.arange(n, dtype=np.float32)[:, None])
    ((inputs, targets),) = batches(numbers, contract, batch_size=n, augment=augment)
    order = np.argsort(targets[:, 0])
    return examples_array(examples, contract, np.arange(n)), inputs[order]


@pytest.mark.parametrize("flip", ["horizontal", "vertical", "both"])
def test_flips_mirror_half_of_the_images(tf, flip):
    before, after = augmented(Augment(flip=flip))
    outcomes = {
        "horizontal": [lambda a: a, lambda a: a[:, ::-1]],
        "vertical": [lambda a: a, lambda a: a[::-1]],
        "both": [lambda a: a, lambda a: a[:, ::-1], lambda a: a[::-1], lambda a: a[::-1, ::-1]],
    }[flip]
    which = [
        next(i for i, change in enumerate(outcomes) if np.allclose(change(x), y))
        for x, y in zip(before, after, strict=True)
    ]
    counts = np.bincount(which, minlength=len(outcomes))
    assert (np.abs(counts / 64 - 1 / len(outcomes)) < 0.2).all()


def test_shifts_stay_in_bounds_and_uncover_black(tf):
    before, after = augmented(Augment(shift=0.25), height=16, width=16, channels=3)
    assert after.shape == before.shape
    centre_of_mass = []
    for x, y in zip(before, after, strict=True):
        gain = np.abs(x - y).max()
        black = np.isclose(y, -1.0, atol=1e-5).all(axis=-1)
        rows, columns = black.all(axis=1).sum(), black.all(axis=0).sum()
        assert rows <= 4
        assert columns <= 4
        centre_of_mass.append((rows, columns, gain))
    assert np.std(centre_of_mass, axis=0)[:2].min() > 0.5
    assert after.min() >= -1.0 - 1e-5


def test_rotation_is_about_the_centre_and_within_the_angle(tf):
    line = np.zeros((32, 33, 33, 1), np.uint8)
    line[:, 16, 17:] = 255  # from the centre to the right
    examples = ArrayExamples(line, np.arange(32, dtype=np.float32)[:, None])
    contract = InputContract(name="x", shape=(33, 33, 1), content="image", raw_range=(0.0, 255.0), std=(255.0,))
    ((after, _),) = batches(examples, contract, batch_size=32, augment=Augment(rotate=40))
    rows, columns = np.mgrid[-16:17, -16:17]
    angles = [
        math.degrees(math.atan2((image[..., 0] * rows).sum(), (image[..., 0] * columns).sum())) for image in after
    ]
    assert max(map(abs, angles)) <= 42
    assert min(angles) < -20
    assert max(angles) > 20
    lengths = after.sum(axis=(1, 2, 3))
    assert np.abs(lengths - 16).max() < 2.5


def test_noise_has_its_standard_deviation(tf):
    before, after = augmented(Augment(noise=0.3), height=16, width=16)
    noise = after - before
    assert noise.std() == pytest.approx(0.3, rel=0.05)
    assert abs(noise.mean()) < 0.02


def test_every_batch_of_every_epoch_is_changed_anew(tf):
    found = batches(numbered(16), batch_size=8, epochs=2, augment=Augment(noise=0.1))
    noises = [np.round(inputs - targets, 5) for inputs, targets in found]
    assert len({noise.tobytes() for noise in noises}) == 4


def test_mixup_mixes_inputs_and_targets_alike(tf):
    examples = numbered(256)
    ((inputs, targets),) = batches(examples, batch_size=256, augment=Augment(mixup=0.4))
    np.testing.assert_allclose(inputs, targets, rtol=1e-5)
    ((plain, _),) = batches(examples, batch_size=256)
    partner = np.roll(plain, 1, axis=0)
    share = (inputs - partner) / (plain - partner)
    assert share.min() >= -1e-3
    assert share.max() <= 1 + 1e-3
    assert share.mean() == pytest.approx(0.5, abs=0.08)
    assert share.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.2)  # of Beta(α, α)


def test_mixup_weighs_the_loss_as_the_two_examples_would(tf):
    examples = ArrayExamples(np.arange(64, dtype=np.float32)[:, None], np.arange(64) % 2)
    options: dict[str, Any] = {"n_classes": 2, "batch_size": 64}
    ((inputs, targets, weights),) = batches(examples, class_weights=(1.0, 5.0), augment=Augment(mixup=0.5), **options)
    ((plain, classes),) = batches(examples, **options)
    share = ((inputs - np.roll(plain, 1, 0)) / (plain - np.roll(plain, 1, 0)))[:, 0]
    of = classes @ [1.0, 5.0]
    log_p = np.log([0.3, 0.7])
    expected = share * of * (classes @ log_p) + (1 - share) * np.roll(of, 1) * np.roll(classes @ log_p, 1)
    np.testing.assert_allclose(weights * (targets @ log_p), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(targets.sum(axis=1), 1.0, rtol=1e-5)


def test_tiny_alpha_gives_numbers(tf):
    ((inputs, targets),) = batches(numbered(512), batch_size=512, augment=Augment(mixup=0.001))
    assert np.isfinite(inputs).all()
    assert np.isfinite(targets).all()


@pytest.mark.parametrize("augment", [Augment(flip="horizontal"), Augment(shift=0.1), Augment(rotate=5)])
def test_geometry_is_for_images(augment):
    with pytest.raises(ConfigError, match="is for images"):
        training_batches(
            numbered(8), FEATURES, batch_size=4, seed=0, first_epoch=0, epochs=1, n_classes=None, augment=augment
        )


def test_features_can_have_noise(tf):
    ((inputs, targets),) = batches(numbered(8), augment=Augment(noise=0.1))
    assert 0 < np.abs(inputs - targets).max() < 1
