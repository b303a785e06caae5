"""The zoo's families are the papers' networks: their sizes are the published ones, their layers the equations."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedl.core.errors import ModelError
from edgedl.models import (
    FAMILIES,
    AlexNet,
    Autoencoder,
    Ddpm,
    DsCnn,
    EfficientNetLite,
    Family,
    Gan,
    Head,
    LeNet,
    Mamba,
    MobileNetV1,
    MobileNetV2,
    MobileNetV3,
    PolicyValue,
    Recurrent,
    ResNet,
    TransformerDecoder,
    TransformerEncoder,
    UNet,
    Vae,
    Vgg,
    VitTiny,
)
from edgedl.models.load import load_keras

pytestmark = pytest.mark.tensorflow

IMAGENET = Head("classification", 1000)


def build(family: Family, shape: tuple[int, ...], head: Head) -> Any:
    return family.build("x", shape, head)


def weights(model: Any, *, trainable: bool = False) -> int:
    return sum(int(np.prod(one.shape)) for one in (model.trainable_weights if trainable else model.weights))


@pytest.mark.parametrize(
    ("family", "published"),
    [
        (ResNet(depth=18), 11_689_512),  # torchvision's documentation
        (ResNet(depth=50), 25_557_032),
        (Vgg(depth=16, batch_norm=False), 138_357_544),  # Keras's documentation: 138.4 M
        (EfficientNetLite(), 4_652_008),
    ],
    ids=lambda value: value.family if isinstance(value, Family) else "",
)
def test_published_sizes(family: Family, published: int) -> None:
    assert weights(build(family, (224, 224, 3), IMAGENET), trainable=True) == published


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "shape", "published"),
    [
        (ResNet(depth=34), (224, 224, 3), 21_797_672),
        (ResNet(depth=101), (224, 224, 3), 44_549_160),
        (ResNet(depth=152), (224, 224, 3), 60_192_808),
        (Vgg(depth=19, batch_norm=False), (224, 224, 3), 143_667_240),
        (AlexNet(batch_norm=False), (227, 227, 3), 62_378_344),
    ],
    ids=lambda value: value.family if isinstance(value, Family) else "",
)
def test_published_sizes_of_large_ones(family: Family, shape: tuple[int, ...], published: int) -> None:
    assert weights(build(family, shape, IMAGENET), trainable=True) == published


@pytest.mark.parametrize(
    ("family", "name", "options"),
    [
        (MobileNetV1(alpha=0.25), "MobileNet", {"alpha": 0.25}),
        (MobileNetV2(alpha=0.35), "MobileNetV2", {"alpha": 0.35}),
        (MobileNetV2(alpha=1.4), "MobileNetV2", {"alpha": 1.4}),
        (MobileNetV3(size="small"), "MobileNetV3Small", {}),
        (MobileNetV3(size="large", alpha=0.75), "MobileNetV3Large", {"alpha": 0.75}),
    ],
)
def test_mobile_networks_are_as_large_as_keras_s(family: Family, name: str, options: dict[str, Any]) -> None:
    import tf_keras

    theirs = getattr(tf_keras.applications, name)(weights=None, input_shape=(224, 224, 3), **options)
    assert weights(build(family, (224, 224, 3), IMAGENET)) == theirs.count_params()


def test_mobilenet_v2_computes_what_keras_s_does() -> None:
    """On inputs whose sides are odd where Keras pads by hand: there both pad alike."""
    import tf_keras

    mine = build(MobileNetV2(alpha=0.35), (97, 97, 3), IMAGENET)
    theirs = tf_keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(97, 97, 3))
    rng = np.random.default_rng(0)
    values = [
        abs(rng.normal(1, 0.2, one.shape)) if one.ndim == 1 else rng.normal(0, 0.1, one.shape)
        for one in theirs.get_weights()
    ]
    theirs.set_weights(values)
    mine.set_weights(values)
    for model in (mine, theirs):
        for layer in model.layers:
            if isinstance(layer, tf_keras.layers.BatchNormalization):
                layer.epsilon = 1e-3
    x = rng.normal(size=(2, 97, 97, 3)).astype(np.float32)
    assert np.allclose(mine(x, training=False), theirs(x, training=False), atol=1e-5)


def test_reference_sizes_of_small_ones() -> None:
    assert weights(build(LeNet(), (28, 28, 1), Head("classification", 10))) == 61_706
    # MLPerf Tiny's have biases before BatchNorm, which do nothing: 24,908 − 576, 78,666 + …, 269,992 − 1,032
    speech = build(DsCnn(first_kernel=(10, 4)), (49, 10, 1), Head("classification", 12))
    assert weights(speech) == 24_908 - 9 * 64
    anomalies = build(Autoencoder(), (640,), Head("anomaly-detection", 640))
    assert weights(anomalies) == 269_992 - (8 * 128 + 8)


CASES: dict[str, tuple[Family, tuple[int, ...], Head]] = {
    "u-net": (UNet(filters=4, depth=2), (16, 16, 1), Head("segmentation", 3)),
    "autoencoder": (Autoencoder(hidden=(16,), bottleneck=4), (5, 3), Head("reconstruction", 15)),
    "autoencoder conv": (Autoencoder(kind="conv", hidden=(4, 8)), (9, 10, 1), Head("reconstruction", 90)),
    "vae": (Vae(hidden=(16,)), (4, 4, 1), Head("reconstruction", 16)),
    "gan": (Gan(filters=4), (9, 9, 1), Head("generation", 81)),
    "gan vectors": (Gan(), (2,), Head("generation", 2)),
    "ddpm": (Ddpm(filters=4), (9, 9, 1), Head("denoising", 81)),
    "ddpm vectors": (Ddpm(), (2,), Head("denoising", 2)),
    "policy-value": (PolicyValue(filters=4, blocks=1), (3, 3, 2), Head("policy-value", 10)),
    "recurrent": (Recurrent(cell="gru", bidirectional=True), (6, 2), Head("classification", 3)),
    "recurrent tokens": (Recurrent(layers=2), (6,), Head("next-token", 5)),
    "encoder": (TransformerEncoder(width=8, heads=2), (6, 2), Head("regression", 1)),
    "encoder tokens": (TransformerEncoder(width=8, heads=2, vocabulary=9), (6,), Head("classification", 3)),
    "decoder": (TransformerDecoder(width=8, heads=2), (6,), Head("next-token", 5)),
    "mamba": (Mamba(width=8), (6, 2), Head("classification", 3)),
    "mamba tokens": (Mamba(width=8), (6,), Head("next-token", 5)),
    "vit-tiny": (VitTiny(patch=2, width=9, layers=1), (8, 8, 1), Head("classification", 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_saved_model_is_the_same_model(name: str) -> None:
    """Shapes fit the task, names are unique, custom layers survive a file, gradients reach every weight."""
    import tensorflow as tf

    family, shape, head = CASES[name]
    model = build(family, shape, head)
    names = [layer.name for layer in model.layers]
    assert len(names) == len(set(names))
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "m.keras", save_format="keras")
        again = load_keras(Path(folder) / "m.keras")
    rng = np.random.default_rng(0)
    shapes = [((2, *one.shape[1:]), one.dtype) for one in model.inputs]
    given = [
        rng.integers(0, 5, shape).astype(np.int32) if dtype.is_integer else rng.normal(size=shape).astype(np.float32)
        for shape, dtype in shapes
    ]
    given = given if len(given) > 1 else given[0]
    mine, theirs = (tf.nest.flatten(one(given, training=False)) for one in (model, again))
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(mine, theirs, strict=True))
    with tf.GradientTape() as tape:
        outputs = tf.nest.flatten(model(given, training=True))
        loss = tf.add_n([tf.reduce_sum(one**2) for one in outputs]) + sum(model.losses)
    gradients = tape.gradient(loss, model.trainable_weights)
    assert all(one is not None for one in gradients), [
        w.name for w, g in zip(model.trainable_weights, gradients, strict=True) if g is None
    ]


def test_every_family_has_its_line_and_its_words() -> None:
    names = [family.model_fields["family"].default for family in FAMILIES]
    assert len(names) == len(set(names)) >= 20
    for family in FAMILIES:
        assert family.__doc__
        assert family.tasks


@pytest.mark.parametrize(
    ("family", "shape", "words"),
    [
        (ResNet(), (10,), "images of shape"),
        (UNet(depth=4), (20, 20, 1), "multiples of 16"),
        (VitTiny(), (40, 40, 3), "multiples of the patch, 16"),
        (TransformerEncoder(width=10, heads=4), (6, 2), "multiple of heads"),
        (TransformerEncoder(), (6,), "no vocabulary"),
        (Mamba(), (4, 4, 4), "sequences"),
    ],
)
def test_data_that_does_not_fit_is_told(family: Family, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        build(family, shape, Head("classification", 3))


def test_selective_scan_is_the_papers_recurrence() -> None:
    from edgedl.models.layers.selective_scan import SelectiveScan

    rng = np.random.default_rng(0)
    n, time, channels, states = 2, 7, 3, 4
    u, b, c = (rng.normal(size=(n, time, size)).astype(np.float32) for size in (channels, states, states))
    raw = rng.normal(size=(n, time, channels)).astype(np.float32)
    delta = np.log1p(np.exp(raw))
    layer = SelectiveScan()
    found = layer([u, raw, b, c]).numpy()
    a, d = -np.exp(layer.a_log.numpy()), layer.d.numpy()
    h = np.zeros((n, channels, states))
    for t in range(time):
        h = np.exp(delta[:, t, :, None] * a) * h + (delta[:, t] * u[:, t])[..., None] * b[:, t, None, :]
        assert np.allclose(found[:, t], (h * c[:, t, None, :]).sum(-1) + d * u[:, t], atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_keras_s_and_the_causal_one_looks_back_only(causal: bool) -> None:
    import tensorflow as tf

    from edgedl.models.layers.attention import Attention

    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 5, 6)).astype(np.float32) for _ in range(3))
    found = Attention(2, causal)([q, k, v]).numpy()
    split = [one.reshape(2, 5, 2, 3).transpose(0, 2, 1, 3) for one in (q, k, v)]
    scores = split[0] @ split[1].transpose(0, 1, 3, 2) / np.sqrt(3)
    if causal:
        scores = np.where(np.tril(np.ones((5, 5))), scores, -np.inf)
    expected = (tf.nn.softmax(scores).numpy() @ split[2]).transpose(0, 2, 1, 3).reshape(2, 5, 6)
    assert np.allclose(found, expected, atol=1e-5)
    k[:, 3:], v[:, 3:] = 9.0, 9.0
    changed = np.abs(Attention(2, causal)([q, k, v]).numpy() - found).max(axis=(0, 2))
    assert (changed[:3] < 1e-4).all() == causal


def test_the_causal_networks_do_not_see_the_next_token() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 5, (1, 6)).astype(np.int32)
    other = tokens.copy()
    other[0, 4:] = (other[0, 4:] + 1) % 5
    for family in (TransformerDecoder(width=8, heads=2), Mamba(width=8), Recurrent(cell="gru")):
        model = build(family, (6,), Head("next-token", 5))
        assert np.allclose(model(tokens)[:, :4], model(other)[:, :4], atol=1e-4), family.family


def test_normalisation_and_gelu_are_keras_s() -> None:
    import tf_keras

    from edgedl.models.layers.attention import Gelu, LayerNorm

    x = np.random.default_rng(0).normal(2, 3, (4, 6, 8)).astype(np.float32)
    assert np.allclose(LayerNorm()(x), tf_keras.layers.LayerNormalization()(x), atol=1e-4)
    assert np.allclose(Gelu()(x), tf_keras.activations.gelu(x, approximate=True), atol=1e-5)


def test_the_divergence_is_the_closed_form_and_inference_is_certain() -> None:
    from edgedl.models.layers.sampling import Sampling

    mean, log_variance = np.array([[1.0, -2.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
    layer = Sampling(beta=3.0, values=5)
    assert np.array_equal(layer([mean, log_variance]), mean)
    assert not layer.losses
    drawn = np.concatenate([layer([mean, log_variance], training=True) for _ in range(2000)])
    expected = 0.5 * ((1 + 1 - 1 - 0) + (np.e + 4 - 1 - 1))
    assert float(layer.losses[-1]) == pytest.approx(3.0 * expected / 5, rel=1e-5)
    assert np.allclose(drawn.mean(axis=0), mean[0], atol=0.15)
    assert np.allclose(drawn.std(axis=0), np.exp(0.5 * log_variance[0]), rtol=0.08)


@pytest.mark.slow
def test_resnet_152_is_built_exported_and_verified(tmp_path: Path) -> None:
    import edgedl

    model = build(ResNet(depth=152, width=0.25), (32, 32, 3), Head("classification", 10))
    rng = np.random.default_rng(0)
    for weight in model.weights:  # as after training: moving averages that fit what passes
        if "moving_variance" in weight.name:
            weight.assign(1.0 + 0.1 * rng.random(weight.shape))
        elif "gamma" in weight.name:
            weight.assign(np.full(weight.shape, 0.5))
    made = edgedl.export(model, "tflite", out=tmp_path / "run")
    assert edgedl.verify(made, model).passed
