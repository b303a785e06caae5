"""The inputs of an audit: test examples as they are, corrupted, attacked, and inputs unlike any of the training data.

All are made of the raw test examples with the seed, so the process that asks Keras and the one that asks the file see
the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import AuditKey
from edgedl.core.contract import Contract, InputContract
from edgedl.pipeline.audit.corruptions import Range, corruptions_for
from edgedl.pipeline.data.base import normalize

Raw = NDArray[Any]

CLEAN, FGSM = "test examples", "FGSM"

CORRUPTED = ("classification", "regression", "segmentation", "reconstruction", "anomaly-detection")
ATTACKED = ("classification", "regression", "segmentation", "reconstruction")
"""Tasks whose inputs are measurements that noise, or an attacker, can change."""
GIVEN = (*CORRUPTED, "policy-value", "next-token")
"""Tasks whose model is given the example, not something drawn."""


def corrupted(raw: Raw, contract: Contract, severity: int, seed: int) -> Iterator[tuple[str, Raw]]:
    """(name, inputs as the model takes them) of every corruption that applies. severity: 1 to 5."""
    if contract.task not in CORRUPTED or len(contract.inputs) != 1:
        return
    given = contract.inputs[0]
    where = Range.of(raw, given)
    for i, (name, corrupt) in enumerate(corruptions_for(given).items()):
        changed = corrupt(raw.astype(np.float64), where, severity - 1, np.random.default_rng([seed, 1, i]))
        yield name, normalize(changed, given)


def strange(raw: Raw, contract: Contract, seed: int) -> Iterator[tuple[str, Raw]]:
    """(name, inputs) unlike the training data: uniform noise over the raw range, and test examples torn apart."""
    if contract.task not in GIVEN or len(contract.inputs) != 1:
        return
    given, rng = contract.inputs[0], np.random.default_rng([seed, 2])
    where = Range.of(raw, given)
    if given.dtype.startswith("float"):
        yield "uniform noise", normalize(rng.uniform(where.low, where.high, raw.shape).astype(np.float32), given)
    else:
        yield "uniform noise", rng.integers(raw.min(), raw.max() + 1, raw.shape).astype(given.dtype)
    yield shuffled_name(given), normalize(shuffled(raw, given, rng), given)


def shuffled_name(given: InputContract) -> str:
    """What `shuffled` does, in words."""
    if given.content == "image" and len(given.shape) == 3:
        return "shuffled pixels"
    return "shuffled steps" if len(given.shape) > 1 or not given.dtype.startswith("float") else "shuffled features"


def shuffled(raw: Raw, given: InputContract, rng: np.random.Generator) -> Raw:
    """Positions of each example in another order; of vectors, each feature taken from another example."""
    if shuffled_name(given) == "shuffled features":
        return np.stack([column[rng.permutation(len(raw))] for column in raw.T], axis=1)
    positions = raw.shape[1:3] if shuffled_name(given) == "shuffled pixels" else raw.shape[1:2]
    flat = raw.reshape(len(raw), int(np.prod(positions)), -1)
    orders = np.argsort(rng.random(flat.shape[:2]), axis=1)
    return np.take_along_axis(flat, orders[..., None], axis=1).reshape(raw.shape)


def attacked(inputs: Raw, gradient: Raw, raw: Raw, given: InputContract, epsilon: float) -> Raw:
    """x + ε · sign(∇ₓ J(θ, x, y)) (Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572, §4), in the model's units.

    epsilon: a share of the raw range, or of four standard deviations where there is none; images stay in their range.
    """
    where = Range.of(raw, given)
    mean, std = given.scaling()
    step = epsilon * np.asarray(where.spread, np.float64) / std
    moved = inputs + step * np.sign(gradient)
    if where.hard:
        moved = np.clip(moved, (where.low - mean) / std, (where.high - mean) / std)
    return moved.astype(np.float32)


def gradient_of_loss(model: Any, inputs: Raw, targets: NDArray[Any], content: str) -> Raw:
    """∇ₓ of the loss of a tf_keras model's first output, shape of inputs: cross-entropy of classes (targets: class
    numbers), squared error of values. Raises LookupError where the graph has no gradient."""
    import tensorflow as tf
    import tf_keras

    parts: list[Raw] = []
    losses: Any = tf_keras.losses
    for start in range(0, len(inputs), 64):
        x = tf.constant(inputs[start : start + 64])
        wanted = tf.constant(targets[start : start + 64])
        with tf.GradientTape() as tape:
            tape.watch(x)
            answer = tf.nest.flatten(model(x, training=False))[0]
            if content == "values":
                loss = tf.reduce_sum(tf.square(answer - tf.cast(tf.reshape(wanted, tf.shape(answer)), answer.dtype)))
            else:  # of a softmax, Keras finds the logits behind it: no vanishing gradient of a sure answer
                logits = content == "logits"
                loss = tf.reduce_sum(losses.sparse_categorical_crossentropy(wanted, answer, from_logits=logits))
        found: Any = tape.gradient(loss, x)
        if found is None:
            raise LookupError("the graph has no gradient of its input")
        parts.append(found.numpy())
    return np.concatenate(parts)


def by_name(raw: Raw, contract: Contract, severity: int, seed: int) -> Mapping[str, tuple[AuditKey, Raw]]:
    """All inputs made of raw examples alone: {name: (limit's key, inputs)}."""
    found: dict[str, tuple[AuditKey, Raw]] = {
        name: ("corruption_drop", inputs) for name, inputs in corrupted(raw, contract, severity, seed)
    }
    for name, inputs in strange(raw, contract, seed):
        found[name] = ("disagreement", inputs)
    return found
