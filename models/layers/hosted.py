"""A layer or operation of Keras 3 inside a tf_keras model: for what tf_keras has no twin of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from edgedl.models.guard import check_config


@tf_keras.utils.register_keras_serializable("edgedl")
class Hosted(tf_keras.layers.Layer):
    """Calls a Keras 3 layer or `keras.ops` operation with this layer's own weights.

    hosted: JSON of {"object": the serialized layer or operation, "arguments": its call's arguments, in which
    {"__input__": i} stands for the i-th input}. Inputs: one tensor or a list of them; outputs as the hosted gives.
    """

    def __init__(self, hosted: str, **options: Any) -> None:
        super().__init__(**options)
        self.hosted = hosted
        import keras

        parts = json.loads(hosted)
        customs = check_config(Path(self.name), parts, trust=False)
        if customs:
            raise ValueError(f"{self.name} hosts {customs[0].name}, which is not of Keras")
        self._inner: Any = keras.saving.deserialize_keras_object(parts["object"])
        self._arguments = keras.saving.deserialize_keras_object(parts["arguments"])
        self._hosts_layer = isinstance(self._inner, keras.Layer)
        self._own: dict[int, Any] = {}

    def build(self, input_shape: Any) -> None:
        """Create the weights that the hosted layer has for inputs of these shapes."""
        if self._hosts_layer:
            import keras

            shapes = input_shape if isinstance(input_shape, list) else [input_shape]
            tensors = [keras.KerasTensor(tuple(shape), dtype=str(self.compute_dtype)) for shape in shapes]
            if not self._inner.built:
                args, kwargs = self._fill(tensors)
                self._inner(*args, **kwargs)
            for variable in self._inner.variables:
                self._own[id(variable)] = self.add_weight(
                    name=variable.path.split("/", 1)[-1].replace("/", "_"),
                    shape=variable.shape,
                    dtype=str(variable.dtype),
                    trainable=bool(variable.trainable),
                    initializer="zeros",
                )
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """What the hosted layer or operation gives for these inputs, without its training behaviour."""
        return self._compute(inputs)

    @tf.autograph.experimental.do_not_convert
    def _compute(self, inputs: Any) -> Any:
        args, kwargs = self._fill(list(inputs) if isinstance(inputs, (list, tuple)) else [inputs])
        if not self._hosts_layer:
            return self._inner.call(*args, **kwargs)
        inner = self._inner
        trainable = [self._own[id(one)] for one in inner.trainable_variables]
        others = [self._own[id(one)] for one in inner.non_trainable_variables]
        found, _ = inner.stateless_call(trainable, others, *args, **kwargs)
        return found

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """As in Keras 3: operations end a mask, layers that support masking hand it on."""
        return mask if self._hosts_layer and self._inner.supports_masking else None

    def own_in_order(self) -> list[Any]:
        """This layer's weights in the order of the hosted layer's variables."""
        return [self._own[id(one)] for one in self._inner.variables]

    def _fill(self, tensors: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        def fill(value: Any) -> Any:
            if isinstance(value, dict):
                if set(value) == {"__input__"}:
                    return tensors[value["__input__"]]
                return {key: fill(one) for key, one in value.items()}
            if isinstance(value, (list, tuple)):
                return (tuple if isinstance(value, tuple) else list)(fill(one) for one in value)
            return value

        return tuple(fill(self._arguments["args"])), fill(self._arguments["kwargs"])

    def get_config(self) -> dict[str, Any]:
        """As Keras saves layers."""
        return super().get_config() | {"hosted": self.hosted}
