"""How large the zoo's models are at a given input: the answer of `edgedl models --input`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgedl.core.contract import Task
from edgedl.core.errors import EdgedlError
from edgedl.core.isolation import run_isolated
from edgedl.models.base import Family, Head


@dataclass(frozen=True)
class Size:
    """One model. reason: why there is none at this input; parameters and macs are then None."""

    family: str
    settings: Mapping[str, Any]
    parameters: int | None
    macs: int | None
    reason: str = ""


def sizes(families: tuple[type[Family], ...], shape: tuple[int, ...], units: int) -> list[Size]:
    """All presets of the families, built in a child process. units: classes, or words of the vocabulary."""
    return run_isolated(_sizes, families, shape, units, stage="building", subject="the zoo")


def _sizes(families: tuple[type[Family], ...], shape: tuple[int, ...], units: int) -> list[Size]:
    return [_size(family, preset, shape, units) for family in families for preset in family.presets]


def _size(family: type[Family], preset: Mapping[str, Any], shape: tuple[int, ...], units: int) -> Size:
    import tf_keras

    from edgedl.models.facts import leaf_layers, macs_of_layer, parameters_of

    tf_keras.backend.clear_session()
    name = family.model_fields["family"].default
    task = family.tasks[0]
    try:
        if "vocabulary" in family.model_fields and len(shape) == 1:
            preset = {**preset, "vocabulary": units}
        model = family(**preset).build("input", shape, Head(task, _units(task, shape, units)))
    except EdgedlError as error:
        return Size(name, preset, None, None, str(error))
    layers = leaf_layers(model)
    return Size(name, preset, sum(map(parameters_of, layers)), sum(map(macs_of_layer, layers)))


def _units(task: Task, shape: tuple[int, ...], units: int) -> int:
    if task in ("classification", "regression", "segmentation", "next-token"):
        return units
    return units + 1 if task == "policy-value" else math.prod(shape)
