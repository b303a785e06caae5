"""Data: one source a file. `SourceConfig` is the one list where a new source adds its line."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Discriminator

from edgedl.pipeline.data.augment import Augment
from edgedl.pipeline.data.base import (
    ArrayExamples,
    Examples,
    Normalize,
    RawData,
    Source,
    SplitConfig,
    Splits,
    normalize,
)
from edgedl.pipeline.data.csv_table import CsvTable
from edgedl.pipeline.data.digits import Digits
from edgedl.pipeline.data.idx import Idx
from edgedl.pipeline.data.image_folder import ImageFolder
from edgedl.pipeline.data.keras_sets import KerasSet
from edgedl.pipeline.data.npz import Npz
from edgedl.pipeline.data.option import parse_data_option
from edgedl.pipeline.data.split import load_splits
from edgedl.pipeline.data.stream import (
    balanced_class_weights,
    evaluation_batches,
    examples_array,
    training_batches,
)

SourceConfig: TypeAlias = Annotated[
    Digits | Npz | Idx | ImageFolder | CsvTable | KerasSet,
    Discriminator("source"),
]

__all__ = [
    "ArrayExamples",
    "Augment",
    "CsvTable",
    "Digits",
    "Examples",
    "Idx",
    "ImageFolder",
    "KerasSet",
    "Normalize",
    "Npz",
    "RawData",
    "Source",
    "SourceConfig",
    "SplitConfig",
    "Splits",
    "balanced_class_weights",
    "evaluation_batches",
    "examples_array",
    "load_splits",
    "normalize",
    "parse_data_option",
    "training_batches",
]
