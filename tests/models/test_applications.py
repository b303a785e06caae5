"""Every network of keras.applications becomes a tf_keras model with the same answers.

Each is carried over in a process of its own: together they hold more memory than a small machine has.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgedl.core.artifacts import CarriedOver
from edgedl.core.isolation import Limits, run_isolated

pytestmark = pytest.mark.xdist_group("applications")  # one at a time: the largest take 4 to 12 GB

FAST = ("MobileNet", "MobileNetV3Small")
SLOW = (
    *("ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge"),
    *("DenseNet121", "DenseNet169", "DenseNet201"),
    *(f"EfficientNetB{size}" for size in range(8)),
    *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")),
    *("InceptionResNetV2", "InceptionV3", "MobileNetV2", "MobileNetV3Large"),
    *("NASNetLarge", "NASNetMobile"),
    *("ResNet50", "ResNet101", "ResNet152", "ResNet50V2", "ResNet101V2", "ResNet152V2"),
    *("VGG16", "VGG19", "Xception"),
)


LARGE = ("EfficientNetB4", "EfficientNetB5", "EfficientNetB6", "EfficientNetB7", "EfficientNetV2S", "EfficientNetV2M",
         "EfficientNetV2L", "NASNetLarge")  # fmt: skip
"""Made for images of 331 to 600 pixels, on which float64 takes minutes and gigabytes; here they see 224."""


def settled(model: Any) -> None:
    """Gives an untrained model what training would: normalisations that fit its activations, blocks that count.

    As built, a BatchNormalization passes its input on as it is, so that activations of a deep network die out or
    blow up and its answers are uniform or chaotic; a LayerScale of 1e-6 hides its block. A comparison of such answers
    shows little.
    """
    import keras
    import tensorflow as tf

    layers = model._flatten_layers()
    normalisations = [one for one in layers if isinstance(one, keras.layers.BatchNormalization)]
    for layer in model.layers:
        if type(layer).__name__ == "LayerScale":
            layer.gamma.assign(np.full(layer.gamma.shape, 0.3, np.float32))
    for layer in normalisations:
        layer.momentum = 0.0
    if normalisations:
        tf.function(lambda given: model(given, training=True))(tf.constant(images(model, 2)))


def images(model: Any, seed: int) -> NDArray[np.float32]:
    """Two random images: pixels where the network scales them itself, standard-normal where it does not."""
    rng = np.random.default_rng(seed)
    shape = (2, *(side or 64 for side in model.input_shape[1:]))
    scales = any(type(layer).__name__ == "Rescaling" for layer in model.layers)
    return (rng.uniform(0, 255, shape) if scales else rng.standard_normal(shape)).astype(np.float32)


def carried(name: str) -> tuple[CarriedOver, float, float]:
    """How a network was carried over, and how much its answers vary over classes and over examples, of the largest."""
    import keras
    import tensorflow as tf

    from edgedl.models.carry import carry_over

    keras.utils.set_random_seed(0)
    smaller = {"input_shape": (224, 224, 3)} if name in LARGE else {}
    model = getattr(keras.applications, name)(weights=None, classifier_activation=None, **smaller)
    settled(model)
    twin, how = carry_over(model, "Keras 3")
    answers = np.concatenate([np.asarray(twin(tf.constant(one[None]))) for one in images(model, 3)])
    largest = float(np.abs(answers).max())
    return how, float(answers.std(axis=1).mean()) / largest, float(np.abs(answers[0] - answers[1]).max()) / largest


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_comes_over(name: str) -> None:
    how, over_classes, over_examples = run_isolated(
        carried, name, stage="carrying over", subject=name, limits=Limits(time_s=1800)
    )
    assert how.road == "layers", how.notes
    assert how.random_error is not None
    assert how.random_error <= 1e-5
    assert min(over_classes, over_examples) >= 1e-3, "answers that hardly differ among themselves show little"


@pytest.mark.tensorflow
def test_none_is_left_out() -> None:
    import keras

    names = {name for name in dir(keras.applications) if inspect.isfunction(getattr(keras.applications, name))}
    assert names == {*FAST, *SLOW}
