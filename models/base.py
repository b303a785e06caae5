"""What every family of architectures has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import Field

from edgedl.core.config import InputPath, Section
from edgedl.core.contract import Task

KerasModel: TypeAlias = Any
"""A tf_keras.Model. tf_keras ships no types, and what a type checker infers from its sources is wrong."""

KerasTensor: TypeAlias = Any
"""A symbolic tensor of a functional tf_keras model."""

BN_MOMENTUM = 0.9
"""Keras's 0.99 needs thousands of steps before its averages are the data's; small data sets end sooner."""


@dataclass(frozen=True)
class Head:
    """What the model has to answer: `units` probabilities (classification) or values (regression)."""

    task: Task
    units: int

    @property
    def output_name(self) -> str:
        """The output's name in every exported file."""
        return "probabilities" if self.task == "classification" else "values"

    def attach(self, features: KerasTensor) -> KerasTensor:
        """The last layer on features of shape (batch, n). Computes in float32 also under mixed precision."""
        from tf_keras import layers

        activation = "softmax" if self.task == "classification" else None
        return layers.Dense(self.units, activation=activation, dtype="float32", name=self.output_name)(features)


class Family(Section):
    """A family's hyper-parameters; its type is the selector (key `family` of the recipe's model section)."""

    family: str

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """A tf_keras model: one input of shape (batch, *input_shape), the head's output. Raises ModelError."""
        raise NotImplementedError


class ModelFileSection(Section):
    """A model of the user's own, read from a file."""

    file: InputPath = Field(description="A full model of Keras 2 (tf_keras): .keras, .h5, or a SavedModel folder.")
    fine_tune: bool = Field(default=True, description="Train it on the data; false takes its weights as they are.")
