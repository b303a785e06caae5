"""Policy–value network (AlphaGo Zero: Silver et al. 2017, "Mastering Go without human knowledge", Methods)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from edgedl.core.contract import Task
from edgedl.models.base import Family, Head, KerasModel
from edgedl.models.blocks import conv_bn, require_image


class PolicyValue(Family):
    """A residual tower with two heads: board (b, h, w, planes) → policy (b, units − 1), value (b, 1)."""

    family: Literal["policy-value"] = "policy-value"
    filters: PositiveInt = Field(default=32, description="Channels of the tower; 256 in the paper.")
    blocks: PositiveInt = Field(default=2, description="Residual blocks; 19 or 39 in the paper.")

    tasks: ClassVar[tuple[Task, ...]] = ("policy-value",)

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes: (b, h, w, filters) through all blocks → 2 planes → softmax (b, moves); 1 plane → tanh (b, 1)."""
        import tf_keras
        from tf_keras import layers

        require_image(input_shape, smallest=2, family="policy-value")
        inputs = tf_keras.Input(input_shape, name=input_name)
        x = conv_bn(inputs, self.filters, 3, name="stem")
        for i in range(1, self.blocks + 1):
            y = conv_bn(x, self.filters, 3, name=f"block{i}_conv1")
            y = conv_bn(y, self.filters, 3, activation="linear", name=f"block{i}_conv2")
            x = layers.ReLU(name=f"block{i}_relu")(layers.Add(name=f"block{i}_add")([x, y]))
        policy = layers.Flatten(name="policy_flatten")(conv_bn(x, 2, 1, name="policy_conv"))
        policy = layers.Dense(head.units - 1, activation="softmax", dtype="float32", name="policy")(policy)
        value = layers.Flatten(name="value_flatten")(conv_bn(x, 1, 1, name="value_conv"))
        value = layers.Dense(2 * self.filters, activation="relu", name="value_hidden")(value)
        value = layers.Dense(1, activation="tanh", dtype="float32", name="value")(value)
        return tf_keras.Model(inputs, [policy, value], name="policy_value")
