"""From arrays in memory to `RawData`: what the sources `npz`, `idx` and `keras` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgedl.core.console import reporter
from edgedl.core.contract import InputContract
from edgedl.core.errors import DataError
from edgedl.pipeline.data.base import ArrayExamples, Normalize, RawData
from edgedl.pipeline.data.checks import TaskChoice, check_inputs, check_lengths, read_targets

Content = Literal["auto", "image", "features"]


@dataclass(frozen=True)
class ArrayPart:
    """Inputs (n, *shape) and targets (n, …), with the words that name each in an error."""

    inputs: NDArray[Any]
    targets: NDArray[Any]
    inputs_at: str
    targets_at: str


def raw_data(
    part: ArrayPart,
    test: ArrayPart | None,
    *,
    content: Content = "auto",
    task: TaskChoice = "auto",
    labels: Sequence[str] | None = None,
    raw_range: tuple[float, float] | None = None,
    normalize: Normalize | None = None,
) -> RawData:
    """Check the arrays and say what they are. Raises DataError."""
    inputs, targets = _inputs_of(part), np.asarray(part.targets)
    image = _is_image(inputs, content, part.inputs_at)
    targets, found_task, names = read_targets(targets, part.targets_at, task=task, labels=labels)
    if image and inputs.ndim == 3:
        inputs = inputs[..., None]
    examples = ArrayExamples(inputs, targets)
    if raw_range is None and inputs.dtype == np.uint8 and image:
        raw_range = (0.0, 255.0)
        if (top := int(inputs.max())) < 64:
            reporter().warn(
                f"the 8-bit pixels of {part.inputs_at} reach only {top} of 255; if that is all they can, "
                f"set data.raw_range: [0, {top}]"
            )
    return RawData(
        examples=examples,
        task=found_task,
        input=InputContract(
            name="image" if image else "features",
            shape=inputs.shape[1:],
            content="image" if image else "features",
            color_space=("rgb" if inputs.shape[-1] == 3 else "grayscale") if image else None,
            raw_range=raw_range,
        ),
        normalize=normalize or ("0..1" if image else "standard"),
        labels=names,
        test=_test_examples(test, examples, part, found_task, names) if test else None,
    )


def _inputs_of(part: ArrayPart) -> NDArray[Any]:
    inputs = check_inputs(np.asarray(part.inputs), part.inputs_at)
    check_lengths(
        len(inputs), len(part.targets) if np.ndim(part.targets) else 0, f"{part.inputs_at}, {part.targets_at}"
    )
    return inputs


def _is_image(inputs: NDArray[Any], content: Content, where: str) -> bool:
    channels_last = inputs.ndim == 4 and inputs.shape[-1] in (1, 3)
    if content == "image" and not (channels_last or inputs.ndim == 3):
        raise DataError(
            f"{where} is not images",
            required="shape (n, height, width), (n, height, width, 1) or (n, height, width, 3)",
            received=f"shape {inputs.shape}",
            advice="Put the channels last, or set content: features",
        )
    if content == "auto":
        return channels_last or (inputs.ndim == 3 and inputs.dtype == np.uint8)
    return content == "image"


def _test_examples(
    test: ArrayPart, examples: ArrayExamples, part: ArrayPart, task: TaskChoice, labels: tuple[str, ...]
) -> ArrayExamples:
    inputs = _inputs_of(test)
    if inputs.ndim == examples.inputs.ndim - 1 and examples.inputs.shape[-1] == 1:
        inputs = inputs[..., None]
    if inputs.shape[1:] != examples.inputs.shape[1:] or inputs.dtype.kind != examples.inputs.dtype.kind:
        raise DataError(
            f"{test.inputs_at} does not match {part.inputs_at}",
            required=f"examples of shape {examples.inputs.shape[1:]}, type {examples.inputs.dtype}",
            received=f"shape {inputs.shape[1:]}, type {inputs.dtype}",
        )
    targets, _, _ = read_targets(np.asarray(test.targets), test.targets_at, task=task, labels=labels or None)
    if targets.shape[1:] != examples.targets.shape[1:]:
        raise DataError(
            f"{test.targets_at} does not match {part.targets_at}",
            required=f"{examples.targets.shape[1:]} values an example",
            received=f"{targets.shape[1:]}",
        )
    return ArrayExamples(inputs, targets)
