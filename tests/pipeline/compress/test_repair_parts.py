"""Each repair alone, on small networks: what its paper promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.pipeline.compress.badly_scaled import network, some_inputs, with_bad_scales, with_living_norms

from edgedl.core.errors import ModelError

pytestmark = pytest.mark.tensorflow


def answers(model: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(model(inputs["image"], training=False))


def living(relu: float | None = None) -> Any:
    import tf_keras

    tf_keras.utils.set_random_seed(4)
    return with_living_norms(network(relu))


def spread(layer: Any) -> float:
    from edgedl.pipeline.compress.repair.graph import by_output, kernel_of

    ranges = np.abs(by_output(layer, kernel_of(layer).numpy())).max(axis=0)
    return float(ranges.max() / ranges.min())


def test_folding_changes_no_answer_and_leaves_no_norm_that_could_go() -> None:
    import tf_keras
    from tf_keras import layers

    from edgedl.pipeline.compress.repair.fold import folded

    given = tf_keras.Input((8, 8, 1), name="image")
    first = layers.Conv2D(4, 3, padding="same", name="first")(given)
    x = layers.BatchNormalization(name="first_bn")(first)
    x = layers.Add(name="sum")([x, layers.Conv2D(4, 1, name="skip", activation="relu")(given)])
    x = layers.BatchNormalization(name="alone")(x)
    inner_given = tf_keras.Input((8, 8, 4))
    inner = layers.BatchNormalization(name="inner_bn")(
        layers.DepthwiseConv2D(3, use_bias=False, name="dw")(inner_given)
    )
    x = tf_keras.Model(inner_given, inner, name="nested")(x)
    x = layers.Dense(5, name="dense")(layers.Flatten(name="flat")(x))
    model = with_living_norms(tf_keras.Model(given, x))
    with_living_norms(model.get_layer("nested"))
    inputs = some_inputs()
    before = answers(model, inputs)
    made = folded(model)
    assert np.abs(answers(made, inputs) - before).max() < 1e-4 * np.abs(before).max()
    assert isinstance(made.get_layer("first_bn"), layers.Activation)
    assert isinstance(made.get_layer("alone"), layers.BatchNormalization), "it follows no layer that computes"
    assert isinstance(made.get_layer("nested").get_layer("inner_bn"), layers.Activation)
    assert (answers(model, inputs) == before).all(), "the given model stays as it was"


def test_a_model_that_is_no_graph_is_refused() -> None:
    import tf_keras

    from edgedl.pipeline.compress.repair.fold import folded

    class Own(tf_keras.Model):
        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(ModelError, match="not a graph of layers"):
        folded(Own(name="own"))


def test_equalisation_undoes_bad_scales_and_changes_no_answer() -> None:
    from edgedl.pipeline.compress.repair.equalise import equalise
    from edgedl.pipeline.compress.repair.fold import folded

    inputs = some_inputs()
    model = folded(with_bad_scales(living()))
    before = answers(model, inputs)
    assert spread(model.get_layer("stem")) > 100
    said, skipped = equalise(model, inputs)
    assert np.abs(answers(model, inputs) - before).max() < 1e-4
    assert "3 pairs" in said[0]
    assert [one.layer for one in skipped] == ["probabilities"]
    # √(r₁ r₂) on both sides of each pair (eq. 11): what is left is the spread of a random initialisation.
    first, second = (np.abs(model.get_layer(name).get_weights()[0]) for name in ("stem", "dw"))
    assert np.allclose(first.max(axis=(0, 1, 2)), second.max(axis=(0, 1, 3)), rtol=0.01)


def test_equalisation_through_flatten() -> None:
    import tf_keras
    from tf_keras import layers

    from edgedl.pipeline.compress.repair.equalise import equalise
    from edgedl.pipeline.compress.repair.fold import folded

    given = tf_keras.Input((8, 8, 1), name="image")
    x = layers.MaxPooling2D()(layers.Conv2D(6, 3, activation="relu", name="conv")(given))
    x = layers.Dense(4, name="dense")(layers.Flatten()(x))
    model = folded(tf_keras.Model(given, x))
    kernel, bias = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([kernel * np.geomspace(0.01, 10, 6, dtype=np.float32), bias])
    inputs = some_inputs()
    before = answers(model, inputs)
    assert spread(model.get_layer("conv")) > 300
    equalise(model, inputs)
    assert np.abs(answers(model, inputs) - before).max() < 1e-4 * np.abs(before).max()
    first, second = model.get_layer("conv").get_weights()[0], model.get_layer("dense").get_weights()[0]
    assert np.allclose(np.abs(first).max(axis=(0, 1, 2)), np.abs(second).reshape(9, 6, 4).max(axis=(0, 2)), rtol=0.01)


def test_equalisation_through_relu6_keeps_below_its_bound() -> None:
    from edgedl.pipeline.compress.repair.equalise import equalise
    from edgedl.pipeline.compress.repair.fold import folded

    inputs = some_inputs()
    model = folded(living(6.0))
    norm_free = model.get_layer("stem")
    kernel, bias = norm_free.get_weights()
    s = np.geomspace(0.001, 1, kernel.shape[-1], dtype=np.float32)
    bias = bias * s
    bias[-1] = 7.0  # this channel reaches the bound: it may not be scaled
    norm_free.set_weights([kernel * s, bias])
    last = norm_free.get_weights()[0][..., -1]
    before = answers(model, inputs)
    equalise(model, inputs)
    assert np.abs(answers(model, inputs) - before).max() < 1e-4
    assert (norm_free.get_weights()[0][..., -1] == last).all()
    assert not (norm_free.get_weights()[0][..., 0] == kernel[..., 0] * s[0]).all()


def test_bias_correction_takes_the_mean_error_out() -> None:
    from edgedl.pipeline.compress.repair.bias_correction import correct_biases
    from edgedl.pipeline.compress.repair.fold import folded
    from edgedl.pipeline.compress.repair.weights import nearest, rounded_activations

    inputs = some_inputs(256)
    exact = folded(with_bad_scales(living(), pairs=1))
    model = folded(with_bad_scales(living(), pairs=1))
    model.set_weights(exact.get_weights())
    names = ("stem", "dw", "pw", "probabilities")
    kernels = [model.get_layer(name).get_weights()[0].copy() for name in names]

    def mean_errors() -> list[float]:
        """Of each layer before its activation, all layers before it rounded too; in standard deviations."""
        import tensorflow as tf
        import tf_keras

        x = y = tf.constant(inputs["image"])
        found: list[float] = []
        for other, layer in zip(exact.layers[1:], model.layers[1:], strict=True):
            if layer.name not in names:
                x, y = other(x), layer(y)
                continue
            kernel, bias = layer.get_weights()
            layer.set_weights([nearest(layer, kernel), bias])
            activation = layer.activation
            layer.activation = other.activation = tf_keras.activations.linear
            x, y = other(x), layer(rounded_activations(y))
            layer.set_weights([kernel, bias])
            axes = tuple(range(x.shape.rank - 1))
            error = tf.abs(tf.reduce_mean(x - y, axes)) / tf.math.reduce_std(x, axes)
            found.append(float(tf.reduce_max(tf.where(tf.math.is_finite(error), error, 0.0))))
            layer.activation = other.activation = activation
            x, y = activation(x), activation(y)
        return found

    before = mean_errors()
    (said,) = correct_biases(exact, model, inputs)
    after = mean_errors()
    assert max(before) > 0.02
    assert max(after) < 0.02 * max(before)  # values at the border of two integers fall to either side here and there
    assert "biases of 4 layers" in said
    left = [model.get_layer(name).get_weights()[0] for name in names]
    assert all((one == two).all() for one, two in zip(kernels, left, strict=True)), "weights stay as they are"


@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_rounding_beats_nearest_and_keeps_scale_and_zeros(kind: str) -> None:
    import tensorflow as tf
    import tf_keras
    from tf_keras import layers

    from edgedl.pipeline.compress.repair.graph import by_output, kernel_of, linear
    from edgedl.pipeline.compress.repair.rounding import best_rounding
    from edgedl.pipeline.compress.repair.weights import scales_of

    tf_keras.utils.set_random_seed(2)
    rng = np.random.default_rng(0)
    layer: Any = {
        "conv": layers.Conv2D(5, 3, padding="same"),
        "depthwise": layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
        "dense": layers.Dense(6),
    }[kind]
    latent = rng.normal(0, 1, (200, 6, 6, 2))
    x = tf.constant(latent @ rng.normal(0, 1, (2, 8)) + 0.5, tf.float32)  # channels that hang together, as real ones
    layer(x)
    kernel = kernel_of(layer).numpy().copy()
    flat = by_output(layer, kernel)
    flat[1] = 0.0  # as pruning leaves them
    flat[0] = np.abs(flat).max(axis=0) * 16  # the others have some 4 bits left, so that there is something to gain
    target = linear(layer, x, kernel) + layer.bias
    chosen, gain = best_rounding(layer, x, kernel, tf.nn.relu, tf.nn.relu(target), iterations=300, seed=1)
    ratio = by_output(layer, kernel) / scales_of(layer, kernel)
    assert gain < 0.97
    assert (np.abs(chosen - ratio) < 1.0 + 1e-4).all(), "up or down, not further"
    assert (np.abs(chosen).max(axis=0) == 127).all(), "the largest weight keeps the scale"
    assert (chosen[ratio == 0] == 0).all()
    again, _ = best_rounding(layer, x, kernel, tf.nn.relu, tf.nn.relu(target), iterations=300, seed=1)
    assert (chosen == again).all()
