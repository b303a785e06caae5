"""Transfer learning: a backbone that has learnt on other data, and a new head (Yosinski et al. 2014, arXiv:1411.1792).

First the head alone is trained on frozen features; then, if asked, the backbone's last layers too, at a lower rate.
BatchNorm of the backbone stays in inference mode all along: its averages are the pretraining data's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from edgedl.core.config import InputPath, Section, sentence
from edgedl.core.contract import InputContract
from edgedl.core.errors import DataError, ModelError
from edgedl.models.base import Head, KerasModel, KerasTensor, LoadOptions

BACKBONE = "backbone"

Scaling: TypeAlias = Literal["tf", "torch", "caffe", "none"]
"""What `keras.applications` calls the modes of preprocess_input; "none": the model scales pixels itself."""

APPLICATIONS: dict[str, tuple[str, Scaling]] = {
    "MobileNet": ("mobilenet", "tf"),
    "MobileNetV2": ("mobilenet_v2", "tf"),
    "MobileNetV3Small": ("mobilenet_v3", "none"),
    "MobileNetV3Large": ("mobilenet_v3", "none"),
    "EfficientNetB0": ("efficientnet", "none"),
    "EfficientNetB1": ("efficientnet", "none"),
    "EfficientNetB2": ("efficientnet", "none"),
    "EfficientNetB3": ("efficientnet", "none"),
    "EfficientNetV2B0": ("efficientnet_v2", "none"),
    "EfficientNetV2B1": ("efficientnet_v2", "none"),
    "DenseNet121": ("densenet", "torch"),
    "DenseNet169": ("densenet", "torch"),
    "InceptionV3": ("inception_v3", "tf"),
    "NASNetMobile": ("nasnet", "tf"),
    "ResNet50": ("resnet", "caffe"),
    "ResNet101": ("resnet", "caffe"),
    "ResNet152": ("resnet", "caffe"),
    "ResNet50V2": ("resnet_v2", "tf"),
    "VGG16": ("vgg16", "caffe"),
    "VGG19": ("vgg19", "caffe"),
    "Xception": ("xception", "tf"),
}
"""Builders of tf_keras.applications: their module, and what they want pixels to be."""


class Unfreezing(Section):
    """The second phase of training."""

    last_layers: PositiveInt = Field(description="How many of the backbone's last layers with weights learn again.")
    epochs: PositiveInt = Field(default=10, description="After those of `train.epochs`, which train the head alone.")
    rate_factor: PositiveFloat = Field(default=0.1, le=1.0, description="Of the first phase's learning rate.")


class Transfer(LoadOptions):
    """A pretrained backbone with a new head. Give `file` or `application`."""

    file: InputPath | None = Field(
        default=None, description="A Keras file, or a run's folder: everything before its head is the backbone."
    )
    application: str | None = Field(default=None, description="A builder of keras.applications: MobileNetV2, …")
    weights: Literal["imagenet", "none"] = Field(
        default="imagenet", description="Of an application; imagenet is downloaded once (Keras's own cache)."
    )
    alpha: PositiveFloat | None = Field(default=None, description="Width of a MobileNet application.")
    cut: str | None = Field(
        default=None, description="Of a file: the layer whose output is the features; by default the head's input."
    )
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0, description="Before the new head, during training.")
    freeze: bool = Field(default=True, description="Whether the backbone is kept while the head is trained.")
    unfreeze: Unfreezing | None = Field(default=None, description="Then train its last layers too; off unless given.")

    @model_validator(mode="after")
    def _one_origin(self) -> Transfer:
        message = ""
        if (self.file is None) == (self.application is None):
            message = "a backbone is a `file` or an `application`, one of them"
        elif self.application is not None and self.application not in APPLICATIONS:
            message = f"no application '{self.application}' (known: {', '.join(APPLICATIONS)})"
        elif self.unfreeze is not None and not self.freeze:
            message = "`unfreeze` needs `freeze: true`: what was never frozen cannot be unfrozen"
        if message:
            raise sentence(message)
        return self


class TransferSection(Section):
    """The recipe's model section with a backbone."""

    backbone: Transfer


def build_transfer(section: Transfer, backbone: KerasModel, given: InputContract, head: Head) -> KerasModel:
    """Backbone and head as one model whose input is the data's, shape (b, *given.shape).

    backbone: what `load_backbone` brought: its layers are used, not copied. Raises ModelError.
    """
    import tf_keras
    from tf_keras import layers

    inputs = tf_keras.Input(given.shape, name=given.name)
    x = _as_the_backbone_wants(section, inputs, given)
    wants = tuple(backbone.inputs[0].shape[1:])
    if any(want not in (None, have) for want, have in zip(wants, x.shape[1:], strict=True)):
        raise ModelError(
            "the backbone does not take this data",
            required=f"an input of shape {tuple(x.shape[1:])}, as the data has",
            received=f"{backbone.inputs[0].name} of shape {wants}",
            advice="Resize the data to the backbone's size (data.size)",
        )
    features = backbone(x)
    if len(features.shape) == 4:
        features = layers.GlobalAveragePooling2D(name="average")(features)
    elif len(features.shape) == 3:
        features = layers.GlobalAveragePooling1D(name="average")(features)
    if section.dropout:
        features = layers.Dropout(section.dropout, name="dropout")(features)
    model = tf_keras.Model(inputs, head.attach(features), name="transfer")
    set_trainable(model, section, 0)
    return model


def set_trainable(model: KerasModel, section: Transfer, phase: int) -> None:
    """Which layers learn in phase 0 (the head) and phase 1 (the backbone's last layers too).

    A frozen BatchNorm runs in inference mode; those of unfrozen layers stay frozen.
    """
    import tf_keras

    backbone = model.get_layer(BACKBONE)
    if not section.freeze:
        backbone.trainable = True
        return
    backbone.trainable = phase > 0
    if phase == 0 or section.unfreeze is None:
        return
    leaves = [layer for layer in backbone._flatten_layers(include_self=False) if layer.weights and not _holds(layer)]
    normalizations = tf_keras.layers.BatchNormalization
    learning = [layer for layer in leaves if not isinstance(layer, normalizations)][-section.unfreeze.last_layers :]
    for layer in leaves:
        layer.trainable = layer in learning


def _holds(layer: Any) -> bool:
    """Whether it is a model of other layers."""
    return bool(getattr(layer, "layers", None))


def load_backbone(section: Transfer, shape: Sequence[int], file: Path | None) -> KerasModel:
    """The model from input to features, called "backbone". file: the brought-in Keras file, for `section.file`.

    Raises ModelError; DataError when pretrained weights cannot be downloaded.
    """
    import tf_keras

    if section.application is not None:
        found = _application(section, tuple(shape))
        return tf_keras.Model(found.inputs, found.outputs, name=BACKBONE)
    from edgedl.models.load import load_keras

    assert file is not None
    model = load_keras(file)
    return tf_keras.Model(model.inputs, _features(model, section.cut), name=BACKBONE)


def _features(model: KerasModel, cut: str | None) -> KerasTensor:
    """The tensor that the head took: the input of the last Dense or 1×1 convolution that leads to the first output."""
    import tf_keras

    layers: Any = tf_keras.layers
    if cut is not None:
        names = [layer.name for layer in model.layers]
        if cut not in names:
            raise ModelError("model.backbone.cut names no layer", required=", ".join(names[-12:]), received=cut)
        return model.get_layer(cut).output
    tensor: KerasTensor = model.outputs[0]
    while True:
        layer = tensor._keras_history.layer
        if isinstance(layer, layers.InputLayer):
            raise ModelError("no head was found in the backbone's file", advice="Name the features: model.backbone.cut")
        given: Any = layer.input
        if isinstance(given, list):
            return tensor
        tensor = given
        if isinstance(layer, (layers.Dense, layers.Conv2D)):
            while isinstance(tensor._keras_history.layer, layers.Dropout):
                tensor = tensor._keras_history.layer.input
            return tensor


def _application(section: Transfer, shape: tuple[int, ...]) -> KerasModel:
    import importlib

    assert section.application is not None
    module_name, _ = APPLICATIONS[section.application]
    module: Any = importlib.import_module(f"tf_keras.applications.{module_name}")
    options: dict[str, Any] = {"alpha": section.alpha} if section.alpha is not None else {}
    weights = None if section.weights == "none" else section.weights
    if len(shape) != 3:
        raise ModelError(
            f"{section.application} takes images", required="(height, width, 3)", received=str(tuple(shape))
        )
    try:
        return getattr(module, section.application)(
            include_top=False, weights=weights, input_shape=(*shape[:2], 3), pooling="avg", **options
        )
    except (OSError, EOFError) as error:  # urllib's errors are OSErrors; Keras wraps them in plain Exceptions
        raise _no_download(section, error) from None
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"{section.application} cannot be built so", received=str(error).splitlines()[0][:300]
        ) from None
    except Exception as error:
        if "URL fetch failure" in str(error) or "hash does not match" in str(error):
            raise _no_download(section, error) from None
        raise


def _no_download(section: Transfer, error: Exception) -> DataError:
    return DataError(
        f"the pretrained weights of {section.application} cannot be downloaded",
        required="a network, or the weights in Keras's cache (~/.keras/models)",
        received=str(error).splitlines()[0][:300],
        advice="Try again with a network, copy the cache from another machine, or set model.backbone.weights: none",
    )


def _as_the_backbone_wants(section: Transfer, inputs: KerasTensor, given: InputContract) -> KerasTensor:
    """From the data's normalised pixels to the application's: a fixed 1×1 convolution does colours, scale and order."""
    import numpy as np
    import tf_keras

    if section.application is None:
        return inputs
    colors = given.shape[-1]
    mean, std = (np.broadcast_to(np.asarray(one, np.float64), (colors,)) for one in (given.mean, given.std))
    low, high = given.raw_range or (0.0, 255.0)
    to_255 = 255.0 / (high - low)
    mix = np.ones((1, 3)) if colors == 1 else np.eye(3)  # a grey value is its red, green and blue
    scale, offset = std * to_255 * np.ones(colors), (mean - low) * to_255 @ mix
    kernel = scale[:, None] * mix  # to pixels from 0 to 255
    mode = APPLICATIONS[section.application][1]
    if mode == "tf":
        kernel, offset = kernel / 127.5, offset / 127.5 - 1
    elif mode == "torch":
        middle, width = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        kernel, offset = kernel / 255 / width, (offset / 255 - middle) / width
    elif mode == "caffe":
        kernel, offset = kernel[:, ::-1], (offset - np.array([123.68, 116.779, 103.939]))[::-1]
    layer = tf_keras.layers.Conv2D(3, 1, trainable=False, dtype="float32", name="as_pretrained")
    x = layer(inputs)
    layer.set_weights([kernel[None, None], offset])
    return x
