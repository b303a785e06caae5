"""Walking a model's graph: what its layers say of channels becomes classes, groups and MACs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import SkippedLayer
from edgedl.models import KerasModel
from edgedl.pipeline.compress.channels.graph import (
    KERNELS,
    Atoms,
    Axis,
    Call,
    Couplings,
    Group,
    NotUnderstoodError,
    Tracer,
    Work,
)
from edgedl.pipeline.compress.channels.rules import rule_for


def trace(model: KerasModel, keep: Sequence[str] = ()) -> Couplings:
    """The couplings of a functional model without models inside. keep: layers whose channels all stay."""
    import tensorflow as tf

    tracer, atoms = Tracer(), dict[int, Atoms]()
    strange, works, fixed = dict[str, SkippedLayer](), list[tuple[Any, str, int]](), 0
    for node in nodes_of(model):
        outputs = tf.nest.flatten(node.outputs)
        if node.is_input:
            atoms.update(
                (id(one), tracer.constant(_last(one), "its channels are the model's input")) for one in outputs
            )
            continue
        given = [atoms[id(one)] for one in node.keras_inputs]
        layer = node.layer
        try:
            if len(outputs) != 1:
                raise NotUnderstoodError("it has several outputs")
            call = Call(
                layer,
                given,
                [tuple(one.shape[1:]) for one in node.keras_inputs],
                tuple(outputs[0].shape[1:]),
                [*tf.nest.flatten((node.call_args, node.call_kwargs))],
                tracer,
            )
            atoms[id(outputs[0])] = rule_for(layer)(call)
            works += [(layer, name, _positions(call)) for name in KERNELS if getattr(layer, name, None) is not None]
        except NotUnderstoodError as error:
            strange[layer.name] = SkippedLayer(layer.name, type(layer).__name__, str(error))
            reason = f"{type(layer).__name__} {layer.name} uses its channels: {error}"
            for one in [*given, *(found for key, found in tracer.axes.items() if key[0] == layer.name)]:
                tracer.freeze(one, reason)
            for key, found in tracer.settings.items():
                if key[0] == layer.name:
                    tracer.freeze(found, str(error))
            atoms.update((id(one), tracer.constant(_last(one), reason)) for one in outputs)
            fixed += _macs(layer)
    for output in model.outputs:
        tracer.freeze(atoms[id(output)], "its channels are the model's output")
    for (name, _), found in tracer.settings.items():
        if name in keep:
            tracer.freeze(found, "it was asked to stay")
    return _couplings(model, tracer, works, fixed, strange)


def nodes_of(model: KerasModel) -> list[Any]:
    """The calls of a functional model's graph, each after those that it needs."""
    depths = model._nodes_by_depth
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth]]


def _couplings(
    model: KerasModel,
    tracer: Tracer,
    works: Sequence[tuple[Any, str, int]],
    fixed: int,
    strange: dict[str, SkippedLayer],
) -> Couplings:
    roots = np.array([tracer.find(i) for i in range(len(tracer.parent))], np.int64)
    touched: dict[int, Counter[Axis]] = {}
    for axis, atoms in tracer.axes.items():
        for root, count in zip(*np.unique(roots[atoms], return_counts=True), strict=True):
            if int(root) not in tracer.frozen:
                touched.setdefault(int(root), Counter())[axis] = int(count)
    alike: dict[frozenset[tuple[Axis, int]], list[int]] = {}
    for root in sorted(touched):
        alike.setdefault(frozenset(touched[root].items()), []).append(root)
    groups = [Group(len(classes), dict(sorted(key))) for key, classes in alike.items()]
    stride = max([1, *(group.n for group in groups)])
    code = np.full(len(roots), -1, np.int64)
    for number, classes in enumerate(alike.values()):
        code[classes] = number * stride + np.arange(len(classes))
    members = {axis: code[roots[atoms]] for axis, atoms in tracer.axes.items()}
    settings = {key: code[roots[atoms]] for key, atoms in tracer.settings.items()}
    skipped = list(strange.values())
    for layer in model.layers:
        found = [(key, atoms) for key, atoms in tracer.settings.items() if key[0] == layer.name]
        if layer.name in strange or not found or any((settings[key] >= 0).any() for key, _ in found):
            continue
        if layer.weights:
            reason = tracer.frozen.get(int(roots[found[0][1][0]]), "")
            skipped.append(SkippedLayer(layer.name, type(layer).__name__, reason))
    counted = [_work(layer, name, positions, members, stride) for layer, name, positions in works]
    return Couplings(groups, members, settings, counted, fixed, tuple(skipped), stride)


def _work(layer: Any, name: str, positions: int, members: Mapping[Axis, NDArray[np.int64]], stride: int) -> Work:
    weight = getattr(layer, name)
    number = next(i for i, one in enumerate(layer.weights) if one is weight)
    factor, axes = positions, list[tuple[int, Mapping[int, int]]]()
    for axis, size in enumerate(weight.shape):
        found = members.get((layer.name, number, axis))
        if found is None or not (found >= 0).any():
            factor *= int(size)
            continue
        groups = np.unique(found[found >= 0] // stride)
        counts = {int(group): _count(found, int(group), stride) for group in groups}
        axes.append((int((found < 0).sum()), counts))
    return Work(factor, axes)


def _count(found: NDArray[np.int64], group: int, stride: int) -> int:
    inside = found[found // stride == group]
    return len(inside) // len(np.unique(inside))


def _positions(call: Call) -> int:
    transposed = "Transpose" in type(call.layer).__name__
    shape = call.shapes[0] if transposed else call.output_shape
    return math.prod(side or 1 for side in shape[:-1])


def _macs(layer: Any) -> int:
    from edgedl.models.facts import macs_of_layer

    try:
        return macs_of_layer(layer)
    except AttributeError:  # used several times on different shapes
        return 0


def _last(tensor: Any) -> int:
    shape = tuple(tensor.shape)
    return int(shape[-1] or 1) if len(shape) > 1 else 1
