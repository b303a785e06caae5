"""What a student learns from its teacher, as recipes say it; the losses are in distill_losses."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, PositiveFloat

from edgedl.core.config import InputPath, Section
from edgedl.models import LoadOptions


class KerasFile(LoadOptions):
    """A model of somebody's own."""

    file: InputPath = Field(description="Any Keras file, or the folder of an edgedl run, whose trained model it is.")


Pairs: TypeAlias = Literal["auto"] | dict[str, str]
"""Layers that are compared, teacher's name to student's; auto: the last layers of each spatial size both have."""


class Distillation(Section):
    """A loss on the teacher's answers beside the one on the data: (1 - alpha) · hard + alpha · soft + the hints'."""

    teacher: Literal["origin"] | KerasFile = Field(
        default="origin",
        description="origin: the uncompressed model that the chain began with. Or {file: …}: a Keras file, or a run's "
        "folder.",
    )
    alpha: float = Field(default=0.9, ge=0.0, le=1.0, description="Weight of the teacher's answers; 1 - alpha: data's.")
    temperature: PositiveFloat = Field(
        default=4.0,
        description="Classes only: T of Hinton, Vinyals & Dean 2015 (arXiv:1503.02531), with its factor T².",
    )
    features: Pairs | None = Field(
        default=None, description="Layers whose outputs are to be the teacher's (FitNets: Romero et al. 2015)."
    )
    feature_weight: NonNegativeFloat = Field(default=1.0, description="Weight of the features' loss.")
    attention: Pairs | None = Field(
        default=None, description="Layers whose attention maps are to be the teacher's (Zagoruyko & Komodakis 2017)."
    )
    attention_weight: NonNegativeFloat = Field(default=1000.0, description="beta of the attention's loss (eq. 2).")
