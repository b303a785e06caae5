"""The graph of a tf_keras model as the repairs see it: who feeds whom, and a walk with two sets of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.errors import ModelError
from edgedl.models.base import KerasModel


@dataclass(frozen=True)
class Graph:
    """One model, or one nested in it. following: by layer name, the layers that take its output, None for the model's
    own output; calls: how often a layer is called."""

    model: KerasModel
    following: Mapping[str, tuple[Any | None, ...]]
    calls: Mapping[str, int]

    def only_following(self, layer: Any) -> Any | None:
        """The one layer that takes this layer's output and nothing else; None where there is none, or several."""
        after = self.following.get(layer.name, ())
        if len(after) != 1 or after[0] is None or self.calls[layer.name] != 1 or self.calls[after[0].name] != 1:
            return None
        return after[0]


def graphs_of(model: KerasModel) -> list[Graph]:
    """The model's graph and those of the models nested in it. Raises ModelError where it is no graph of layers."""
    if not getattr(model, "_is_graph_network", False):
        raise ModelError(
            f"{model.name} is not a graph of layers",
            required="a Sequential or functional model",
            received=type(model).__name__,
            advice="Use mixed, which works on the file",
        )
    following: dict[str, list[Any | None]] = {layer.name: [] for layer in model.layers}
    calls: dict[str, int] = dict.fromkeys(following, 0)
    for node in nodes_of(model):
        calls[node.layer.name] += 1
        for before, *_ in node.iterate_inbound():
            following[before.name].append(node.layer)
    for output in model.outputs:
        following[output._keras_history.layer.name].append(None)
    own = Graph(model, {name: tuple(after) for name, after in following.items()}, calls)
    nested = [layer for layer in model.layers if is_nested(layer)]
    return [own, *(one for layer in nested for one in graphs_of(layer))]


def nodes_of(model: Any) -> Iterator[Any]:
    """The calls of the model's layers, in an order in which every input is there."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from model._nodes_by_depth[depth]


def is_nested(layer: Any) -> bool:
    """Whether the layer is a model with a graph of its own."""
    import tf_keras

    return isinstance(layer, tf_keras.Model) and getattr(layer, "_is_graph_network", False)


# --- layers that compute with a kernel ------------------------------------------------------------------------------


def is_depthwise(layer: Any) -> bool:
    """Whether every output channel has one input channel."""
    from tf_keras import layers

    return type(layer) is layers.DepthwiseConv2D


def is_dense(layer: Any) -> bool:
    """Whether it is fully connected."""
    from tf_keras import layers

    return type(layer) is layers.Dense


def computes(layer: Any) -> bool:
    """Whether the repairs know the layer: Dense, DepthwiseConv2D, Conv1D, Conv2D, channels last, groups of one."""
    from tf_keras import layers

    if is_dense(layer):
        return True
    if type(layer) not in {layers.Conv1D, layers.Conv2D, layers.DepthwiseConv2D}:
        return False
    return layer.data_format == "channels_last" and layer.padding != "causal" and layer.groups == 1


def kernel_of(layer: Any) -> Any:
    """The variable: Conv (…, in, out), DepthwiseConv2D (h, w, in, multiplier), Dense (in, out)."""
    return layer.depthwise_kernel if is_depthwise(layer) else layer.kernel


def by_output(layer: Any, kernel: NDArray[Any]) -> NDArray[Any]:
    """The kernel as (values of a channel, output channels)."""
    shape = (-1, kernel.shape[-2] * kernel.shape[-1]) if is_depthwise(layer) else (-1, kernel.shape[-1])
    return kernel.reshape(shape)


def by_input(layer: Any, kernel: NDArray[Any]) -> NDArray[Any]:
    """The kernel as (input channels, values of a channel)."""
    axis = kernel.ndim - 2
    return np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)


def linear(layer: Any, x: Any, kernel: Any) -> Any:
    """The layer without bias and activation, with this kernel: x (n, …, in) → (n, …, out)."""
    import tensorflow as tf

    if is_dense(layer):
        return tf.tensordot(x, kernel, [[x.shape.rank - 1], [0]])
    if is_depthwise(layer):
        strides = (1, *layer.strides, 1)
        return tf.nn.depthwise_conv2d(x, kernel, strides, layer.padding.upper(), dilations=layer.dilation_rate)
    return layer.convolution_op(x, kernel)


def activation_after(graph: Graph, layer: Any) -> Callable[[Any], Any]:
    """The activation that the converter fuses with the layer: its own, or the layer of its own that follows."""
    import tf_keras
    from tf_keras import layers

    identity: Any = tf_keras.activations.linear
    if layer.activation is not identity:
        return layer.activation
    after: Any = graph.only_following(layer)
    while after is not None and isinstance(after, layers.Activation) and after.activation is identity:
        after = graph.only_following(after)
    found: Any = identity
    if isinstance(after, layers.Activation):
        found = after.activation
    elif isinstance(after, layers.ReLU):
        found = after
    return found


# --- a walk -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Both:
    """A value of the exact model and of the changed one, the same shape (n, …)."""

    exact: Any
    changed: Any


Visit = Callable[[Graph, Any, Any, Both], Both]
"""(graph of the changed model, exact layer, changed layer, input) → output."""


def walk(exact: KerasModel, changed: KerasModel, inputs: Mapping[str, NDArray[Any]], visit: Visit) -> None:
    """Run two models of the same layers side by side. visit: what to do with a layer that `computes` and is called
    once; all others are just called. inputs: by name, (n, …)."""
    import tensorflow as tf

    graphs = {id(graph.model): graph for graph in graphs_of(changed)}
    given = [Both(value, value) for value in (tf.constant(inputs[name]) for name in changed.input_names)]
    _walk(exact, changed, given, visit, graphs)


def _walk(
    exact: KerasModel, changed: KerasModel, given: list[Both], visit: Visit, graphs: Mapping[int, Graph]
) -> list[Both]:
    import tensorflow as tf

    graph = graphs[id(changed)]
    left = changed._tensor_usage_count
    values: dict[str, list[Both]] = {}

    def put(key: str, value: Both) -> None:
        values[key] = [value] * left.get(key, 0)

    for tensor, value in zip(changed.inputs, given, strict=True):
        put(str(id(tensor)), value)
    for node in nodes_of(changed):
        if node.is_input:
            continue
        args, kwargs = node.map_arguments(values)
        layer, other = node.layer, exact.get_layer(node.layer.name)
        if is_nested(layer):
            outputs = _walk(other, layer, tf.nest.flatten(args), visit, graphs)
        elif computes(layer) and graph.calls[layer.name] == 1:
            outputs = [visit(graph, other, layer, args[0])]
        else:
            outputs = _call_both(other, layer, args, kwargs)
        for key, value in zip(node.flat_output_ids, outputs, strict=True):
            put(key, value)
    return [values[str(id(tensor))][0] for tensor in changed.outputs]


def _call_both(other: Any, layer: Any, args: Any, kwargs: Any) -> list[Both]:
    import tensorflow as tf

    def side(name: str) -> tuple[Any, Any]:
        return tf.nest.map_structure(lambda one: getattr(one, name) if isinstance(one, Both) else one, (args, kwargs))

    exact_args, exact_kwargs = side("exact")
    changed_args, changed_kwargs = side("changed")
    exact = tf.nest.flatten(other(*exact_args, **exact_kwargs))
    changed = tf.nest.flatten(layer(*changed_args, **changed_kwargs))
    return [Both(one, two) for one, two in zip(exact, changed, strict=True)]


def largest_activation(model: KerasModel) -> int:
    """Number of elements of the largest output of a layer, for one example."""
    sizes = [1]
    for graph in graphs_of(model):
        for node in nodes_of(graph.model):
            for output in _flat(node.outputs):
                sizes.append(int(np.prod([side or 1 for side in output.shape[1:]])))
    return max(sizes)


def _flat(value: Any) -> list[Any]:
    import tensorflow as tf

    return tf.nest.flatten(value)
