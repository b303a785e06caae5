"""Whether one file can take the place of another in an app."""

from __future__ import annotations

import re
from collections.abc import Iterable

from edgedl.core.artifacts import TensorSpec
from edgedl.core.errors import ModelError
from edgedl.core.model_facts import ModelFile


def require_same_interface(new: ModelFile, old: ModelFile) -> None:
    """Raise ModelError unless an app can swap one file for the other: same tensor names, same shapes, same types.

    Dynamic axes agree with any size. A float tensor and its quantized form (an integer with a scale) count as the
    same type: quantizing a model is a change that `check` is there to judge.
    """
    for side in ("inputs", "outputs"):
        require_same_tensors(new.path.name, getattr(new.facts, side), old.path.name, getattr(old.facts, side), side)


def require_same_tensors(
    new: str, new_tensors: Iterable[TensorSpec], old: str, old_tensors: Iterable[TensorSpec], side: str
) -> None:
    """The same for one side, "inputs" or "outputs", of the files that are called `new` and `old`."""
    news, olds = _by_name(new_tensors), _by_name(old_tensors)
    if set(news) != set(olds):
        raise _differ(new, old, f"{side} {_listed(olds)}", f"{side} {_listed(news)}")
    for name, tensor in news.items():
        if not _same_shape(tensor, olds[name]) or not _same_type(tensor, olds[name]):
            raise _differ(new, old, f"{side} {_described(olds[name])}", f"{side} {_described(tensor)}")


def plain_name(name: str) -> str:
    """A tensor's name without the suffix that TFLite's converter gives to quantized inputs and outputs."""
    return re.sub(r"_(u?int8|int16)$", "", name)


def _by_name(tensors: Iterable[TensorSpec]) -> dict[str, TensorSpec]:
    return {plain_name(tensor.name): tensor for tensor in tensors}


def _same_shape(a: TensorSpec, b: TensorSpec) -> bool:
    return len(a.shape) == len(b.shape) and all(x == y or x < 1 or y < 1 for x, y in zip(a.shape, b.shape, strict=True))


def _same_type(a: TensorSpec, b: TensorSpec) -> bool:
    return a.dtype == b.dtype or all(t.dtype.startswith("float") or t.scale is not None for t in (a, b))


def _differ(new: str, old: str, required: str, received: str) -> ModelError:
    return ModelError(
        f"{new} cannot take the place of {old}",
        required=required,
        received=received,
        advice="A check compares two versions of one model: export both with the same inputs and outputs",
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _described(tensor: TensorSpec) -> str:
    return f"{tensor.name} {tensor.dtype} [{', '.join(str(size) for size in tensor.shape)}]"
