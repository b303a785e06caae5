"""The learning rate, step by step, as part of the static graph."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
import tf_keras

from edgedl.pipeline.recipe import Optimizer, Schedule


class RecipeSchedule(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Warm-up, then constant, cosine (Loshchilov & Hutter 2017, eq. 5, one period) or step decay.

    rate: the highest rate. total_steps, steps_per_epoch: of the whole run.
    """

    def __init__(self, rate: float, schedule: Schedule, steps_per_epoch: int, total_steps: int) -> None:
        self.rate, self.schedule = rate, schedule
        self.steps_per_epoch, self.total_steps = steps_per_epoch, total_steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The rate at `step` (scalar integer tensor), a float32 scalar."""
        now = tf.cast(step, tf.float32)
        warmup = self.schedule.warmup_epochs * self.steps_per_epoch
        if self.schedule.name == "cosine":
            progress = tf.clip_by_value((now - warmup) / max(1.0, self.total_steps - warmup), 0.0, 1.0)
            rate = self.rate * 0.5 * (1.0 + tf.cos(math.pi * progress))
        elif self.schedule.name == "step":
            drops = tf.floor(now / (self.schedule.every_epochs * self.steps_per_epoch))
            rate = self.rate * tf.pow(self.schedule.factor, drops)
        else:
            rate = tf.constant(self.rate)
        return tf.where(now < warmup, self.rate * (now + 1.0) / max(1.0, warmup), rate)


def build_optimizer(config: Optimizer, rate: RecipeSchedule) -> Any:
    """The tf_keras optimizer that the recipe names."""
    optimizers: Any = tf_keras.optimizers
    if config.name == "sgd":
        return optimizers.SGD(
            rate,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay or None,
            global_clipnorm=config.clip_norm,
        )
    if config.name == "adam":
        return optimizers.Adam(rate, global_clipnorm=config.clip_norm)
    decay = 0.004 if config.weight_decay is None else config.weight_decay
    return optimizers.AdamW(rate, weight_decay=decay, global_clipnorm=config.clip_norm)
