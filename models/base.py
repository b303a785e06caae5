"""What every family of architectures has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from pydantic import Field

from edgedl.core.config import InputPath, Section
from edgedl.core.contract import NoiseSchedule, Task
from edgedl.core.errors import ModelError

KerasModel: TypeAlias = Any
"""A tf_keras.Model. tf_keras ships no types, and what a type checker infers from its sources is wrong."""

KerasTensor: TypeAlias = Any
"""A symbolic tensor of a functional tf_keras model."""

BN_MOMENTUM = 0.9
"""Keras's 0.99 needs thousands of steps before its averages are the data's; small data sets end sooner."""


@dataclass(frozen=True)
class Head:
    """What the model has to answer: `units` classes, values, or words of the vocabulary."""

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

    def attach_map(self, features: KerasTensor) -> KerasTensor:
        """The last layer on a map of shape (batch, height, width, n): probabilities of the classes for each pixel."""
        from tf_keras import layers

        return layers.Conv2D(self.units, 1, activation="softmax", dtype="float32", name="probabilities")(features)

    def attach_tokens(self, features: KerasTensor) -> KerasTensor:
        """The last layer on a sequence of shape (batch, t, n): logits over the vocabulary for each position."""
        from tf_keras import layers

        return layers.Dense(self.units, dtype="float32", name="logits")(features)


class Family(Section):
    """A family's hyper-parameters; its type is the selector (key `family` of the recipe's model section)."""

    family: str

    presets: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)
    """Settings that `edgedl models` lists: the sizes that the papers name."""
    tasks: ClassVar[tuple[Task, ...]] = ("classification", "regression")
    """What its models do with data made for that."""
    any_data: ClassVar[Task | None] = None
    """What its models do with any other data, whose targets they do not need."""

    def task_for(self, data_task: Task) -> Task:
        """What a model of this family learns on data that is made for `data_task`. Raises ModelError."""
        task = data_task if data_task in self.tasks else self.any_data
        if task is None:
            raise ModelError(
                f"model family {self.family} does not fit this data",
                required=f"data for {' or '.join(self.tasks)}",
                received=f"data for {data_task}",
                advice="`edgedl models` lists the families with their tasks",
            )
        return task

    def noise_schedule(self) -> NoiseSchedule | None:
        """The noise that a denoiser is trained on."""
        return None

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """A tf_keras model: one input of shape (batch, *input_shape), the head's output. Raises ModelError."""
        raise NotImplementedError


class LoadOptions(Section):
    """What the user knows about a Keras file that the file does not tell."""

    builder: str | None = Field(
        default=None, description="MODULE:FUNCTION that returns the model whose weights the file holds."
    )
    custom_objects: tuple[str, ...] = Field(
        default=(), description="MODULE:NAME of layer classes: of tf_keras (twins of Keras 3 ones), or of Keras 3."
    )
    trust: bool = Field(default=False, description="Also run code that is in the file (Lambda layers, its modules).")


class ModelFileSection(LoadOptions):
    """A model of the user's own, read from a file."""

    file: InputPath = Field(
        description="A Keras model: .keras or .h5 of Keras 2 or 3, a SavedModel folder, or weights with a builder."
    )
    fine_tune: bool = Field(default=True, description="Train it on the data; false takes its weights as they are.")
