"""Multilayer perceptron (Rumelhart, Hinton & Williams 1986, Nature 323, 533–536), with ReLU and dropout."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from edgedl.models.base import Family, Head, KerasModel


class Mlp(Family):
    """Dense layers on the flattened input: (batch, *shape) → (batch, units)."""

    family: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1, description="Units of each hidden layer.")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Share of hidden units dropped during training.")

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes: (b, *input_shape) → flatten → (b, hidden[i]) … → (b, head.units)."""
        import tf_keras
        from tf_keras import layers

        inputs = tf_keras.Input(input_shape, name=input_name)
        x = layers.Flatten(name="flatten")(inputs) if len(input_shape) > 1 else inputs
        for i, units in enumerate(self.hidden, start=1):
            x = layers.Dense(units, activation="relu", name=f"dense_{i}")(x)
            if self.dropout:
                x = layers.Dropout(self.dropout, name=f"dropout_{i}")(x)
        return tf_keras.Model(inputs, head.attach(x), name="mlp")
