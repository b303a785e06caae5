"""New examples from noise in one step: a generator trained against a discriminator (Goodfellow et al. 2014).

What is exported is the generator: noise z (n, latent) in, examples in the data's normalised units out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgedl.core.contract import Contract
from edgedl.models import KerasModel
from edgedl.pipeline.data import Examples, Splits, examples_array
from edgedl.pipeline.evaluate import ENERGY_DISTANCE, Asked
from edgedl.pipeline.tasks.base import Answer, Positions, TaskRules, n_inputs


def _ask(contract: Contract, data: Splits, examples: Examples, positions: Positions) -> Asked:
    """For every example a noise vector, the same each time, and the real example to be compared with."""
    given = contract.inputs[0]
    noise = [np.random.default_rng([1, int(i)]).standard_normal(given.shape, np.float32) for i in positions]
    return Asked({given.name: np.stack(noise)}, examples_array(examples, data.input, positions))


def _trainee(generator: KerasModel, family: Any, contract: Contract) -> KerasModel:
    """Generator and discriminator, one step each per batch (Goodfellow et al. 2014, algorithm 1 with k = 1)."""
    import tensorflow as tf
    import tf_keras

    class Adversaries(tf_keras.Model):
        """The generator's loss is the non-saturating one (§3). Labels of real examples are 0.9, one-sided smoothing
        (Salimans et al. 2016, §3.4)."""

        def __init__(self) -> None:
            super().__init__(name="adversaries")
            self.generator = generator
            self.discriminator = family.build_discriminator(tuple(generator.outputs[0].shape[1:]))

        def compile_with(self, make_optimizer: Any, **options: Any) -> None:
            """make_optimizer: () → a new optimizer; each side has its own."""
            self.compile(optimizer=make_optimizer(), **options)
            self.second_optimizer = make_optimizer()
            self.optimizer.build(self.generator.trainable_variables)
            self.second_optimizer.build(self.discriminator.trainable_variables)

        @property
        def all_optimizers(self) -> list[Any]:
            """Whose state a checkpoint holds."""
            return [self.optimizer, self.second_optimizer]

        def train_step(self, data: Any) -> dict[str, Any]:
            """One step of each side on a batch of real examples. The noise is a function of the step's number."""
            real = data[0]
            n = tf.shape(real)[0]
            step = tf.cast(self.optimizer.iterations, tf.int32)
            shape = tf.concat([n[None], tf.constant(contract.inputs[0].shape)], axis=0)
            noise = tf.random.stateless_normal(shape, seed=tf.stack([17, step]))
            cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits
            with tf.GradientTape(persistent=True) as tape:
                made = self.generator(noise, training=True)
                of_real = self.discriminator(real, training=True)
                of_made = self.discriminator(made, training=True)
                judge_loss = tf.reduce_mean(cross_entropy(0.9 * tf.ones_like(of_real), of_real)) + tf.reduce_mean(
                    cross_entropy(tf.zeros_like(of_made), of_made)
                )
                maker_loss = tf.reduce_mean(cross_entropy(tf.ones_like(of_made), of_made))
            makers, judges = self.generator.trainable_variables, self.discriminator.trainable_variables
            self.second_optimizer.apply_gradients(zip(tape.gradient(judge_loss, judges), judges, strict=True))
            self.optimizer.apply_gradients(zip(tape.gradient(maker_loss, makers), makers, strict=True))
            return {"loss": maker_loss, "discriminator_loss": judge_loss}

    return Adversaries()


RULES = TaskRules(
    task="generation",
    answers=(Answer("sample", "value", "values"),),
    measure=ENERGY_DISTANCE,
    units=n_inputs,
    ask=_ask,
    trainee=_trainee,
    validates=False,  # a generator's loss tells how it stands against its opponent, not how good it is
)
