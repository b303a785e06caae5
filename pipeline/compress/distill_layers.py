"""Which layers of teacher and student are compared, and models that also answer with what those layers give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgedl.core.errors import ConfigError, ModelError
from edgedl.models import KerasModel
from edgedl.pipeline.compress.distillation import Pairs

LayerPairs = Sequence[tuple[str, str]]


def layer_pairs(wanted: Pairs | None, teacher: KerasModel, student: KerasModel, *, what: str) -> LayerPairs:
    """Teacher's and student's layer names. what: the option, for errors. Raises ConfigError, ModelError."""
    if wanted is None:
        return ()
    if wanted == "auto":
        mine, theirs = _stages(student), _stages(teacher)
        common = [size for size in theirs if size in mine]
        maps = [size for size in common if size]
        if not common or (what == "attention" and not maps):
            raise ModelError(
                f"{what}: teacher and student have no layers in common",
                required="hidden layers of the same spatial size",
                received=f"{_sizes(theirs)} and {_sizes(mine)}",
                advice=f"Name the layers: {what}: {{teacher_layer: student_layer}}, or leave {what} out",
            )
        return [(theirs[size], mine[size]) for size in maps or common]
    for name, model, who in [(one, teacher, "teacher") for one in wanted] + [
        (one, student, "student") for one in wanted.values()
    ]:
        _layer(model, name, who, what)
    return list(wanted.items())


def with_layers(model: KerasModel, names: Sequence[str], who: str) -> KerasModel:
    """The model, sharing its layers, with those layers' outputs behind its own: always a list of tensors."""
    import tf_keras

    return tf_keras.Model(model.inputs, [*model.outputs, *(_layer(model, one, who, "").output for one in names)])


def check_spatial(teacher: Any, student: Any, names: tuple[str, str], what: str) -> None:
    """Raises ModelError when two layers' outputs, symbolic tensors, differ in more than their channels."""
    given, taken = tuple(teacher.shape[1:-1]), tuple(student.shape[1:-1])
    if given != taken or (what == "attention" and not given):
        raise ModelError(
            f"{what}: {names[0]} of the teacher cannot be compared with {names[1]} of the student",
            required="the same spatial size" + (", and maps" if what == "attention" else ""),
            received=f"{tuple(teacher.shape[1:])} and {tuple(student.shape[1:])}",
        )


def _stages(model: KerasModel) -> Mapping[tuple[int, ...], str]:
    """The last hidden layer of each spatial size, () for vectors; nothing before the first weights."""
    found: dict[tuple[int, ...], str] = {}
    outputs = {id(one) for one in model.outputs}
    learnt = False
    for layer in model.layers:
        learnt = learnt or bool(layer.trainable_weights)
        output = getattr(layer, "output", None) if learnt else None
        if output is None or not hasattr(output, "shape") or id(output) in outputs or len(output.shape) < 2:
            continue
        if output.dtype.is_floating:
            found[tuple(output.shape[1:-1])] = layer.name
    found.pop((1, 1), None)
    return found


def _sizes(stages: Mapping[tuple[int, ...], str]) -> str:
    return ", ".join("×".join(map(str, size)) or "vectors" for size in stages) or "none"


def _layer(model: KerasModel, name: str, who: str, what: str) -> Any:
    """By its name, or by that of the layer it is wrapped around."""
    for layer in model.layers:
        if name in (layer.name, getattr(getattr(layer, "layer", None), "name", None)):
            return layer
    names = ", ".join(layer.name for layer in model.layers)
    raise ConfigError(f"{what}: the {who} has no layer {name!r}", required=f"one of {names}")
