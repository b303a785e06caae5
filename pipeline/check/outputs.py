"""How far the outputs of one file are from another's, on the same random inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import DeviceParity, TensorSpec
from edgedl.core.model_facts import ModelFile
from edgedl.devices.parity import parity
from edgedl.export.inference import run_file
from edgedl.pipeline.check.interface import plain_name

EXAMPLES = 8


def outputs_moved(new: ModelFile, old: ModelFile, seed: int) -> DeviceParity:
    """Both files run on this host's CPU on the same inputs; errors are relative to the old file's largest output.

    Inputs are uniform over what a quantized input can hold, else from -1 to 1; integers are 0 or 1. The two have the
    same interface (`require_same_interface`).
    """
    rng = np.random.default_rng(seed)
    specs = {plain_name(spec.name): [spec] for spec in old.facts.inputs}
    for spec in new.facts.inputs:
        specs[plain_name(spec.name)].append(spec)
    values = {name: _values(pair, rng) for name, pair in specs.items()}
    names = [plain_name(spec.name) for spec in old.facts.outputs]
    found = []
    for file in (new, old):
        outputs = run_file(file.path, {spec.name: values[plain_name(spec.name)] for spec in file.facts.inputs})
        by_name = {plain_name(name): value for name, value in outputs.items()}
        found.append([[by_name[name][i : i + 1] for name in names] for i in range(EXAMPLES)])
    return parity("as exported", old.path.name, names, *found)


def _values(specs: list[TensorSpec], rng: np.random.Generator) -> NDArray[Any]:
    shape = (EXAMPLES, *(max(size, 1) for size in specs[0].shape[1:]))
    quantized = next((spec for spec in specs if spec.scale), None)
    if quantized is not None and quantized.scale is not None:
        limits = np.iinfo(quantized.dtype)
        low, high = ((end - (quantized.zero_point or 0)) * quantized.scale for end in (limits.min, limits.max))
        return rng.uniform(low, high, shape).astype(np.float32)
    if specs[0].dtype.startswith("float"):
        return rng.uniform(-1, 1, shape).astype(np.float32)
    return rng.integers(0, 2, shape).astype(specs[0].dtype)
