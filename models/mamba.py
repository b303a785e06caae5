"""Mamba (Gu and Dao 2023, "Linear-time sequence modeling with selective state spaces", arXiv:2312.00752, figure 3)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from edgedl.core.contract import Task
from edgedl.models.base import Family, Head, KerasModel, KerasTensor
from edgedl.models.transformer import embed_sequence


class Mamba(Family):
    """Blocks of selective state spaces: (b, t, c) values or (b, t) tokens → (b, units), or (b, t, units) logits."""

    family: Literal["mamba"] = "mamba"
    width: PositiveInt = Field(default=32, description="Channels D of the model.")
    layers: PositiveInt = Field(default=2, description="Number of blocks.")
    expand: PositiveInt = Field(default=2, description="Inner channels, in D's.")
    states: PositiveInt = Field(default=8, description="Size N of each channel's state.")
    kernel: PositiveInt = Field(default=4, description="Length of the causal convolution.")
    vocabulary: PositiveInt | None = Field(default=None, description="Number of tokens, for data of tokens.")

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "regression", "next-token")

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes: (b, t[, c]) → (b, t, width) through all blocks → average → (b, units), or (b, t, units)."""
        import tf_keras
        from tf_keras import layers

        from edgedl.models.layers.attention import LayerNorm

        tokens = head.task == "next-token"
        inputs, x = embed_sequence(self, input_name, input_shape, head.units if tokens else self.vocabulary)
        for i in range(1, self.layers + 1):
            y = self._mix(LayerNorm(name=f"block{i}_norm")(x), f"block{i}")
            x = layers.Add(name=f"block{i}_add")([x, y])
        x = LayerNorm(name="norm")(x)
        if tokens:
            return tf_keras.Model(inputs, head.attach_tokens(x), name="mamba")
        x = layers.GlobalAveragePooling1D(name="average")(x)
        return tf_keras.Model(inputs, head.attach(x), name="mamba")

    def _mix(self, x: KerasTensor, name: str) -> KerasTensor:
        """Project, convolve causally, scan selectively, gate, project back; Δ has the rank of its own, ⌈D/16⌉."""
        from tf_keras import layers

        from edgedl.models.layers.activations import KERAS_3
        from edgedl.models.layers.selective_scan import SelectiveScan

        past: Any = (self.kernel - 1, 0)
        inner, silu = self.expand * self.width, KERAS_3["silu"]
        u = layers.Dense(inner, use_bias=False, name=f"{name}_in")(x)
        gate = layers.Dense(inner, use_bias=False, activation=silu, name=f"{name}_gate")(x)
        u = layers.ZeroPadding1D(past, name=f"{name}_past")(u)
        u = layers.DepthwiseConv1D(self.kernel, activation=silu, name=f"{name}_conv")(u)
        rank = -(-self.width // 16)
        delta = layers.Dense(rank, use_bias=False, name=f"{name}_delta_low")(u)
        delta = layers.Dense(inner, bias_initializer=_delta_bias(), name=f"{name}_delta")(delta)
        b = layers.Dense(self.states, use_bias=False, name=f"{name}_B")(u)
        c = layers.Dense(self.states, use_bias=False, name=f"{name}_C")(u)
        y = SelectiveScan(name=f"{name}_scan")([u, delta, b, c])
        y = layers.Multiply(name=f"{name}_gated")([y, gate])
        return layers.Dense(self.width, use_bias=False, name=f"{name}_out")(y)


def _delta_bias() -> Any:
    """softplus⁻¹ of steps between 0.01 and 0.1, about the middle of the paper's range (§3.6)."""
    import tf_keras

    return tf_keras.initializers.RandomUniform(-4.6, -2.25)
