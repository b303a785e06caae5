"""The weight tensors that pruning and clustering work on: the kernels of a Keras model's layers, by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from numpy.typing import NDArray

from edgedl.core.artifacts import SkippedLayer
from edgedl.core.errors import ConfigError

if TYPE_CHECKING:
    from edgedl.models import KerasModel

Layout = Literal["inputs-outputs", "outputs-inputs", "depthwise", "gates", "table", "other"]
"""How a kernel's last two axes lie in Keras: (…, in, out), (…, out, in) of transposed convolutions, (h, w, channels,
multiplier), (in, gates × units) of recurrent cells; a table is looked up, not multiplied."""

V = TypeVar("V")


@dataclass(frozen=True)
class Kernel:
    """One weight tensor. name: in its layer, e.g. "kernel"; variable: the tf.Variable that holds it."""

    layer: str
    kind: str
    name: str
    variable: Any
    layout: Layout

    @property
    def size(self) -> int:
        """Number of values."""
        return int(self.variable.shape.num_elements())

    @property
    def shape(self) -> tuple[int, ...]:
        """Keras's."""
        return tuple(int(side) for side in self.variable.shape)

    @property
    def axes_of_a_scale(self) -> tuple[int, ...]:
        """The axes over which an int8 file has one scale: all but the output channels', where there are such."""
        last = len(self.shape) - 1
        channels = {"inputs-outputs": (last,), "outputs-inputs": (last - 1,), "depthwise": (last - 1, last)}
        return tuple(axis for axis in range(last + 1) if axis not in channels.get(self.layout, ()))


def kernels_of(model: KerasModel) -> tuple[tuple[Kernel, ...], tuple[SkippedLayer, ...]]:
    """All kernels of a model in the order of its layers, nested models included; and the layers that hold matrices
    which are no kernels that edgedl knows."""
    from edgedl.models.facts import leaf_layers

    found: dict[int, Kernel] = {}
    skipped: list[SkippedLayer] = []
    for layer in leaf_layers(model):
        kind = type(layer).__name__
        here = [Kernel(layer.name, kind, *one) for one in _kernels(layer)]
        found.update((id(one.variable), one) for one in here if id(one.variable) not in found)
        if not here and any(len(weight.shape) > 1 for weight in layer.weights):
            skipped.append(SkippedLayer(layer.name, kind, "its weights are not those of a kernel that edgedl knows"))
    return tuple(found.values()), tuple(skipped)


def _kernels(layer: Any) -> list[tuple[str, Any, Layout]]:
    from tf_keras import layers

    if isinstance(layer, layers.Bidirectional):
        parts = {"forward": layer.forward_layer, "backward": layer.backward_layer}
        return [
            (f"{side}/{name}", variable, layout)
            for side, one in parts.items()
            for name, variable, layout in _kernels(one)
        ]
    if isinstance(layer, layers.Wrapper):
        return _kernels(layer.layer)
    if isinstance(layer, layers.MultiHeadAttention):
        names = {"query": "_query_dense", "key": "_key_dense", "value": "_value_dense", "output": "_output_dense"}
        return [(f"{name}/kernel", getattr(layer, part).kernel, "other") for name, part in names.items()]
    if isinstance(layer, layers.RNN):
        cells = layer.cell.cells if isinstance(layer.cell, layers.StackedRNNCells) else [layer.cell]
        if not all(isinstance(cell, (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)) for cell in cells):
            return []
        prefixes = [""] if len(cells) == 1 else [f"cell{i}/" for i in range(len(cells))]
        names = ("kernel", "recurrent_kernel")
        return [(p + name, getattr(c, name), "gates") for p, c in zip(prefixes, cells, strict=True) for name in names]
    return _own_kernels(layer)


def _own_kernels(layer: Any) -> list[tuple[str, Any, Layout]]:
    """Of a layer that is made of no others."""
    from tf_keras import layers

    table: tuple[tuple[tuple[type[Any], ...], tuple[tuple[str, Layout], ...]], ...] = (
        ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), (("depthwise_kernel", "depthwise"),)),
        (
            (layers.SeparableConv1D, layers.SeparableConv2D),
            (("depthwise_kernel", "depthwise"), ("pointwise_kernel", "inputs-outputs")),
        ),
        ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), (("kernel", "outputs-inputs"),)),
        ((layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Dense), (("kernel", "inputs-outputs"),)),
        ((layers.Embedding,), (("embeddings", "table"),)),
        ((layers.EinsumDense,), (("kernel", "other"),)),
    )
    for kinds, names in table:
        if isinstance(layer, kinds):
            return [(name, getattr(layer, name), layout) for name, layout in names]
    return []


def as_matrix(values: NDArray[Any], layout: Layout) -> NDArray[Any] | None:
    """The kernel as TFLite lays it out, (outputs × positions, inputs); None where there are no input channels to go
    along. A copy."""
    if layout in ("inputs-outputs", "gates") and values.ndim > 1:
        return values.transpose(values.ndim - 1, *range(values.ndim - 1)).reshape(-1, values.shape[-2])
    if layout == "outputs-inputs":
        return values.transpose(values.ndim - 2, *range(values.ndim - 2), values.ndim - 1).reshape(-1, values.shape[-1])
    return None


def from_matrix(matrix: NDArray[Any], shape: tuple[int, ...], layout: Layout) -> NDArray[Any]:
    """The inverse of `as_matrix`."""
    last = len(shape) - 1
    if layout in ("inputs-outputs", "gates"):
        return matrix.reshape(shape[last], *shape[:last]).transpose(*range(1, last + 1), 0)
    return matrix.reshape(shape[-2], *shape[:-2], shape[-1]).transpose(*range(1, last), 0, last)


def chosen(kernels: Sequence[Kernel], settings: Mapping[str, V], default: V, *, option: str) -> list[V]:
    """The setting of each kernel: of the first pattern that its layer's name matches, else the default.

    Raises ConfigError for a pattern that matches no layer.
    """
    for pattern in settings:
        if not any(fnmatch.fnmatchcase(one.layer, pattern) for one in kernels):
            names = list(dict.fromkeys(one.layer for one in kernels))
            raise ConfigError(
                f"{option}: no layer with a kernel matches {pattern!r}",
                required=f"names or patterns of {', '.join(names[:8])}{' …' if len(names) > 8 else ''}",
            )
    return [
        next((value for pattern, value in settings.items() if fnmatch.fnmatchcase(one.layer, pattern)), default)
        for one in kernels
    ]


DEPTHWISE_PAYS = 0.05
"""Depthwise kernels are altered too, unless told otherwise, when they hold at least this share of all weights."""


def without_depthwise(kernels: Sequence[Kernel], wanted: bool | None) -> tuple[list[Kernel], list[SkippedLayer], str]:
    """Leave the depthwise kernels out unless wanted (None: where it pays); the sentence says what was decided and why,
    "" where there are none."""
    ours = [one for one in kernels if one.layout == "depthwise"]
    if not ours:
        return list(kernels), [], ""
    share = sum(one.size for one in ours) / sum(one.size for one in kernels)
    why = f"they hold {100 * share:.1f} % of the weights"
    if wanted if wanted is not None else share >= DEPTHWISE_PAYS:
        return list(kernels), [], f"depthwise kernels too: {why}"
    skipped = [SkippedLayer(one.layer, one.kind, f"depthwise kernels are left: {why}") for one in ours]
    return [one for one in kernels if one.layout != "depthwise"], skipped, f"depthwise kernels are left: {why}"
