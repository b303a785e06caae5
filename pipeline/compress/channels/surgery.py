"""Building the smaller model: the same graph of the same layers by the same names, with fewer channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedl.core.errors import ModelError
from edgedl.models import KerasModel
from edgedl.pipeline.compress.channels.graph import Couplings
from edgedl.pipeline.compress.channels.trace import nodes_of

Kept: TypeAlias = Sequence[NDArray[np.bool_]]
"""For each group, which of its channels stay, (n,)."""


def flatten(model: KerasModel) -> KerasModel:
    """The model with the layers of models inside it in their place: copies, with the same weights and outputs' names.

    Raises ModelError when it has no graph of layers.
    """
    if not _is_graph(model):
        raise ModelError(
            "this model has no graph of layers",
            required="a Sequential or functional model",
            received=type(model).__name__,
            advice="The number formats (int8, dynamic-range, float16 …) work on it",
        )
    return _rebuild(model, lambda layer, name: _copy(layer, {"name": name}), lambda layer: layer.get_weights())


def narrow(model: KerasModel, couplings: Couplings, kept: Kept) -> KerasModel:
    """The flat model that `couplings` is of, with only the kept channels of each group."""
    lookup = np.concatenate([np.ones(0, bool), *(_padded(one, couplings.stride) for one in kept)])

    def stays(members: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.where(members < 0, True, lookup[np.maximum(members, 0)])

    def narrowed(layer: Any, name: str) -> Any:
        changes: dict[str, object] = {"name": name}
        for (owner, key), members in couplings.settings.items():
            if owner != layer.name or (members < 0).all():
                continue
            n = int(stays(members).sum())
            changes[key] = (*layer.target_shape[:-1], n) if key == "target_shape" else n
        return _copy(layer, changes)

    def weights(layer: Any) -> list[NDArray[Any]]:
        found = layer.get_weights()
        for (owner, number, axis), members in couplings.members.items():
            if owner == layer.name:
                found[number] = np.compress(stays(members), found[number], axis=axis)
        return found

    return _rebuild(model, narrowed, weights)


def _padded(kept: NDArray[np.bool_], stride: int) -> NDArray[np.bool_]:
    return np.pad(kept, (0, stride - len(kept)))


def _copy(layer: Any, changes: Mapping[str, object]) -> Any:
    config = {**layer.get_config(), **changes}
    config.pop("batch_input_shape", None)
    return type(layer).from_config(config)


def _is_graph(layer: Any) -> bool:
    """Whether this is a plain model of a graph; a subclass may compute something else."""
    import tf_keras

    plain = type(layer) is tf_keras.Sequential or type(layer).__name__ == "Functional"
    return plain and bool(getattr(layer, "_is_graph_network", False))


def _rebuild(
    model: KerasModel, make: Callable[[Any, str], Any], weights: Callable[[Any], list[NDArray[Any]]]
) -> KerasModel:
    """The graph of `model` again with other layers. make: of a layer and its new name; weights: of the new one."""
    import tensorflow as tf
    import tf_keras

    copies, names = dict[int, tuple[Any, Any]](), set[str](model.output_names)

    def copied(layer: Any, prefix: str) -> Any:
        if id(layer) not in copies:
            name = layer.name
            while name in names and (prefix or name not in model.output_names):
                name = f"{prefix or 'inner'}_{name}"
            names.add(name)
            copies[id(layer)] = layer, make(layer, name)
        return copies[id(layer)][1]

    def replay(part: KerasModel, inputs: Sequence[Any], training: object, prefix: str) -> list[Any]:
        found = {str(id(old)): new for old, new in zip(part.inputs, inputs, strict=True)}
        for node in nodes_of(part):
            if node.is_input:
                continue
            given = {key: [found[key]] * node.flat_input_ids.count(key) for key in node.flat_input_ids}
            args, kwargs = node.map_arguments(given)
            layer = node.layer
            if training is not None and kwargs.get("training") is None and layer._expects_training_arg:
                kwargs["training"] = training
            if _is_graph(layer):
                inner = tf.nest.flatten(layer._flatten_to_reference_inputs(args[0]))
                made = replay(layer, inner, kwargs.get("training"), layer.name)
            else:
                made = tf.nest.flatten(copied(layer, prefix)(*args, **kwargs))
            found.update(zip(node.flat_output_ids, made, strict=True))
        return [found[str(id(one))] for one in part.outputs]

    inputs = [
        tf_keras.Input(batch_size=one.shape[0], shape=one.shape[1:], dtype=one.dtype, name=name)
        for one, name in zip(model.inputs, model.input_names, strict=True)
    ]
    outputs = [
        one if one._keras_history.layer.name == name else tf_keras.layers.Activation("linear", name=name)(one)
        for one, name in zip(replay(model, inputs, None, ""), model.output_names, strict=True)
    ]
    built = tf_keras.Model(inputs, outputs, name=model.name)
    for old, new in copies.values():
        if old.weights:
            new.set_weights(weights(old))
    return built
