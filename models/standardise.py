"""Standardisation as a model's first layer, so that the app feeds raw values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgedl.models.base import KerasModel

LAYER = "standardise"


def with_standardisation(model: KerasModel, name: str, mean: Sequence[float], std: Sequence[float]) -> KerasModel:
    """The functional model with (x − mean) / std, per channel (last axis), right behind its input `name`.

    The layer is fixed (Keras's Rescaling: x · 1/std − mean/std, in float32). All weights and names stay as they are.
    """
    import tf_keras

    layers: Any = tf_keras.layers
    config: dict[str, Any] = model.get_config()
    position = next(i for i, layer in enumerate(config["layers"]) if layer["config"]["name"] == name)
    for layer in config["layers"]:
        layer["inbound_nodes"] = _redirected(layer["inbound_nodes"], name)
    rescaling = layers.Rescaling(
        [1.0 / one for one in std], [-m / s for m, s in zip(mean, std, strict=True)], dtype="float32", name=LAYER
    )
    first = {
        **layers.serialize(rescaling),
        "name": LAYER,
        "inbound_nodes": [[[name, 0, 0, {}]]],
    }
    config["layers"].insert(position + 1, first)
    made: KerasModel = tf_keras.Model.from_config(config)
    for layer in model.layers:
        made.get_layer(layer.name).set_weights(layer.get_weights())
    return made


def _redirected(nodes: Any, name: str) -> Any:
    """A layer's connections in Keras's configuration, with every use of the tensor (name, 0, 0) replaced."""
    if isinstance(nodes, (list, tuple)):
        if len(nodes) >= 3 and nodes[0] == name and nodes[1:3] == [0, 0]:
            return [LAYER, 0, 0, *(_redirected(one, name) for one in nodes[3:])]
        return [_redirected(one, name) for one in nodes]
    if isinstance(nodes, dict):
        return {key: _redirected(one, name) for key, one in nodes.items()}
    return nodes
