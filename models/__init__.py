"""Architectures, one family a file, and loading of Keras files.

`FAMILIES` is the one list where a new family adds its line. A family is a pydantic section (its type is the selector)
with a `build` method; nothing here imports TensorFlow until a model is built.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Discriminator

from edgedl.models.base import Family, Head, KerasModel, LoadOptions, ModelFileSection
from edgedl.models.cnn import Cnn
from edgedl.models.ds_cnn import DsCnn
from edgedl.models.mlp import Mlp
from edgedl.models.transfer import TransferSection

FAMILIES: tuple[type[Family], ...] = (Mlp, Cnn, DsCnn)

FamilyConfig: TypeAlias = Annotated[Mlp | Cnn | DsCnn, Discriminator("family")]

__all__ = [
    "FAMILIES",
    "Cnn",
    "DsCnn",
    "Family",
    "FamilyConfig",
    "Head",
    "KerasModel",
    "LoadOptions",
    "Mlp",
    "ModelFileSection",
    "TransferSection",
]
