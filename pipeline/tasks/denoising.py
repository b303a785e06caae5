"""Which noise is in an example: the network of a diffusion model (DDPM; Ho, Jain & Abbeel 2020, arXiv:2006.11239).

The model takes x_t = √ᾱ_t x + √(1−ᾱ_t) ε (eq. 4) and t, and answers ε; `export.sample` makes new examples with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgedl.core.contract import Contract
from edgedl.core.noise_schedule import alpha_bars
from edgedl.models import KerasModel
from edgedl.pipeline.data import Examples, Splits, examples_array
from edgedl.pipeline.evaluate import NOISE_ERROR, Asked
from edgedl.pipeline.tasks.base import Answer, Positions, TaskRules, n_inputs


def _ask(contract: Contract, data: Splits, examples: Examples, positions: Positions) -> Asked:
    """Every example with noise of a random strength, the same each time."""
    assert contract.noise is not None
    kept = alpha_bars(contract.noise)
    x = examples_array(examples, data.input, positions)
    generators = [np.random.default_rng([2, int(i)]) for i in positions]
    t = np.array([one.integers(0, len(kept)) for one in generators])
    noise = np.stack([one.standard_normal(x.shape[1:], np.float32) for one in generators])
    share = kept[t].reshape(-1, *[1] * (x.ndim - 1))
    noisy = (np.sqrt(share) * x + np.sqrt(1 - share) * noise).astype(np.float32)
    given, when = contract.inputs
    return Asked({given.name: noisy, when.name: t.astype(when.dtype).reshape(-1, *when.shape)}, noise)


def _trainee(denoiser: KerasModel, family: Any, contract: Contract) -> KerasModel:
    """The simplified objective (eq. 14; algorithm 1)."""
    import tensorflow as tf
    import tf_keras

    assert contract.noise is not None
    kept = tf.constant(alpha_bars(contract.noise), tf.float32)
    when = contract.inputs[1]

    class Denoising(tf_keras.Model):
        def __init__(self) -> None:
            super().__init__(name="denoising")
            self.denoiser = denoiser
            self.mean_loss = tf_keras.metrics.Mean(name="loss")  # of an epoch; a step's own would be its last batch's

        @property
        def metrics(self) -> list[Any]:
            """What is reset at the start of an epoch and of a validation."""
            return [self.mean_loss]

        def compile_with(self, make_optimizer: Any, **options: Any) -> None:
            """make_optimizer: () → a new optimizer."""
            self.compile(optimizer=make_optimizer(), **options)
            self.optimizer.build(self.denoiser.trainable_variables)

        def loss_of(self, x: Any, seed: Any, training: bool) -> Any:
            """Mean squared error of the noise; t and noise are functions of the seed, shape (2,)."""
            n = tf.shape(x)[0]
            t = tf.random.stateless_uniform(n[None], seed, 0, len(kept), tf.int32)
            noise = tf.random.stateless_normal(tf.shape(x), seed + 1)
            share = tf.reshape(tf.gather(kept, t), [-1, *[1] * (len(x.shape) - 1)])
            noisy = tf.sqrt(share) * x + tf.sqrt(1 - share) * noise
            t = tf.reshape(tf.cast(t, when.dtype), [-1, *when.shape])
            guess = tf.cast(self.denoiser([noisy, t], training=training), tf.float32)
            return tf.reduce_mean(tf.square(guess - noise))

        def train_step(self, data: Any) -> dict[str, Any]:
            """One step; the noise is a function of the step's number."""
            step = tf.cast(self.optimizer.iterations, tf.int32)
            with tf.GradientTape() as tape:
                loss = self.loss_of(data[0], tf.stack([29, 2 * step]), training=True)
            variables = self.denoiser.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            self.mean_loss.update_state(loss)
            return {"loss": self.mean_loss.result()}

        def test_step(self, data: Any) -> dict[str, Any]:
            """The loss with the same noise in every epoch."""
            self.mean_loss.update_state(
                self.loss_of(data[0], tf.constant([31, 0]), training=False), tf.shape(data[0])[0]
            )
            return {"loss": self.mean_loss.result()}

    return Denoising()


RULES = TaskRules(
    task="denoising",
    answers=(Answer("noise", "value", "values"),),
    measure=NOISE_ERROR,
    units=n_inputs,
    ask=_ask,
    trainee=_trainee,
)
