"""A whole graph as one layer: the road for models that cannot be carried over layer by layer."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras


@tf_keras.utils.register_keras_serializable("edgedl")
class Frozen(tf_keras.layers.Layer):
    """A graph with its weights as constants: exported and quantised like any model, never trained.

    graph: base64 of a serialized GraphDef; inputs, outputs: names of its tensors ("x:0") in the order of this layer's
    inputs (one tensor, or a list) and outputs.
    """

    def __init__(self, graph: str, inputs: list[str], outputs: list[str], **options: Any) -> None:
        super().__init__(**options)
        self.graph, self.input_tensors, self.output_tensors = graph, list(inputs), list(outputs)
        self.trainable = False
        self._graph_def = tf.compat.v1.GraphDef.FromString(base64.b64decode(graph))

    @property
    def constants(self) -> int:
        """Number of values in the graph's floating-point constants, single numbers aside: its parameters."""
        return sum(
            tf.TensorShape(node.attr["value"].tensor.tensor_shape).num_elements() or 0
            for node in self._graph_def.node
            if node.op == "Const"
            and tf.as_dtype(node.attr["dtype"].type).is_floating
            and node.attr["value"].tensor.tensor_shape.dim
        )

    @property
    def ends_in_softmax(self) -> bool:
        """Whether the first output comes from a Softmax op."""
        ops = {node.name: node for node in self._graph_def.node}
        node = ops[self.output_tensors[0].split(":")[0]]
        while node.op == "Identity":
            node = ops[node.input[0].split(":")[0]]
        return node.op == "Softmax"

    def call(self, inputs: Any) -> Any:
        """The graph's outputs: one tensor, or a list of them."""
        given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        if tf.executing_eagerly():
            return self._function(given)
        return self._import(given)

    def _import(self, given: list[Any]) -> Any:
        found = tf.graph_util.import_graph_def(
            self._graph_def,
            input_map=dict(zip(self.input_tensors, given, strict=True)),
            return_elements=self.output_tensors,
            name="",
        )
        return found if len(found) > 1 else found[0]

    @tf.function
    def _function(self, given: list[Any]) -> Any:
        return self._import(given)

    def get_config(self) -> dict[str, Any]:
        """As Keras saves layers."""
        own = {"graph": self.graph, "inputs": self.input_tensors, "outputs": self.output_tensors}
        return super().get_config() | own


def freeze(function: Callable[..., list[Any]], specs: list[tf.TensorSpec]) -> Frozen:
    """A layer that computes `function` with its variables as constants.

    function: from one tensor for each of `specs` to a list of tensors, in the order of the layer's inputs and outputs.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    traced = tf.function(function, input_signature=specs).get_concrete_function()
    frozen = convert_variables_to_constants_v2(traced, lower_control_flow=False)  # loops in frames cannot be nested
    graph = base64.b64encode(frozen.graph.as_graph_def().SerializeToString()).decode()
    inputs, outputs = ([tensor.name for tensor in side] for side in (frozen.inputs, frozen.outputs))
    return Frozen(graph, inputs, outputs, name="frozen")
