"""Surgery is exact: removing channels that are zero wherever they are used changes no output, in any architecture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgedl.core.contract import InputContract
from edgedl.models import FAMILIES, Head, ResNet, UNet
from edgedl.models.transfer import Transfer, build_transfer, load_backbone
from edgedl.pipeline.compress.channels.graph import Couplings
from edgedl.pipeline.compress.channels.importance import l1
from edgedl.pipeline.compress.channels.selection import choose
from edgedl.pipeline.compress.channels.surgery import flatten, narrow
from edgedl.pipeline.compress.channels.trace import trace

pytestmark = pytest.mark.tensorflow

REGRESSION = Head("regression", 5)
"""A linear end: a softmax would hide differences."""


def layers() -> Any:
    import tf_keras

    return tf_keras.layers


def model_of(inputs: Any, outputs: Any) -> Any:
    import tf_keras

    return tf_keras.Model(inputs, outputs)


def image(side: int = 8) -> Any:
    import tf_keras

    return tf_keras.Input((side, side, 3), name="x")


def shake(model: Any, seed: int) -> None:
    """Random weights of a size that keeps signals alive, also in BatchNorm."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if not weight.dtype.is_floating:
            continue
        fan_in = max(1, int(np.prod(shape[:-1])))
        if "depthwise_kernel" in weight.name:
            fan_in = int(np.prod(shape[:-2]))
        noise = rng.normal(0, 1.5 * fan_in**-0.5 if len(shape) > 1 else 0.3, shape)
        positive = any(word in weight.name for word in ("gamma", "variance"))
        weight.assign(1 + 0.5 * np.abs(noise) if positive else noise)


def answers(model: Any, seed: int) -> NDArray[np.float64]:
    """All outputs to two random examples, in a row."""
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    given = []
    for one in model.inputs:
        shape = (2, *one.shape[1:])
        values = rng.normal(size=shape) if one.dtype.is_floating else rng.integers(0, 4, shape)
        given.append(tf.constant(values, one.dtype))
    found = model(given if len(given) > 1 else given[0], training=False)
    return np.concatenate([np.ravel(np.asarray(one, np.float64)) for one in tf.nest.flatten(found)])


def zeroed(model: Any, couplings: Couplings, kept: list[NDArray[np.bool_]]) -> Any:
    """A copy in which the channels that are not kept are zero on every axis of every weight."""
    import tf_keras

    copy: Any = tf_keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for (name, number, axis), members in couplings.members.items():
        gone = [m >= 0 and not kept[m // couplings.stride][m % couplings.stride] for m in members.tolist()]
        weight = copy.get_layer(name).weights[number]
        values = np.moveaxis(np.array(weight), axis, 0)
        values[gone] = 0
        weight.assign(np.moveaxis(values, 0, axis))
    return copy


def check_exact(model: Any, *, seed: int = 1, keep: float = 0.5) -> Couplings:
    """Half of the MACs cut away: the same answers as with zeros in their place, and not those of the whole model."""
    shake(model, seed)
    flat = flatten(model)
    whole = answers(model, seed)
    assert np.array_equal(whole, answers(flat, seed))
    assert flat.output_names == model.output_names
    couplings = trace(flat)
    target = keep * couplings.macs(couplings.sizes)
    choice = choose(couplings, l1(flat, couplings), target, round_to=4, floor=0.1)
    small = narrow(flat, couplings, choice.kept)
    assert [layer.name for layer in small.layers] == [layer.name for layer in flat.layers]
    assert [one.shape for one in small.outputs] == [one.shape for one in model.outputs]
    assert small.count_params() < flat.count_params()
    expected = answers(zeroed(flat, couplings, choice.kept), seed)
    scale = np.abs(expected).max()
    assert np.abs(answers(small, seed) - expected).max() <= 1e-5 * scale
    assert np.abs(whole - expected).max() > 1e-2 * scale  # what was removed was in use
    again = trace(small)
    assert again.macs(again.sizes) == choice.macs
    return couplings


# ── toys, one for each way in which channels depend on one another ─────────────────────────────────────────────────


def sequential() -> Any:
    import tf_keras

    L = layers()
    return tf_keras.Sequential(
        [
            L.Conv2D(16, 3, padding="same", input_shape=(8, 8, 3)),
            L.PReLU(),
            L.PReLU(shared_axes=[1, 2]),
            L.ZeroPadding2D(1),
            L.Conv2D(16, 3, strides=2, activation="relu"),
            L.BatchNormalization(),
            L.UpSampling2D(2),
            L.SpatialDropout2D(0.1),
            L.MaxPooling2D(2),
            L.Flatten(),
            L.Dense(24, activation="tanh"),
            L.Dropout(0.1),
            L.Dense(5),
        ]
    )


def depthwise() -> Any:
    L, x = layers(), image()
    y = L.Conv2D(12, 1, use_bias=False)(x)
    y = L.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(y)
    y = L.BatchNormalization(scale=False)(y)
    y = L.SeparableConv2D(16, 3, depth_multiplier=3, activation="relu")(y)
    y = L.BatchNormalization(center=False)(y)
    return model_of(x, L.Dense(5)(L.GlobalAveragePooling2D()(y)))


def residual() -> Any:
    L, x = layers(), image()
    y = a = L.Conv2D(16, 3, padding="same", activation="relu")(x)
    for _ in range(2):
        b = L.Conv2D(12, 3, padding="same", activation="relu")(y)
        y = L.Add()([y, L.Conv2D(16, 3, padding="same")(b)])
    y = L.Subtract()([L.Maximum()([y, a]), L.Average()([a, y])])
    return model_of(x, L.Dense(5)(L.GlobalMaxPooling2D()(y)))


def dense_block() -> Any:
    L, x = layers(), image()
    y = L.Conv2D(8, 3, padding="same", activation="relu")(x)
    for _ in range(3):
        y = L.Concatenate()([y, L.Conv2D(8, 3, padding="same", activation="relu")(L.BatchNormalization()(y))])
    y = L.Concatenate(axis=1)([y, y])
    return model_of(x, L.Dense(5)(L.Flatten()(L.AveragePooling2D(4)(y))))


def squeeze_excite() -> Any:
    L, x = layers(), image()
    y = L.Conv2D(16, 3, activation="swish")(x)
    s = L.Reshape((1, 1, -1))(L.GlobalAveragePooling2D()(y))
    s = L.Conv2D(8, 1, activation="relu")(s)
    s = L.Conv2D(16, 1, activation="hard_sigmoid")(s)
    y = L.Multiply()([y, s])
    attention = L.Conv2D(1, 1, activation="sigmoid")(y)
    y = L.Multiply()([y, attention])
    return model_of(x, L.Dense(5)(L.GlobalAveragePooling2D()(y)))


def shared() -> Any:
    import tf_keras

    L = layers()
    left, right = tf_keras.Input((8, 8, 3), name="left"), tf_keras.Input((8, 8, 3), name="right")
    conv, bn, second = L.Conv2D(16, 3), L.BatchNormalization(), L.Conv2D(16, 3, activation="relu")
    a, b = (second(bn(conv(one))) for one in (left, right))
    y = L.Concatenate()([L.GlobalAveragePooling2D()(a), L.GlobalMaxPooling2D()(b)])
    return model_of([left, right], [L.Dense(5, name="one")(y), L.Dense(2, name="two")(y)])


def reshapes() -> Any:
    import tf_keras

    L, z = layers(), tf_keras.Input((6,), name="z")
    y = L.Reshape((4, 4, 12))(L.Dense(4 * 4 * 12, activation="relu")(z))
    y = L.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu")(y)
    y = L.Reshape((8, 8 * 16))(y)
    y = L.Conv1D(24, 3, activation="relu")(y)
    y = L.Conv1DTranspose(16, 3)(L.Permute((1, 2))(y))
    return model_of(z, L.Dense(5)(L.GlobalAveragePooling1D()(y)))


def operations() -> Any:
    import tensorflow as tf

    L, x = layers(), image()
    y = tf.nn.relu(L.Conv2D(16, 3)(x) + 0.5) * (1 / 6)
    z = L.Conv2D(16, 3, padding="same")(y)
    y = tf.nn.relu6(y + z)
    return model_of(x, L.Dense(5)(L.GlobalAveragePooling2D()(y * z)))


def nested() -> Any:
    import tf_keras

    L, x = layers(), image()
    inner = image()
    y = L.BatchNormalization()(L.Conv2D(16, 3, activation="relu", name="conv")(inner))
    backbone = tf_keras.Model(inner, L.Conv2D(16, 3, activation="relu")(y), name="backbone")
    backbone.trainable = False
    head = tf_keras.Sequential([L.Dense(12, activation="relu", name="conv"), L.Dense(5)], name="head")
    return model_of(x, head(L.GlobalAveragePooling2D()(backbone(x, training=False))))


def text() -> Any:
    import tf_keras

    L, x = layers(), tf_keras.Input((6,), dtype="int32", name="x")
    y = L.Conv1D(16, 3, activation="relu")(L.Embedding(10, 12)(x))
    return model_of(x, L.Dense(5)(L.GlobalMaxPooling1D()(y)))


TOYS = [sequential, depthwise, residual, dense_block, squeeze_excite]
TOYS += [shared, reshapes, operations, nested, text]


@pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy.__name__)
def test_surgery_is_exact(toy: Callable[[], Any]) -> None:
    check_exact(toy())


def test_surgery_is_exact_on_resnet_8_and_a_unet() -> None:
    check_exact(ResNet(depth=8).build("x", (16, 16, 3), REGRESSION))
    check_exact(UNet(depth=2, filters=8).build("x", (16, 16, 3), Head("segmentation", 3)))


ZOO: dict[str, dict[str, Any]] = {
    "alexnet": {"width": 0.25},
    "vgg": {"width": 0.25},
    "ds-cnn": {"width": 0.5},
    "mobilenet-v1": {"alpha": 0.25},
    "mobilenet-v2": {"alpha": 0.35},
    "mobilenet-v3": {"alpha": 0.5},
    "efficientnet-lite": {"width": 0.35},
    "resnet": {"depth": 50, "width": 0.25},
}


@pytest.mark.slow
@pytest.mark.parametrize("family", ZOO)
def test_surgery_is_exact_on_the_zoo(family: str) -> None:
    kind = next(one for one in FAMILIES if one.model_fields["family"].default == family)
    check_exact(kind(**ZOO[family]).build("x", (32, 32, 3), REGRESSION))


@pytest.mark.slow
def test_surgery_is_exact_on_a_transferred_backbone() -> None:
    section = Transfer(application="MobileNetV2", weights="none", alpha=0.35)
    backbone = load_backbone(section, (32, 32, 3), None)
    check_exact(build_transfer(section, backbone, InputContract("x", (32, 32, 3)), REGRESSION))


# ── what is not understood stays ──────────────────────────────────────────────────────────────────────────────────


def test_layers_that_are_not_understood_keep_their_channels_and_are_listed() -> None:
    import tensorflow as tf

    class Mine(layers().Layer):
        def call(self, x: Any) -> Any:
            return tf.reverse(x, [-1])

    L, x = layers(), image()
    free = L.Conv2D(16, 3, padding="same", name="free", activation="relu")(x)
    y = L.Conv2D(8, 3, padding="same", name="before_groups")(free)
    y = L.Conv2D(8, 3, padding="same", groups=2, name="groups")(y)
    y = L.Conv2D(8, 3, padding="same", name="before_mine")(y)
    y = L.Conv2D(8, 3, padding="same", name="before_lambda")(Mine(name="mine")(y))
    y = L.Lambda(lambda one: one[..., ::-1], name="lambda")(y)
    y = L.Conv2D(8, 3, padding="same", name="before_norm")(y)
    y = L.Reshape((64, 8))(L.LayerNormalization(name="norm")(y))
    y = L.MultiHeadAttention(2, 4, name="attention")(y, y)
    y = L.LSTM(8, name="lstm")(L.Dense(8, name="before_lstm")(y))
    y = L.Dense(16, activation="relu", name="hidden")(y)
    couplings = trace(model_of(x, L.Dense(5, activation="softmax", name="out")(y)))
    assert sorted(group.name for group in couplings.groups) == ["before_groups", "hidden"]
    reasons = {one.layer: one.reason for one in couplings.skipped}
    assert set(reasons) >= {"before_groups", "groups", "before_mine", "mine", "before_lambda", "lambda"}
    assert set(reasons) >= {"before_norm", "norm", "attention", "before_lstm", "lstm", "out"}
    assert "free" not in reasons
    assert "in groups" in reasons["groups"]
    assert "lstm" in reasons["before_lstm"]


def test_both_sides_of_an_add_are_one_group_and_a_flatten_multiplies() -> None:
    L, x = layers(), image()
    y = L.Add()([L.Conv2D(8, 3, name="a")(x), L.Conv2D(8, 3, name="b")(x)])
    couplings = trace(model_of(x, L.Dense(5, name="dense")(L.Flatten()(y))))
    (group,) = couplings.groups
    assert group.n == 8
    assert group.axes == {("a", 0, 3): 1, ("a", 1, 0): 1, ("b", 0, 3): 1, ("b", 1, 0): 1, ("dense", 0, 0): 36}
    assert couplings.macs([8]) - couplings.macs([7]) == 2 * 27 * 36 + 36 * 5


def test_layers_that_are_asked_to_stay_stay() -> None:
    flat = flatten(residual())
    names = [layer.name for layer in flat.layers if "conv" in layer.name]
    assert len(trace(flat).groups) == 3
    assert len(trace(flat, keep=names[:1]).groups) == 2  # with all that is added to it
    assert trace(flat, keep=names).groups == []


# ── any graph ─────────────────────────────────────────────────────────────────────────────────────────────────────

STEPS = ["conv", "depthwise", "separable", "bn", "relu", "add", "concat", "excite", "pool", "again"]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(STEPS), min_size=3, max_size=8), st.booleans(), st.integers(0, 9))
def test_surgery_is_exact_on_any_small_graph(steps: list[str], flat: bool, seed: int) -> None:
    L, x = layers(), image()
    rng = np.random.default_rng(seed)
    shared_conv = L.Conv2D(8, 3, padding="same")
    maps = [L.Conv2D(8, 3, padding="same")(x)]
    for step in steps:
        y = maps[int(rng.integers(len(maps)))]
        channels = y.shape[-1]
        if step == "conv":
            y = L.Conv2D(int(rng.choice([4, 8, 12])), 3, padding="same")(y)
        elif step == "depthwise":
            y = L.DepthwiseConv2D(3, padding="same", depth_multiplier=int(rng.integers(1, 3)))(y)
        elif step == "separable":
            y = L.SeparableConv2D(8, 3, padding="same")(y)
        elif step == "bn":
            y = L.BatchNormalization()(y)
        elif step == "relu":
            y = L.ReLU()(y)
        elif step == "add":
            y = L.Add()([y, *(one for one in maps if one.shape == y.shape and one is not y)][:3] * 2)
        elif step == "concat":
            y = L.Concatenate()([y, maps[-1]])
        elif step == "excite":
            y = L.Multiply()([y, L.Dense(channels, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(y))])
        elif step == "pool":
            y = L.MaxPooling2D(3, 1, padding="same")(y)
        elif channels == 8:
            y = shared_conv(y)
        maps.append(y)
    y = L.Concatenate()(maps)
    y = L.Flatten()(L.AveragePooling2D(4)(y)) if flat else L.GlobalAveragePooling2D()(y)
    check_exact(model_of(x, L.Dense(3)(y)), seed=seed, keep=0.6)
