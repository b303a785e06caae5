"""The tf_keras layer that computes what a Keras 3 layer does: its twin, by name, with its settings and weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import keras
import numpy as np
import tf_keras

from edgedl.models.layers.activations import KERAS_3


class NoTwinError(Exception):
    """tf_keras has nothing that computes the same; the reason is the message."""


@dataclass
class Walk:
    """What is shared by all models of one file: how a nested one is carried over, the user's twins, twins of shared
    layers, what was hosted and why."""

    carry_model: Callable[[Any, Walk], Any]
    twins: Mapping[str, type[Any]]
    made: dict[int, Any]
    hosted: dict[str, str]


# ── the user's own layers ─────────────────────────────────────────────────────────────────────────────────────────


class StandIn(keras.layers.Layer):
    """A Keras 3 layer that lets its twin in tf_keras do the work, so that a file that names it can be read."""

    twin_class: type[Any]

    def __init__(self, **config: Any) -> None:
        super().__init__(name=config.get("name"))
        self.twin = self.twin_class.from_config(_flat_dtype(dict(config)))

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """What the twin gives."""
        return self.twin(*args, **kwargs)

    def load_own_variables(self, store: Any) -> None:
        """The file's weights, in order, are the twin's."""
        self.twin.set_weights([store[str(i)][...] for i in range(len(store.keys()))])


def stand_in(twin: type[Any]) -> type[StandIn]:
    """The Keras 3 class of the same name for a tf_keras layer class. The layer must own its weights itself."""
    return type(twin.__name__, (StandIn,), {"twin_class": twin})


# ── one layer ─────────────────────────────────────────────────────────────────────────────────────────────────────

DROPPED = frozenset(
    ("trainable", "initializer", "lora_rank", "lora_alpha", "quantization_config", "seed", "autocast", "use_cudnn",
     "flash_attention", "synchronized", "input_length", "batch_input_shape", "sparse", "ragged", "optional")
)  # fmt: skip
"""Settings that change no answer of a finished model."""


FOLLOWED: tuple[type[Any], ...] = tuple(
    getattr(keras.layers, name)
    for name in (
        "Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose",
        "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D",
    )
)  # fmt: skip
"""Layers whose activation comes last, so that a layer as activation can become one of its own."""


def make_twin(layer: Any, walk: Walk) -> Any:
    """The tf_keras layer of the same name and settings, without weights yet. Raises NoTwinError."""
    kind = type(layer)
    config = dict(layer.get_config())
    if isinstance(layer, StandIn):
        return layer.twin
    if kind.__name__ in walk.twins:
        return walk.twins[kind.__name__].from_config(_flat_dtype(config))
    if not kind.__module__.startswith("keras."):
        raise NoTwinError(f"the layer class {kind.__name__} has no twin in tf_keras; --custom-objects can name one")
    if isinstance(layer, keras.layers.Normalization):
        return _normalization(layer)
    if isinstance(layer, keras.layers.CategoryEncoding):
        raise NoTwinError("tf_keras's CategoryEncoding takes a batch of single numbers for one example")
    twin: Any = getattr(tf_keras.layers, kind.__name__, None)
    if twin is None:
        raise NoTwinError(f"tf_keras has no {kind.__name__}")
    return _wrapper(layer, twin, walk) or _plain(layer, twin, walk)


def _wrapper(layer: Any, twin: Any, walk: Walk) -> Any:
    """The twin of a layer around other layers; None for any other."""
    if isinstance(layer, keras.layers.Bidirectional):
        return twin(
            make_twin(layer.forward_layer, walk),
            merge_mode=layer.merge_mode,
            backward_layer=make_twin(layer.backward_layer, walk),
            name=safe_name(layer.name),
        )
    if isinstance(layer, keras.layers.TimeDistributed):
        inner = layer.layer
        made = walk.carry_model(inner, walk) if isinstance(inner, keras.Model) else make_twin(inner, walk)
        return twin(made, name=safe_name(layer.name))
    if isinstance(layer, keras.layers.StackedRNNCells):
        return twin([make_twin(cell, walk) for cell in layer.cells], name=safe_name(layer.name))
    return None


def _plain(layer: Any, twin: Any, walk: Walk) -> Any:
    kind, config = type(layer), dict(layer.get_config())
    takes = _parameters(twin)
    settings = {key: value for key, value in _renamed(layer, _flat_dtype(config)).items() if not _dropped(key)}
    if kind is keras.layers.RNN:
        settings["cell"] = make_twin(layer.cell, walk)
    defaults = _defaults(kind)
    for key in set(settings) - takes:
        if settings[key] not in (None, False) and settings[key] != defaults.get(key):
            raise NoTwinError(f"tf_keras's {kind.__name__} has no {key}={settings[key]!r}")
        del settings[key]
    settings = {key: _setting(layer, key, value) for key, value in settings.items()}
    settings["name"] = safe_name(layer.name)
    made = twin(**settings)
    made.trainable = layer.trainable
    return made


def _dropped(key: str) -> bool:
    return key in DROPPED or key.endswith("_initializer")


def _flat_dtype(config: dict[str, Any]) -> dict[str, Any]:
    """Without dtype policies: computed in float32, as devices do. A layer whose weights are quantised has no twin."""
    policy = config.get("dtype")
    if isinstance(policy, Mapping):
        name = str(policy.get("config", {}).get("name", "float32"))
        if "int" in name.split("_", maxsplit=1)[0] or "from" in name:
            raise NoTwinError(f"its weights are quantised ({name})")
        config["dtype"] = name if name == "float64" else "float32"
    elif policy is not None:
        config["dtype"] = str(policy)
    return config


def _renamed(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
    if isinstance(layer, keras.layers.LeakyReLU):
        config["alpha"] = config.pop("negative_slope")
    return config


def _setting(layer: Any, key: str, value: Any) -> Any:
    if key.endswith("activation"):
        return _activation(layer, key, value)
    if key.endswith(("_regularizer", "_constraint")) and value is not None:
        return _penalty(value, tf_keras.regularizers if key.endswith("_regularizer") else tf_keras.constraints)
    if isinstance(value, Mapping) and "class_name" in value:
        raise NoTwinError(f"its {key} is an object, {value['class_name']}")
    return value


def _penalty(value: Any, room: Any) -> Any:
    kind = getattr(room, str(value.get("class_name")), None) if isinstance(value, Mapping) else None
    return kind(**value["config"]) if kind else None  # of no meaning to a finished model's answers


def _activation(layer: Any, key: str, value: Any) -> Any:
    function: Any = getattr(layer, key, None)
    name = value if isinstance(value, str) else getattr(function, "__name__", None)
    if value is None or name == "linear":
        return "linear"
    if isinstance(function, keras.Layer):
        if key == "activation" and isinstance(layer, FOLLOWED):
            return "linear"  # the layer follows as one of its own
        raise NoTwinError(f"its {key} is a layer")
    if not str(getattr(function, "__module__", "keras.")).startswith("keras."):
        raise NoTwinError(f"its {key} is the function {name}, which is not of Keras")
    if name in KERAS_3:
        return KERAS_3[name]
    if not hasattr(tf_keras.activations, str(name)):
        raise NoTwinError(f"tf_keras has no activation {name}")
    return name


def _normalization(layer: Any) -> Any:
    """With mean and variance as settings: what tf_keras would adapt is fixed."""
    config = layer.get_config()
    mean, variance = (np.asarray(keras.ops.convert_to_numpy(one)) for one in (layer.mean, layer.variance))
    axis = config["axis"]
    if axis is not None and np.size(axis) > 1:
        raise NoTwinError("it normalises over several axes")
    flat = (float(mean.ravel()[0]), float(variance.ravel()[0])) if axis is None else (mean.ravel(), variance.ravel())
    return tf_keras.layers.Normalization(
        axis=cast(Any, axis if axis is None else int(np.ravel(axis)[0])),
        mean=flat[0],
        variance=flat[1],
        invert=config.get("invert", False),
        name=safe_name(layer.name),
    )


def _parameters(kind: type[Any]) -> set[str]:
    """Names that a layer class takes when it is made; the base class's with them where it passes options on."""
    found = {"name", "dtype"}
    for one in kind.__mro__:
        if "__init__" in vars(one):
            parameters = inspect.signature(one.__init__).parameters
            found |= {name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                break
        if one is tf_keras.layers.Layer:
            break
    return found - {"self"}


def _defaults(kind: type[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in reversed(kind.__mro__):
        if "__init__" in vars(one):
            parameters = inspect.signature(one.__init__).parameters.values()
            found |= {p.name: p.default for p in parameters if p.default is not p.empty}
    return found


def copy_weights(layer: Any, twin: Any) -> None:
    """The Keras 3 layer's weights into its twin. Raises NoTwinError where their shapes differ."""
    if isinstance(layer, StandIn):
        return
    theirs = [] if isinstance(layer, keras.layers.Normalization) else list(layer.weights)
    mine = list(twin.weights)
    if len(theirs) != len(mine):
        raise NoTwinError(f"it has {len(theirs)} weights, tf_keras's {type(twin).__name__} {len(mine)}")
    for one, other in zip(mine, theirs, strict=True):
        if tuple(one.shape) != tuple(other.shape):
            raise NoTwinError(
                f"its weight {other.path} of shape {tuple(other.shape)} is {tuple(one.shape)} in tf_keras"
            )
    twin.set_weights([one.numpy() for one in theirs])


def safe_name(name: str) -> str:
    """A layer's name that tf_keras, its files and TensorFlow's scopes take."""
    return "".join(letter if letter.isalnum() or letter in "_.-" else "_" for letter in name).lstrip("_.-") or "layer"
