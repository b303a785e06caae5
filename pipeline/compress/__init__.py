"""Compression: one technique a file. `TechniqueConfig` is the one list where a new technique adds its line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, TypeAdapter

from edgedl.core.config import apply_settings
from edgedl.core.errors import ConfigError
from edgedl.pipeline.compress.base import Alteration, Calibration, FineTune, Scheme, Technique
from edgedl.pipeline.compress.channels import PruneChannels
from edgedl.pipeline.compress.cluster import Cluster
from edgedl.pipeline.compress.distill import Distill
from edgedl.pipeline.compress.dynamic_range import DynamicRange
from edgedl.pipeline.compress.fine_tune import FineTuned
from edgedl.pipeline.compress.float16 import Float16
from edgedl.pipeline.compress.int8 import Int8
from edgedl.pipeline.compress.int16x8 import Int16x8
from edgedl.pipeline.compress.mixed import Mixed
from edgedl.pipeline.compress.prune import Prune
from edgedl.pipeline.compress.qat import Qat
from edgedl.pipeline.compress.weight_only import WeightOnlyInt4, WeightOnlyInt8

TechniqueConfig: TypeAlias = Annotated[
    DynamicRange  # number formats
    | Float16
    | Int8
    | Int16x8
    | Mixed
    | WeightOnlyInt8
    | WeightOnlyInt4
    | FineTuned  # alterations
    | Prune
    | PruneChannels
    | Cluster
    | Qat
    | Distill,
    Discriminator("method"),
]

__all__ = [
    "Alteration",
    "Calibration",
    "FineTune",
    "Scheme",
    "Technique",
    "TechniqueConfig",
    "technique_in_words",
    "techniques_of",
]


def techniques_of(value: object) -> object:
    """The members of a `then` list as techniques; `int8` is short for `{method: int8}`."""
    if not isinstance(value, (list, tuple)):
        return value
    adapter: TypeAdapter[Any] = TypeAdapter(TechniqueConfig)
    return tuple(
        one if isinstance(one, Technique) else adapter.validate_python({"method": one} if isinstance(one, str) else one)
        for one in value
    )


def technique_in_words(text: str) -> Mapping[str, Any]:
    """A chain on one line, as the command line takes it: `prune:sparsity=0.75:fine_tune.epochs=3+int8`.

    `+` goes on to the next technique, `:` to its next setting; values are YAML. Raises ConfigError.
    """
    found: dict[str, Any] | None = None
    for word in reversed(text.split("+")):
        method, *settings = re.split(r":(?=[A-Za-z_])", word.strip())  # not the one of `pattern=2:4`
        if not method:
            raise ConfigError("a technique has no name", required="METHOD[:KEY=VALUE…][+METHOD…]", received=text)
        section = apply_settings({"method": method}, settings)
        if found is not None:
            section["then"] = [*section.get("then", []), found]
        found = section
    assert found is not None
    return found
