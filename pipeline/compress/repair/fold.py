"""BatchNorm folded into the layer before it, as the converter does later: W·γ/√(σ²+ε), β + (b − μ)·γ/√(σ²+ε).

Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR,
§3.2, eq. 14. Every layer that computes gets a bias: the repairs have to put something there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgedl.models.base import KerasModel
from edgedl.pipeline.compress.repair.graph import Graph, by_output, computes, graphs_of, is_nested


def folded(model: KerasModel) -> KerasModel:
    """Another model of the same function and the same names, in which BatchNorms are identities where they could be
    folded. Raises ModelError for a model that is not a graph of layers."""
    import tf_keras
    from tf_keras import layers

    graphs = graphs_of(model)
    pairs = {id(before): norm for graph in graphs for before, norm in _pairs(graph)}
    gone = {id(norm) for norm in pairs.values()}
    made: dict[int, Any] = {}

    def again(layer: Any) -> Any:
        if is_nested(layer):
            return tf_keras.models.clone_model(layer, clone_function=again)
        if id(layer) in gone:
            return layers.Activation("linear", name=layer.name)
        config = layer.get_config()
        if computes(layer):
            config["use_bias"] = True
        made[id(layer)] = type(layer).from_config(config)
        return made[id(layer)]

    copy: KerasModel = tf_keras.models.clone_model(model, clone_function=again)
    for layer in (one for graph in graphs for one in graph.model.layers if id(one) in made):
        _set_weights(layer, made[id(layer)], pairs.get(id(layer)))
    return copy


def _pairs(graph: Graph) -> list[tuple[Any, Any]]:
    """Layers whose output goes into one BatchNorm and nowhere else."""
    import tf_keras

    found: list[tuple[Any, Any]] = []
    for layer in graph.model.layers:
        after: Any = graph.only_following(layer) if computes(layer) else None
        if after is None or layer.activation is not tf_keras.activations.linear:
            continue
        if _is_norm(after):
            found.append((layer, after))
    return found


def _is_norm(layer: Any) -> bool:
    """Whether it is a BatchNorm over the last axis."""
    from tf_keras import layers

    kind: Any = layers.BatchNormalization
    return type(layer) is kind and list(layer.axis) == [len(layer.input_shape) - 1]


def _set_weights(layer: Any, copy: Any, norm: Any | None) -> None:
    weights = layer.get_weights()
    if not computes(layer):
        copy.set_weights(weights)
        return
    kernel = weights[0].astype(np.float64)
    channels = by_output(layer, kernel).shape[1]
    bias = weights[1].astype(np.float64) if layer.use_bias else np.zeros(channels)
    if norm is not None:
        factor = 1.0 / np.sqrt(norm.moving_variance.numpy().astype(np.float64) + norm.epsilon)
        factor = factor * norm.gamma.numpy() if norm.scale else factor
        shift = norm.beta.numpy().astype(np.float64) if norm.center else 0.0
        bias = (bias - norm.moving_mean.numpy()) * factor + shift
        kernel = (by_output(layer, kernel) * factor).reshape(kernel.shape)
    copy.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
