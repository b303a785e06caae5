"""Fake quantization by TensorFlow Model Optimization (tfmot): which layers it takes, its ranges, its weights.

Jacob et al. 2018, arXiv:1712.05877, §3: in training, weights and activations are rounded to what int8 can hold; the
gradient passes as if they were not. tfmot refuses a whole model for one layer it does not know; here that layer is left
out and listed. Its activation ranges start at ±6 and follow the data by a thousandth a step, too slowly for a short
fine-tuning: they are set from training examples first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from edgedl.core.artifacts import SkippedLayer

if TYPE_CHECKING:
    from edgedl.models import KerasModel

FUSED = ("Conv2D", "DepthwiseConv2D", "Dense")
"""Layers that a BatchNorm behind them is folded into."""

ACTIVATIONS = {"linear", "relu", "relu6", "softmax", "sigmoid", "tanh", "swish", "gelu"}
INSIDE = ACTIVATIONS - {"relu6"}
"""Activations that tfmot knows as a layer, and as a part of one."""


def inlined(model: KerasModel) -> KerasModel:
    """The same layers in one model, those of nested models in place of the models; the weights are shared with
    `model`. As it is where layers would share a name."""
    import tensorflow as tf
    import tf_keras

    from edgedl.models.facts import leaf_layers

    names = [layer.name for layer in leaf_layers(model)]
    nested = any(isinstance(layer, tf_keras.Model) for layer in model.layers)
    if not nested or len(set(names)) < len(names):
        return model

    def run(inner: Any, inputs: Any) -> Any:
        known = {str(id(old)): [new] for old, new in zip(inner.inputs, tf.nest.flatten(inputs), strict=True)}
        for depth in sorted(inner._nodes_by_depth, reverse=True):
            for node in inner._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                given = {name: list(values) * len(inner._nodes_by_depth) for name, values in known.items()}
                args, kwargs = node.map_arguments(given)
                inside = isinstance(node.layer, tf_keras.Model) and node.layer._is_graph_network
                made = run(node.layer, args[0]) if inside else node.layer(*args, **kwargs)
                known |= {name: [new] for name, new in zip(node.flat_output_ids, tf.nest.flatten(made), strict=True)}
        outputs = [known[str(id(one))][0] for one in inner.outputs]
        return outputs if len(outputs) > 1 else outputs[0]

    inputs = [
        tf_keras.Input(one.shape[1:], dtype=one.dtype, name=name)
        for one, name in zip(model.inputs, model.input_names, strict=True)
    ]
    return tf_keras.Model(inputs, run(model, inputs), name=model.name)


def with_fake_quant(model: KerasModel) -> tuple[KerasModel, tuple[SkippedLayer, ...]]:
    """A model of the same layer names and weights (copies) that is trained as int8 would compute it, and the layers
    that stayed in float; `model` itself where all would. Raises ValueError, RuntimeError where tfmot cannot do it."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    quantization: Any = tfmot.quantization.keras
    scheme = quantization.default_8bit.Default8BitQuantizeScheme()
    registry = scheme.get_quantize_registry()
    nodes = _nodes(model)
    reasons = {layer.name: _obstacle(layer, nodes, registry) for layer in model.layers}

    def annotated(layer: Any) -> Any:
        return layer if reasons[layer.name] else quantization.quantize_annotate_layer(layer)

    skipped = tuple(
        SkippedLayer(layer.name, type(layer).__name__, reason)
        for layer in model.layers
        if (reason := reasons[layer.name]) and not isinstance(layer, tf_keras.layers.InputLayer)
    )
    if all(reasons.values()):
        return model, skipped
    supported = registry.supports
    # tfmot rounds the output of an unmarked layer too, where a marked one follows, and fails where it cannot
    registry.supports = lambda layer: not reasons.get(layer.name) and supported(layer)
    scheme.get_quantize_registry = lambda: registry
    marked = tf_keras.models.clone_model(model, clone_function=annotated)
    with quantization.quantize_scope():
        return quantization.quantize_apply(marked, scheme=scheme, quantized_layer_name_prefix=""), skipped


def _nodes(model: KerasModel) -> dict[str, list[Any]]:
    """Layer → its calls within this model; a layer's own list holds those of every model it was ever part of."""
    found: dict[str, list[Any]] = {layer.name: [] for layer in model.layers}
    for nodes in model._nodes_by_depth.values():
        for node in nodes:
            found[node.layer.name].append(node)
    return found


def _obstacle(layer: Any, nodes: dict[str, list[Any]], registry: Any) -> str:
    """Why tfmot does not take a layer; "" if it does."""
    import tf_keras

    kind, activation = type(layer).__name__, _activation(layer)
    if isinstance(layer, tf_keras.layers.InputLayer):
        return "an input"
    if isinstance(layer, tf_keras.Model):
        return "a model within the model, whose layers share names with others"
    if len(nodes[layer.name]) > 1:
        return "it is used more than once"
    if isinstance(layer, tf_keras.layers.BatchNormalization):
        return _norm_obstacle(layer, nodes)
    if not registry.supports(layer):
        return f"tfmot has no fake quantization for {kind}"
    known = activation in (ACTIVATIONS if kind == "Activation" else INSIDE)
    return "" if known else f"tfmot has no fake quantization for the activation {activation}"


def _norm_obstacle(layer: Any, nodes: dict[str, list[Any]]) -> str:
    before = nodes[layer.name][0].inbound_layers
    fused = type(before).__name__ in FUSED and len(nodes[before.name]) == 1
    if not fused or sum(one.inbound_layers is before for calls in nodes.values() for one in calls) > 1:
        return "no convolution or dense layer that it could be folded into stands before it"
    return "" if _activation(before) == "linear" else "an activation stands between it and the layer before"


def _activation(layer: Any) -> str:
    function = getattr(layer, "activation", None)
    if function is None:
        return "linear"
    return getattr(function, "__name__", type(function).__name__)


# --- ranges ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def watching() -> Generator[set[Any]]:
    """Inside, a fake-quantized model called eagerly computes in float, and every activation's range becomes what
    it has seen; yields the references of the variables that hold the ranges. (tfmot has no calibration; its quantizers
    are called anew in every eager call.)"""
    from tensorflow_model_optimization.python.core.quantization.keras import quantizers

    kinds: tuple[Any, ...] = (quantizers.MovingAverageQuantizer, quantizers.AllValuesQuantizer)
    originals = [kind.__call__ for kind in kinds]
    seen: set[Any] = set()

    def watch(self: Any, inputs: Any, training: Any, weights: Any, **options: Any) -> Any:
        import tensorflow as tf

        low, high = weights["min_var"], weights["max_var"]
        lowest, highest = tf.minimum(tf.reduce_min(inputs), 0.0), tf.maximum(tf.reduce_max(inputs), 0.0)
        if low.ref() in seen:
            lowest, highest = tf.minimum(lowest, low), tf.maximum(highest, high)
        seen.update((low.ref(), high.ref()))
        low.assign(lowest)
        high.assign(tf.maximum(highest, lowest + SMALLEST))
        return inputs

    for kind in kinds:
        kind.__call__ = watch
    try:
        yield seen
    finally:
        for kind, original in zip(kinds, originals, strict=True):
            kind.__call__ = original


SMALLEST = 1e-6
"""Width of the range of an activation that is always zero."""


def refresh_weight_ranges(model: KerasModel) -> None:
    """Set the weights' ranges to those of the final weights; training leaves them one step behind."""
    for layer in model.layers:
        for weight, quantizer, variables in getattr(layer, "_weight_vars", ()):
            quantizer(weight, True, weights=variables)


# --- weights -----------------------------------------------------------------------------------------------------


def variables_of(model: KerasModel) -> dict[tuple[str, str], Any]:
    """(layer, weight) → variable of the layers that tfmot wrapped; e.g. ("conv", "kernel")."""
    found: dict[tuple[str, str], Any] = {}
    for layer in model.layers:
        if hasattr(layer, "quantize_config") and hasattr(layer, "layer"):
            for variable in layer.weights:
                found.setdefault((layer.layer.name, _last(variable.name)), variable)
    return found


def copy_back(trained: KerasModel, plain: Sequence[Any]) -> None:
    """Give the layers of the plain model the trained weights."""
    wrapped = variables_of(trained)
    names = {layer for layer, _ in wrapped}
    others = {layer.name: layer for layer in trained.layers}
    for layer in plain:
        if layer.name in names:
            for weight in layer.weights:
                weight.assign(wrapped[layer.name, _last(weight.name)])
        elif layer.weights:
            layer.set_weights(others[layer.name].get_weights())


def _last(name: str) -> str:
    return name.split(":", maxsplit=1)[0].rsplit("/", 1)[-1]
