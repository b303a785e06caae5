"""A depthwise network whose channels differ by up to 1,000 times: the same answers in float32, ruined by int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

LAYERS = ("stem", "dw", "pw")


def network(relu: float | None = None) -> Any:
    """Conv, depthwise, 1×1 conv, each with BatchNorm and ReLU (`relu`: its bound), mean, dense; (8, 8, 1) → 10."""
    import tf_keras
    from tf_keras import layers

    def normed(x: Any, name: str) -> Any:
        x = layers.BatchNormalization(momentum=0.8, name=f"{name}_bn")(x)
        return layers.ReLU(relu, name=f"{name}_relu")(x)

    given = tf_keras.Input((8, 8, 1), name="image")
    x = normed(layers.Conv2D(12, 3, padding="same", use_bias=False, name="stem")(given), "stem")
    x = normed(layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False, name="dw")(x), "dw")
    x = normed(layers.Conv2D(24, 1, use_bias=False, name="pw")(x), "pw")
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return tf_keras.Model(given, layers.Dense(10, activation="softmax", name="probabilities")(x), name="scaled")


def with_bad_scales(model: Any, pairs: int = 3, seed: int = 0) -> Any:
    """Scale the channels of the first `pairs` layers by 10^-1.5 to 10^1.5 and undo it in the layer that follows."""
    rng = np.random.default_rng(seed)
    for name, after in list(zip(LAYERS, (*LAYERS[1:], "probabilities"), strict=True))[:pairs]:
        norm, following = model.get_layer(f"{name}_bn"), model.get_layer(after)
        gamma, beta, *rest = norm.get_weights()
        s = (10 ** rng.uniform(-1.5, 1.5, len(gamma))).astype(np.float32)
        norm.set_weights([gamma * s, beta * s, *rest])
        kernel, *bias = following.get_weights()
        axis = (1,) * (kernel.ndim - 2) + (-1, 1)
        following.set_weights([kernel / s.reshape(axis), *bias])
    return model


def trained_on_digits(folder: Path, epochs: int = 15) -> Any:
    """The network after a short training on the embedded digits, in 0 to 1."""
    import tf_keras
    from sklearn.datasets import load_digits

    tf_keras.utils.set_random_seed(1)
    images, targets = load_digits(return_X_y=True)
    model = network()
    model.compile(tf_keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
    model.fit(images.reshape(-1, 8, 8, 1) / 16.0, targets, epochs=epochs, batch_size=64, verbose=0)
    return model


def some_inputs(n: int = 64, seed: int = 5) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(seed).uniform(0, 1, (n, 8, 8, 1)).astype(np.float32)}


def with_living_norms(model: Any, seed: int = 3) -> Any:
    """Statistics and factors of BatchNorm as training leaves them, without training."""
    from tf_keras import layers

    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            n = layer.gamma.shape[0]
            draws = (rng.uniform(0.5, 1.5, n), rng.normal(0, 0.3, n), rng.normal(0, 0.2, n), rng.uniform(0.2, 1, n))
            layer.set_weights([one.astype(np.float32) for one in draws])
    return model
