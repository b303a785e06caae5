"""Figures of a Keras model: layers, parameters, multiply–accumulates (MACs) for one example."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from edgedl.core.artifacts import TensorSpec
from edgedl.core.files import gzip_size
from edgedl.core.model_facts import ModelFacts, OpFacts
from edgedl.models.base import KerasModel


def facts_of_model(model: KerasModel, path: Path, kind: str) -> ModelFacts:
    """Facts of a built tf_keras model that `path` holds; nested models are walked into."""
    layers = [
        OpFacts(
            index=i,
            op=type(layer).__name__,
            name=layer.name,
            layer=layer.name,
            precision=str(layer.compute_dtype),
            output_shape=_shape(layer),
            macs=macs_of_layer(layer),
            parameters=parameters_of(layer),
            weight_bytes=sum(weight.dtype.size * math.prod(weight.shape) for weight in layer.weights),
        )
        for i, layer in enumerate(leaf_layers(model))
    ]
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return ModelFacts(
        file=path.name,
        kind=kind,
        size_bytes=sum(one.stat().st_size for one in files),
        gzip_bytes=sum(gzip_size(one) for one in files),
        inputs=tuple(_spec(name, tensor) for name, tensor in zip(model.input_names, model.inputs, strict=True)),
        outputs=tuple(_spec(name, tensor) for name, tensor in zip(model.output_names, model.outputs, strict=True)),
        ops=tuple(layers),
        parameters=sum(layer.parameters for layer in layers),
        macs=sum(layer.macs for layer in layers),
        precision=str(model.outputs[0].dtype.name),
    )


def leaf_layers(model: KerasModel) -> list[Any]:
    """All layers in order, those of nested models in place of the models; each once."""
    import tf_keras

    found: dict[int, Any] = {}
    for layer in model.layers:
        inner = leaf_layers(layer) if isinstance(layer, tf_keras.Model) else [layer]
        found.update((id(one), one) for one in inner)
    return list(found.values())


def macs_of_layer(layer: Any) -> int:
    """MACs of one layer for one example.

    Every weight of a convolution's kernel is used once at each output position (a transposed one's: input position),
    a dense kernel once at each position before its last axis, a recurrent kernel once a time step. Layers without
    kernels count as 0, as the literature does; those of edgedl's own that multiply without one tell their `macs`.
    """
    from tf_keras import layers

    if (own := getattr(layer, "macs", None)) is not None:
        return int(own)
    if isinstance(
        layer, layers.MultiHeadAttention
    ):  # of a sequence to itself: projections, q kᵀ, and its product with v
        steps, settings = _positions(layer.output_shape)[-1], layer.get_config()
        products = 2 * steps * settings["num_heads"] * settings["key_dim"]
        return steps * (products + sum(math.prod(one.shape) for one in layer.weights if "kernel" in one.name))
    if isinstance(layer, (layers.Wrapper, layers.RNN)):
        steps = _positions(layer.input_shape)[0] if len(layer.input_shape) > 2 else 1
        return steps * sum(math.prod(weight.shape) for weight in layer.weights if "kernel" in weight.name)
    if isinstance(layer, (layers.Conv2DTranspose, layers.Conv1DTranspose, layers.Conv3DTranspose)):
        return math.prod(layer.kernel.shape) * math.prod(_positions(layer.input_shape))
    names = ("kernel", "depthwise_kernel", "pointwise_kernel")
    kernels = [kernel for name in names if (kernel := getattr(layer, name, None)) is not None]
    return sum(math.prod(kernel.shape) for kernel in kernels) * math.prod(_positions(layer.output_shape))


def parameters_of(layer: Any) -> int:
    """Number of weights, those that a frozen graph holds as constants with them."""
    return int(getattr(layer, "constants", 0)) + layer.count_params()


def _positions(shape: Any) -> tuple[int, ...]:
    """The axes between batch and channels; an axis of unknown length counts as one."""
    if not isinstance(shape, tuple):
        return (1,)
    return tuple(side or 1 for side in shape[1:-1])


def _shape(layer: Any) -> tuple[int, ...]:
    try:
        shape = layer.output_shape
    except (AttributeError, RuntimeError):
        return ()
    if isinstance(shape, (list, dict)):
        shape = next(iter(shape.values() if isinstance(shape, dict) else shape))
    return tuple(-1 if side is None else int(side) for side in shape)


def obstacles(model: KerasModel) -> tuple[str, ...]:
    """Which of edgedl's techniques apply to a model, and what stands in the way of the others; a line each."""
    from edgedl.models.layers.frozen import Frozen
    from edgedl.models.layers.hosted import Hosted

    unknown = [f"{tensor.name} {tuple(tensor.shape[1:])}" for tensor in model.inputs if None in tensor.shape[1:]]
    if unknown:
        post = f"post-training quantization, export: not before the shapes are fixed ({', '.join(unknown)})"
    else:
        post = "post-training quantization, export: apply"
    if any(isinstance(layer, Frozen) for layer in model.layers):
        return post, "training, transfer, pruning, clustering, distillation to it: no, its weights are constants"
    hosted = [layer.name for layer in leaf_layers(model) if isinstance(layer, Hosted)]
    note = (f"pruning, clustering, quantization-aware training: all but {', '.join(hosted)}",) if hosted else ()
    return post, "training, transfer, distillation: apply", *note


def _spec(name: str, tensor: Any) -> TensorSpec:
    return TensorSpec(name, tuple(-1 if side is None else int(side) for side in tensor.shape), tensor.dtype.name)
