"""Keras 3 models become tf_keras models with the same answers: graphs of every kind, and what has no twin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedl.core.artifacts import CarriedOver
from edgedl.core.errors import ConfigError, ModelError
from edgedl.models import LoadOptions, ModelFileSection
from edgedl.models.load import Loaded, bring_in, inspect_keras, load_any, load_keras

pytestmark = pytest.mark.tensorflow

WORST = 1e-5


def carried(model: Any, tmp_path: Path, **options: Any) -> tuple[Loaded, CarriedOver]:
    model.save(tmp_path / "m.keras")
    loaded = load_any(tmp_path / "m.keras", LoadOptions(**options))
    assert loaded.carried is not None
    return loaded, loaded.carried


def residual(keras: Any) -> Any:
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", activation=keras.layers.LeakyReLU(negative_slope=0.1))(x)
    x = keras.layers.BatchNormalization()(x)
    y = keras.layers.DepthwiseConv2D(3, padding="same", activation="hard_swish")(x)
    x = keras.layers.Activation("hard_sigmoid")(x + y * 2.0)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x)))


def nested(keras: Any) -> Any:
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="gelu", name="d")], name="inner")
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    shared = keras.layers.Dense(3, activation="silu")
    joined = keras.layers.Concatenate()([inner(a), inner(b), shared(a), shared(b)])
    return keras.Model([a, b], [keras.layers.Dense(2, name="first")(joined), keras.layers.Dot(1)([a, b])])


def operations(keras: Any) -> Any:
    x = keras.Input((6, 4))
    mask = keras.ops.any(keras.ops.not_equal(x, 0.0), axis=-1)
    part = keras.ops.concatenate([x[:, 1:3, ::2], keras.ops.flip(x[:, :2, :2], axis=1)], axis=-1)
    weights = keras.ops.softmax(keras.ops.einsum("bij,bkj->bik", part, part))
    summed = keras.ops.matmul(weights, part) / keras.ops.sqrt(4.0)
    return keras.Model(x, [keras.layers.LSTM(5)(x, mask=mask), summed])


def sequence(keras: Any) -> Any:
    x = tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(11, 8, mask_zero=True)(x)
    x = keras.layers.Bidirectional(keras.layers.GRU(4, return_sequences=True))(x)
    x = keras.layers.TimeDistributed(keras.layers.Dense(8))(x)
    x = keras.layers.LayerNormalization()(x + keras.layers.MultiHeadAttention(2, 4)(x, x))
    return keras.Model(tokens, keras.layers.RNN([keras.layers.LSTMCell(3), keras.layers.GRUCell(2)])(x))


def newer(keras: Any) -> Any:
    """Layers that tf_keras lacks."""
    x = inputs = keras.Input((6, 8))
    x = keras.layers.RMSNormalization()(x)
    x = keras.layers.GroupQueryAttention(4, 4, 2)(x, x)
    return keras.Model(inputs, x)


def normalized(keras: Any) -> Any:
    layer = keras.layers.Normalization(axis=-1)
    layer.adapt(np.random.default_rng(0).normal(3, 2, (50, 4)))
    return keras.Sequential([keras.Input((4,)), layer, keras.layers.Dropout(0.5), keras.layers.Dense(2)])


@pytest.mark.parametrize("make", [residual, nested, operations, sequence, newer, normalized])
def test_every_kind_of_graph_answers_alike(make: Callable[[Any], Any], tmp_path: Path) -> None:
    import keras

    model = make(keras)
    for weight in (
        [] if make is normalized else model.weights
    ):  # moving averages of nothing and zero biases would hide what is left out
        weight.assign(weight + 0.1 * np.random.default_rng(1).random(weight.shape))
    loaded, how = carried(model, tmp_path)
    assert how.road == "layers", how.notes
    assert how.random_error is not None
    assert how.extreme_error is not None
    assert max(how.random_error, how.extreme_error) <= WORST
    loaded.model.save(tmp_path / "again.keras", save_format="keras")
    again = load_keras(tmp_path / "again.keras")
    rng = np.random.default_rng(3)
    given = [
        rng.integers(0, 11, (2, *one.shape[1:])) if one.dtype == "int32" else rng.normal(size=(2, *one.shape[1:]))
        for one in model.inputs
    ]
    given = [one.astype("int32" if one.dtype.kind == "i" else "float32") for one in given]
    theirs, mine = model.predict(given, verbose=0), again.predict(given, verbose=0)
    for a, b in zip(*(one if isinstance(one, list) else [one] for one in (theirs, mine)), strict=True):
        assert np.allclose(a, b, atol=1e-5)


def test_layers_that_tf_keras_lacks_are_hosted_and_trained(tmp_path: Path) -> None:
    import keras

    loaded, how = carried(newer(keras), tmp_path)
    assert len(how.notes) == 2
    assert "RMSNormalization" in how.notes[0]
    loaded.model.compile("adam", "mse")
    before = [one.copy() for one in loaded.model.get_weights()]
    loaded.model.fit(np.ones((4, 6, 8)), np.zeros((4, 6, 8)), verbose=0)
    assert not all(map(np.array_equal, before, loaded.model.get_weights()))


def test_a_batch_of_single_categories_stays_a_batch(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((4,))
    hot = keras.layers.CategoryEncoding(5, output_mode="one_hot")(inputs[:, 0])
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Concatenate()([inputs, hot])))
    loaded, how = carried(model, tmp_path)
    assert how.road == "layers"
    assert any("CategoryEncoding" in note for note in how.notes)
    x = np.array([[0, 0.3, 1, 2], [4, 1, 1, 1], [2, 0, 0, 0]], np.float32)
    assert np.allclose(loaded.model(x), model(x), atol=1e-6)


def test_a_frozen_graph_keeps_its_loops() -> None:
    """Recurrent layers are loops over time; called from another graph, they must still be."""
    import keras
    import tensorflow as tf

    from edgedl.models.carry import freeze_model

    model = keras.Sequential([keras.Input((6, 4)), keras.layers.GRU(5), keras.layers.Dense(2)])
    frozen = freeze_model(model)
    x = np.random.default_rng(0).normal(size=(3, 6, 4)).astype(np.float32)
    assert np.allclose(frozen(x), model(x), atol=1e-6)
    assert np.allclose(tf.function(frozen)(tf.constant(x)), model(x), atol=1e-6)


def chaotic(library: Any, factor: float, swapped: bool) -> Any:
    """The logistic map 60 times, its factors in one of two orders: its answers in float32 are rounding alone."""
    x = inputs = library.Input((5,))
    x = library.layers.Rescaling(1e-3, 0.5)(x)
    for _ in range(60):
        scale = library.layers.Rescaling(factor)
        rest = library.layers.Rescaling(-1.0, 1.0)(x)
        x = library.layers.Multiply()([x, scale(rest)] if swapped else [scale(x), rest])
    return library.Model(inputs, x)


@pytest.mark.slow
def test_chaotic_models_are_compared_in_float64() -> None:
    import keras
    import tf_keras

    from edgedl.models.compare import compare

    model = chaotic(keras, 3.7, swapped=False)
    alike = compare(model, chaotic(tf_keras, 3.7, swapped=True))
    other = compare(model, chaotic(tf_keras, 3.70001, swapped=True))
    assert alike.doubled > 0
    assert other.doubled > 0
    assert alike.random <= 1e-5
    assert other.random > 1e-4


CODE = """
import keras, tf_keras

def layer(base):
    class Scale(base):
        def __init__(self, factor=1.0, **options):
            super().__init__(**options)
            self.factor = factor
        def build(self, shape):
            self.bias = self.add_weight(name="bias", shape=shape[-1:])
        def call(self, x):
            return x * self.factor + self.bias
        def get_config(self):
            return super().get_config() | {"factor": self.factor}
    return Scale

Scale = layer(tf_keras.layers.Layer)
Scale3 = keras.saving.register_keras_serializable("mine")(layer(keras.layers.Layer))

def build():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])

def build_2():
    return tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3, name="d")])
"""


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: Any) -> str:
    name = f"own_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def own_model(own_code: str, tmp_path: Path) -> Any:
    import importlib

    import keras

    kind = importlib.import_module(own_code).Scale3
    model = keras.Sequential([keras.Input((4,)), kind(factor=3.0), keras.layers.Dense(2)])
    model.layers[0].bias.assign(np.arange(4.0))
    model.save(tmp_path / "m.keras")
    return model


def test_a_layer_of_the_users_own_needs_its_code(own_code: str, tmp_path: Path) -> None:
    own_model(own_code, tmp_path)
    with pytest.raises(ModelError, match=r"Scale.*--custom-objects MODULE:Scale"):
        load_any(tmp_path / "m.keras", LoadOptions())
    with pytest.raises(ConfigError, match="is not there"):
        load_any(tmp_path / "m.keras", LoadOptions(custom_objects=(f"{own_code}:Nothing",)))


def test_a_twin_of_the_users_carries_its_layer_over(own_code: str, tmp_path: Path, monkeypatch: Any) -> None:
    model = own_model(own_code, tmp_path)
    monkeypatch.chdir(tmp_path)
    brought = bring_in(tmp_path / "m.keras", tmp_path / "in.keras", LoadOptions(custom_objects=(f"{own_code}:Scale",)))
    assert brought.carried is not None
    assert brought.carried.road == "layers"
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert np.allclose(load_keras(tmp_path / "in.keras")(x), model(x), atol=1e-6)


def test_without_a_twin_the_graph_is_frozen_and_still_exported(own_code: str, tmp_path: Path, monkeypatch: Any) -> None:
    import edgedl

    model = own_model(own_code, tmp_path)
    monkeypatch.chdir(tmp_path)
    import importlib

    module = importlib.import_module(own_code)
    module.Own = module.Scale3
    (tmp_path / f"{own_code}.py").write_text(CODE + "\nScale = Scale3\n")
    module.Scale = module.Scale3
    section = ModelFileSection(file=tmp_path / "m.keras", custom_objects=(f"{own_code}:Scale",))
    file = edgedl.export(section, out=tmp_path / "run").model_path
    assert edgedl.verify(file, section).passed
    facts = inspect_keras(tmp_path / "m.keras", section)
    assert any("frozen as a whole graph" in note for note in facts.notes)
    assert any("no twin" in note for note in facts.notes)
    assert facts.parameters == model.count_params()


@pytest.mark.parametrize("builder", ["build", "build_2"])
def test_weights_find_their_model_by_its_builder(builder: str, own_code: str, tmp_path: Path) -> None:
    import importlib

    model = getattr(importlib.import_module(own_code), builder)()
    model.save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(ModelError, match="--builder"):
        load_any(tmp_path / "w.weights.h5", LoadOptions())
    loaded = load_any(tmp_path / "w.weights.h5", LoadOptions(builder=f"{own_code}:{builder}"))
    x = np.ones((1, 4), np.float32)
    assert np.allclose(loaded.model(x), model(x), atol=1e-6)


def test_h5_of_keras_3_and_a_bare_saved_model(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="silu"), keras.layers.Flatten()]
    )
    model.save(tmp_path / "m.h5")
    model.export(tmp_path / "saved", verbose=False)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    for name, road in (("m.h5", "layers"), ("saved", "frozen")):
        loaded = load_any(tmp_path / name, LoadOptions())
        assert loaded.carried is not None
        assert loaded.carried.road == road
        assert np.allclose(loaded.model(x), model(x), atol=1e-5)


def test_a_keras_3_model_in_memory_is_exported(tmp_path: Path) -> None:
    import keras

    import edgedl

    made = edgedl.export(residual(keras), out=tmp_path / "run")
    assert made.model_path.is_file()
