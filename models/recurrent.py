"""Recurrent networks: Elman's (1990), LSTM (Hochreiter and Schmidhuber 1997), GRU (Cho et al. 2014, arXiv:1406.1078).

An LSTM becomes TFLite's fused op, one kernel for all steps. A GRU and a simple RNN are unrolled: as a loop they bring
the int8 converter down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from edgedl.core.contract import Task
from edgedl.models.base import Family, Head, KerasModel
from edgedl.models.transformer import embed_sequence


class Recurrent(Family):
    """Recurrent layers over time: (b, t, c) values or (b, t) tokens → (b, units), or (b, t, units) next tokens."""

    family: Literal["recurrent"] = "recurrent"
    cell: Literal["rnn", "lstm", "gru"] = Field(default="lstm", description="Kind of cell.")
    width: PositiveInt = Field(default=32, description="Units of each layer and direction.")
    layers: PositiveInt = Field(default=1, description="Number of recurrent layers.")
    bidirectional: bool = Field(default=False, description="Also backwards in time (Schuster and Paliwal 1997).")
    vocabulary: PositiveInt | None = Field(default=None, description="Number of tokens, for data of tokens.")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Dropout after each layer, during training.")

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "regression", "next-token")

    presets: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"cell": "rnn"},
        {"cell": "lstm"},
        {"cell": "gru"},
        {"cell": "lstm", "bidirectional": True},
    )

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes: (b, t, c) → (b, t, width) … → (b, width) → (b, units); twice the width where bidirectional."""
        import tf_keras
        from tf_keras import layers

        from edgedl.core.errors import ModelError

        tokens = head.task == "next-token"
        if tokens and self.bidirectional:
            raise ModelError(
                "a bidirectional network sees the next token that it has to tell", required="one direction"
            )
        if len(input_shape) == 2:
            x = inputs = tf_keras.Input(input_shape, name=input_name)
        else:
            inputs, x = embed_sequence(self, input_name, input_shape, head.units if tokens else self.vocabulary)
        kind = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[self.cell]
        for i in range(1, self.layers + 1):
            sequences = tokens or i < self.layers
            layer = kind(self.width, return_sequences=sequences, unroll=self.cell != "lstm", name=f"{self.cell}{i}")
            x = (layers.Bidirectional(layer, name=f"both_ways{i}") if self.bidirectional else layer)(x)
            if self.dropout:
                x = layers.Dropout(self.dropout, name=f"dropout{i}")(x)
        return tf_keras.Model(inputs, head.attach_tokens(x) if tokens else head.attach(x), name=self.cell)
