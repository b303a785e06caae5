"""From the names that converters leave in a file back to the Keras layers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_WRAPPERS = ("StatefulPartitionedCall", "PartitionedCall")
_COMPUTING = re.compile(
    r"/(?:Conv[123]D\w*|conv\dd\w*|convolution|separable_conv\w*|depthwise\w*|MatMul|BiasAdd|Tensordot|einsum|dot)\d*(?:/|$)"
)
_SUFFIX = re.compile(r"(?::\d+|__\d+|_(?:Quantize|Dequantize)Linear(?:_(?:In|Out)put)?|_quantized)+$")
_READ = re.compile(r"(?:ReadVariableOp(?:_\d+)?|Read|resource)\d*")
_INSIDE_A_LAYER = re.compile(r"(?:BiasAdd|MatMul|Tensordot|einsum|separable_conv\w*|Conv[12]D)\d*")


def layer_of(tensor_name: str, known_layers: Sequence[str] = ()) -> str | None:
    """The Keras layer that a tensor or node of a converted model came from, or None where its name does not tell.

    A fused op's name joins what went into it: "model/relu/Relu;model/bn/FusedBatchNormV3;model/conv/Conv2D". The layer
    that computes is named (`conv`), not the activation or the normalisation folded into it. Where several compute (the
    converter also lists layers that merely share a constant), the most frequent wins, then the last.

    known_layers: names of the model's layers; with them a path that goes through a nested model, or a layer name that
    holds slashes, is told exactly. Without, the model's own scope and the op are cut off a path.
    """
    parts = [part for part in tensor_name.split(";") if part]
    found = [(part, layer) for part in parts if (layer := _layer_of_part(part, known_layers))]
    computing = [layer for part, layer in found if _COMPUTING.search(part)]
    if computing:
        votes = Counter(computing)
        most = max(votes.values())
        return next(layer for layer in reversed(computing) if votes[layer] == most)
    return found[-1][1] if found else None


def _layer_of_part(part: str, known_layers: Sequence[str]) -> str | None:
    path = _SUFFIX.sub("", part).split("/")
    while path and path[0] in _WRAPPERS:
        path = path[1:]
    if known_layers:
        return _known_layer(path, set(known_layers))
    path = [name for name in path if name not in _WRAPPERS and not _READ.fullmatch(name)]
    inner = path[1:-1]  # without the model's scope and the op
    while inner and _INSIDE_A_LAYER.fullmatch(inner[-1]):
        inner = inner[:-1]
    return "/".join(inner) or None


def _known_layer(path: Sequence[str], known: set[str]) -> str | None:
    """The longest run of path components that is a known layer's name; of equally long ones the innermost.

    The last component is the op (of a layer called "add" it is often "add" too) and counts only when it is alone.
    """
    names = path[:-1] if len(path) > 1 else path
    for length in range(len(names), 0, -1):
        for start in range(len(names) - length, -1, -1):
            name = "/".join(names[start : start + length])
            if name in known:
                return name
    return None
