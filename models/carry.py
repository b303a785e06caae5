"""Carrying a Keras 3 model over to tf_keras (Keras 2), which the pipeline works on: weight for weight, and proved.

The Keras 3 graph is walked node by node. A layer is rebuilt as its twin of the same name in tf_keras; what has no twin
(newer layers, `keras.ops`) is hosted (models/layers/hosted.py); a model that cannot be walked is frozen
(models/layers/frozen.py). Then both models answer random and extreme inputs, and the largest difference is recorded.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
import keras.tree
import tensorflow as tf
import tf_keras

from edgedl.core.artifacts import CarriedOver
from edgedl.core.errors import ModelError
from edgedl.models.base import KerasModel
from edgedl.models.compare import Comparison, compare
from edgedl.models.layers.frozen import freeze
from edgedl.models.layers.hosted import Hosted
from edgedl.models.twins import FOLLOWED, NoTwinError, StandIn, Walk, copy_weights, make_twin, safe_name

WORST_RANDOM, WORST_EXTREME = 1e-4, 1e-2
"""Relative to the largest output. Rounding in another order of operations stays far below, a wrong twin far above;
extreme inputs amplify rounding (normalisations, softmax of large logits), and may differ more."""

Keras3Model = Any


def carry_over(
    model: Keras3Model, version: str, twins: Mapping[str, type[Any]] | None = None
) -> tuple[KerasModel, CarriedOver]:
    """The same model in tf_keras, and how it was carried and compared.

    model: a built Keras 3 model. version: of the Keras that wrote it, in words. twins: tf_keras layers by the name of
    the user's Keras 3 class.
    Raises ModelError when neither road gives a model that answers alike.
    """
    walk = Walk(_carry_model, twins or {}, {}, {})
    try:
        carried = _carry_model(model, walk)
        found = compare(model, carried)
        if _differ(found):
            raise NoTwinError(f"layer by layer its answers differ by {_told(found)}")
        return carried, _record(version, "layers", found, _words(walk.hosted))
    except Exception as error:  # whatever stands in the way of the walk, the other road is open
        reason = _first_line(error)
    carried = freeze_model(model)
    found = compare(model, carried)
    if _differ(found):
        raise ModelError(
            f"{model.name} cannot be carried over to tf_keras",
            required=f"answers that agree within {WORST_RANDOM:g} of the largest ({WORST_EXTREME:g} on extreme inputs)",
            received=f"differences of {_told(found)} with the graph frozen as a whole",
        )
    return carried, _record(version, "frozen", found, (reason,))


def _record(version: str, road: Literal["layers", "frozen"], found: Comparison, notes: tuple[str, ...]) -> CarriedOver:
    if found.doubled:
        told = f"{found.doubled} of {found.examples} examples compared in float64: float32 rounds their answers apart"
        notes = (*notes, told)
    return CarriedOver(version, road, found.random, found.extreme, notes)


def _differ(found: Comparison) -> bool:
    return found.random > WORST_RANDOM or found.extreme > WORST_EXTREME


def _told(found: Comparison) -> str:
    return f"{found.random:.2g} on random and {found.extreme:.2g} on extreme inputs"


def _words(hosted: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}: {reason}" for name, reason in hosted.items())


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


MERGES = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")

# ── the walk ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _carry_model(model: Keras3Model, walk: Walk) -> KerasModel:
    if isinstance(model, keras.Sequential):
        graph = model._functional
        if graph is None:
            raise NoTwinError(f"{model.name} was never built")
    elif isinstance(model, keras.Model) and hasattr(model, "_nodes_by_depth"):
        graph = model
        if "call" in type(model).__dict__ and not type(model).__module__.startswith("keras."):
            raise NoTwinError(f"{type(model).__name__} has a call of its own")
    else:
        raise NoTwinError(f"{type(model).__name__} is no graph of layers")
    known: dict[int, Any] = {}
    inputs: list[Any] = []
    for tensor in keras.tree.flatten(graph.inputs):
        layer = tensor._keras_history.operation
        given = tf_keras.Input(tensor.shape[1:], dtype=str(tensor.dtype), name=safe_name(layer.name))
        known[id(tensor)] = given
        inputs.append(given)
    nodes = graph._nodes_by_depth
    for depth in sorted(nodes, reverse=True):
        for node in nodes[depth]:
            tensors = keras.tree.flatten(node.outputs)
            if all(id(one) in known for one in tensors):
                continue
            found = _carry_node(node, known, walk)
            known.update(zip(map(id, tensors), tf.nest.flatten(found), strict=True))
    outputs = [known[id(one)] for one in keras.tree.flatten(graph.outputs)]
    produced = [_own_tensor(out, inputs) for out in outputs]
    return tf_keras.Model(inputs, produced if len(produced) > 1 else produced[0], name=safe_name(model.name))


def _own_tensor(output: Any, inputs: list[Any]) -> Any:
    """tf_keras has no model whose output is its input as it is."""
    return tf_keras.layers.Activation("linear")(output) if any(output is one for one in inputs) else output


def _carry_node(node: Any, known: Mapping[int, Any], walk: Walk) -> Any:
    operation = node.operation
    args, kwargs = node.arguments.args, node.arguments.kwargs

    def there(value: Any) -> Any:
        return known[id(value)] if isinstance(value, keras.KerasTensor) else value

    if not isinstance(operation, keras.Layer):
        plain = _arithmetic(operation, [there(one) for one in args]) if not kwargs else None
        if plain is not None:
            return plain
        return _host(node, known, walk, f"keras.ops {type(operation).__name__}")
    if isinstance(operation, keras.Model):
        if id(operation) not in walk.made:
            walk.made[id(operation)] = _carry_model(operation, walk)
        given = [there(one) for one in keras.tree.flatten((args, kwargs)) if isinstance(one, keras.KerasTensor)]
        return walk.made[id(operation)](given if len(given) > 1 else given[0])
    shared = walk.made.get(id(operation))
    if isinstance(shared, Hosted):
        return _host(node, known, walk, walk.hosted[operation.name])
    try:
        twin = shared or make_twin(operation, walk)
        call = inspect.signature(twin.call).parameters
        given = {name: there_deep(value, there) for name, value in kwargs.items() if value is not None}
        given = {name: value for name, value in given.items() if not (name == "training" and value is False)}
        if unknown := set(given) - set(call) - {"mask", "training"}:
            raise NoTwinError(f"tf_keras's {type(twin).__name__} takes no {', '.join(sorted(unknown))}")
        found = twin(*there_deep(args, there), **given)
        if shared is None:
            copy_weights(operation, twin)
            walk.made[id(operation)] = twin
        after = getattr(operation, "activation", None)
        if isinstance(after, keras.Layer) and isinstance(operation, FOLLOWED):
            if id(after) not in walk.made:
                walk.made[id(after)] = make_twin(after, walk)
            found = walk.made[id(after)](found)
        return found
    except Exception as error:
        if shared is not None or isinstance(operation, StandIn) or not type(operation).__module__.startswith("keras."):
            raise
        return _host(node, known, walk, _first_line(error))


def _arithmetic(operation: Any, operands: list[Any]) -> Any:
    """`x + y` and its like as the layers that tf_keras has for them, which every technique knows; None for others."""
    kind = type(operation).__name__
    numbers = [float(one) for one in operands if isinstance(one, (int, float)) and not isinstance(one, bool)]
    tensors = [one for one in operands if hasattr(one, "_keras_history")]
    if len(operands) != 2 or any(not tensor.dtype.is_floating for tensor in tensors):
        return None
    if any(getattr(tensor, "_keras_mask", None) is not None for tensor in tensors):
        return None  # an operation ends a mask, a layer would hand it on
    if len(tensors) == 2 and len(tensors[0].shape) == len(tensors[1].shape) and kind in MERGES:
        return getattr(tf_keras.layers, kind)(name=safe_name(operation.name))(tensors)
    if len(tensors) == 1 and len(numbers) == 1 and kind in ("Add", "Multiply"):
        scale, offset = (1.0, numbers[0]) if kind == "Add" else (numbers[0], 0.0)
        return tf_keras.layers.Rescaling(scale, offset, name=safe_name(operation.name))(tensors[0])
    return None


def there_deep(value: Any, there: Callable[[Any], Any]) -> Any:
    """A structure of arguments with its tensors replaced; lists and tuples as they were."""
    if isinstance(value, dict):
        return {key: there_deep(one, there) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(there_deep(one, there) for one in value)
    return there(value)


def _host(node: Any, known: Mapping[int, Any], walk: Walk, reason: str) -> Any:
    operation = node.operation
    tensors: list[Any] = []

    def mark(value: Any) -> Any:
        if isinstance(value, keras.KerasTensor):
            tensors.append(known[id(value)])
            return {"__input__": len(tensors) - 1}
        if isinstance(value, dict):
            return {key: mark(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(mark(one) for one in value)
        return value

    arguments = {"args": mark(list(node.arguments.args)), "kwargs": mark(dict(node.arguments.kwargs))}
    parts = {
        "object": keras.saving.serialize_keras_object(operation),
        "arguments": keras.saving.serialize_keras_object(arguments),
    }
    layer = walk.made.get(id(operation))
    if layer is None:
        layer = Hosted(json.dumps(parts), name=safe_name(operation.name))
    found = layer(tensors if len(tensors) > 1 else tensors[0])
    if id(operation) not in walk.made:
        if isinstance(operation, keras.Layer):
            for mine, theirs in zip(layer.own_in_order(), operation.variables, strict=True):
                mine.assign(theirs.numpy())
            walk.made[id(operation)] = layer
        walk.hosted[operation.name] = reason
    return found


# ── frozen ────────────────────────────────────────────────────────────────────────────────────────────────────────


def freeze_model(model: Keras3Model) -> KerasModel:
    """A tf_keras model of one `Frozen` layer that computes the whole of a built Keras 3 model."""
    symbolic = keras.tree.flatten(getattr(model, "inputs", None))
    if not symbolic or symbolic[0] is None:
        raise ModelError(
            f"{model.name} does not say the shapes of its inputs",
            required="a functional or sequential model, or one that was called before it was saved",
            received=type(model).__name__,
        )
    names = list(getattr(model, "input_names", None) or [one.name for one in symbolic])

    def call(*tensors: Any) -> list[Any]:
        given = list(tensors)
        packed = tf.nest.pack_sequence_as(model._inputs_struct, given) if _nested(model) else given
        packed = packed if len(given) > 1 or _nested(model) else given[0]
        trainable, others = model.trainable_variables, model.non_trainable_variables  # nothing is assigned in the graph
        return tf.nest.flatten(model.stateless_call(trainable, others, packed, training=False)[0])

    specs = [tf.TensorSpec(one.shape, str(one.dtype)) for one in symbolic]
    return around(freeze(call, specs), specs, [safe_name(name) for name in names], None, safe_name(model.name))


def _nested(model: Keras3Model) -> bool:
    return isinstance(getattr(model, "_inputs_struct", None), dict)


def around(layer: Any, specs: list[Any], names: list[str], output_names: list[str] | None, name: str) -> KerasModel:
    """A tf_keras model of one layer. output_names: None numbers them."""
    inputs = [
        tf_keras.Input(spec.shape[1:], dtype=spec.dtype, name=one) for one, spec in zip(names, specs, strict=True)
    ]
    found = tf.nest.flatten(layer(inputs if len(inputs) > 1 else inputs[0]))
    labels = output_names or ([f"output_{i}" for i in range(len(found))] if len(found) > 1 else ["output"])
    outputs = [tf_keras.layers.Activation("linear", name=label) for label in labels]
    return tf_keras.Model(inputs, [make(one) for make, one in zip(outputs, found, strict=True)], name=name)
