"""Small tf_keras models of many kinds of layers, what alterations work with, and their exported files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgedl.core.artifacts import AlteredModel, Quantization, TrainedModel, WeightPromise
from edgedl.core.contract import Contract, OutputContract
from edgedl.core.isolation import DEFAULT_LIMITS
from edgedl.pipeline.compress.base import Altered, Bench
from edgedl.pipeline.recipe import check_recipe
from edgedl.pipeline.tasks import TASKS
from edgedl.pipeline.verbs import as_source, load_data

INT8 = Quantization(method="int8", weights="int8", activations="int8", io="integer")


def image() -> Any:
    import tf_keras

    tf_keras.utils.set_random_seed(5)
    return tf_keras.Input((8, 8, 1), name="image")


def head(inputs: Any, x: Any) -> Any:
    import tf_keras
    from tf_keras import layers

    outputs = layers.Dense(10, activation="softmax", name="probabilities")(x)
    return tf_keras.Model(inputs, outputs, name="net")


def convnet() -> Any:
    """Full, depthwise and pointwise convolutions, each with a BatchNorm that is not the identity."""
    from tf_keras import layers

    inputs = x = image()
    makers = [
        layers.Conv2D(16, 3, padding="same", use_bias=False, name="full"),
        layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="deep"),
        layers.Conv2D(32, 1, use_bias=False, name="point"),
    ]
    for make in makers:
        x = layers.BatchNormalization(name=f"{make.name}_bn")(make(x))
        x = layers.ReLU(name=f"{make.name}_relu")(x)
    model = head(inputs, layers.GlobalAveragePooling2D(name="average")(x))
    rng = np.random.default_rng(1)
    for make in makers:
        norm = model.get_layer(f"{make.name}_bn")
        n = norm.gamma.shape[0]
        norm.gamma.assign(rng.uniform(0.5, 2.0, n).astype(np.float32))
        norm.moving_variance.assign(rng.uniform(0.5, 2.0, n).astype(np.float32))
    return model


def mlp() -> Any:
    from tf_keras import layers

    inputs = image()
    x = layers.Dense(32, activation="relu", name="first")(layers.Flatten(name="flat")(inputs))
    return head(inputs, layers.Dense(32, activation="relu", name="second")(x))


def nested() -> Any:
    """A model within the model, and a layer that is used twice."""
    import tf_keras
    from tf_keras import layers

    inputs = image()
    inner = tf_keras.Sequential(
        [
            tf_keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="inside"),
            layers.GlobalAveragePooling2D(name="inside_average"),
        ],
        name="backbone",
    )
    return head(inputs, layers.Dense(16, activation="relu", name="neck")(inner(inputs)))


def recurrent() -> Any:
    """What tfmot has no fake quantization for."""
    from tf_keras import layers

    inputs = image()
    x = layers.Reshape((8, 8), name="rows")(inputs)
    x = layers.Conv1D(12, 3, padding="same", activation="relu", name="along")(x)
    x = layers.LayerNormalization(name="norm")(x)
    return head(inputs, layers.LSTM(16, name="lstm")(x))


def attentive() -> Any:
    from tf_keras import layers

    inputs = image()
    x = layers.Dense(16, name="embed")(layers.Reshape((8, 8), name="rows")(inputs))
    x = layers.Add(name="add")([x, layers.MultiHeadAttention(2, 8, name="attention")(x, x)])
    return head(inputs, layers.GlobalAveragePooling1D(name="average")(x))


def bench_of(model: Any, folder: Path, promises: tuple[WeightPromise, ...] = (), *, seed: int = 3) -> Bench:
    """A bench with the embedded digits, around a model that was not trained."""
    from edgedl.models.facts import facts_of_model

    sections = {"data": {"source": "digits"}, "model": {"family": "mlp"}, "train": {"batch_size": 64}}
    recipe = check_recipe({"name": "net", "seed": seed, **sections})
    data = load_data(as_source("digits"), seed)
    labels = tuple(data.labels)
    outputs = (OutputContract("probabilities", (10,), content="probabilities", labels=labels),)
    contract = Contract("classification", (data.input,), outputs)
    folder.mkdir(parents=True, exist_ok=True)
    facts = facts_of_model(model, folder, "keras-2")
    known: dict[str, Any] = {
        "name": "net",
        "folder": folder,
        "contract": contract,
        "data": None,
        "quality": None,
        "parameters": facts.parameters,
        "macs": facts.macs,
        "layers": tuple(one.name for one in facts.ops),
    }
    base = AlteredModel(**known, method="before", promises=promises) if promises else TrainedModel(**known)
    return Bench(base, base, data, recipe, seed, folder, DEFAULT_LIMITS)


def exported(altered: Altered, bench: Bench, quantization: Quantization | None = None) -> Path:
    """The .tflite file of an altered model; with learnt ranges where it has any."""
    from edgedl.export.saved_model import write_saved_model
    from edgedl.export.tflite import FLOAT32, _convert

    wanted = quantization or FLOAT32
    saved = bench.folder / "saved"
    write_saved_model(altered.model, saved, 1)
    if altered.fake_quant and quantization:
        saved = bench.folder / altered.fake_quant
    calibration = bench.folder / "calibration.npz"
    rules = TASKS["classification"]
    np.savez(calibration, **rules.ask(bench.base.contract, bench.data, bench.data.train, np.arange(100)).inputs)
    path = bench.folder / f"{wanted.method}.tflite"
    path.write_bytes(_convert(saved, wanted, calibration if quantization else None))
    return path


def kernels(model: Any) -> dict[str, Any]:
    """Values by "layer/weight"."""
    from edgedl.pipeline.compress.kernels import kernels_of

    return {f"{one.layer}/{one.name}": one.variable.numpy() for one in kernels_of(model)[0]}
