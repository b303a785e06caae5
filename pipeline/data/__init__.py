"""Data: one source a file. `SourceConfig` is the one list where a new source adds its line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias, get_args

from pydantic import BeforeValidator, Discriminator

from edgedl.core.config import sentence
from edgedl.pipeline.data.audio_folder import AudioFolder
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
from edgedl.pipeline.data.checks import nearest
from edgedl.pipeline.data.copy_sequence import CopySequence
from edgedl.pipeline.data.csv_table import CsvTable
from edgedl.pipeline.data.digits import Digits
from edgedl.pipeline.data.gaussian_ring import GaussianRing
from edgedl.pipeline.data.idx import Idx
from edgedl.pipeline.data.image_folder import ImageFolder
from edgedl.pipeline.data.keras_sets import KerasSet
from edgedl.pipeline.data.npz import Npz
from edgedl.pipeline.data.option import parse_data_option
from edgedl.pipeline.data.series import Series
from edgedl.pipeline.data.shapes import Shapes
from edgedl.pipeline.data.sine_mixture import SineMixture
from edgedl.pipeline.data.split import load_splits
from edgedl.pipeline.data.stream import (
    balanced_class_weights,
    evaluation_batches,
    examples_array,
    training_batches,
)
from edgedl.pipeline.data.text import Text
from edgedl.pipeline.data.tfds import Tfds
from edgedl.pipeline.data.tic_tac_toe import TicTacToe

_Sources: TypeAlias = (
    Digits
    | Npz
    | Idx
    | ImageFolder
    | CsvTable
    | KerasSet
    | AudioFolder
    | Series
    | Text
    | Tfds
    | CopySequence
    | GaussianRing
    | Shapes
    | SineMixture
    | TicTacToe
)


def _known_source(section: object) -> object:
    """Answer an unknown `source` with the nearest known one."""
    if isinstance(section, Mapping) and isinstance(name := section.get("source"), str):
        known = [name for kind in get_args(_Sources) for name in get_args(kind.model_fields["source"].annotation)]
        if name not in known:
            hint = f"did you mean '{near}'?" if (near := nearest(name, known)) else f"known: {', '.join(known)}"
            raise sentence(f"no data source '{name}' ({hint})")
    return section


SourceConfig: TypeAlias = Annotated[_Sources, Discriminator("source"), BeforeValidator(_known_source)]

__all__ = [
    "ArrayExamples",
    "AudioFolder",
    "Augment",
    "CopySequence",
    "CsvTable",
    "Digits",
    "Examples",
    "GaussianRing",
    "Idx",
    "ImageFolder",
    "KerasSet",
    "Normalize",
    "Npz",
    "RawData",
    "Shapes",
    "SineMixture",
    "Series",
    "Source",
    "SourceConfig",
    "SplitConfig",
    "Splits",
    "Text",
    "Tfds",
    "TicTacToe",
    "balanced_class_weights",
    "evaluation_batches",
    "examples_array",
    "load_splits",
    "normalize",
    "parse_data_option",
    "training_batches",
]
