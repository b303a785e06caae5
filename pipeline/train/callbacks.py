"""Around model.fit: what happens after an epoch, and the bar that moves meanwhile."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from edgedl.core.console import Progress
from edgedl.models import KerasModel
from edgedl.pipeline.recipe import EarlyStopping
from edgedl.pipeline.train.checkpoint import History, save_best, save_checkpoint
from edgedl.pipeline.train.schedule import RecipeSchedule


class Rows(tf_keras.callbacks.Callback):
    """Keeps the history of a training that is not resumed. history: a mapping for each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[dict[str, float]] = []
        self.started = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep the epoch's figures."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.history.append({"epoch": epoch + 1.0, **values, "seconds": time.monotonic() - self.started})


class AfterEpoch(tf_keras.callbacks.Callback):
    """Keeps the history, the checkpoint, the best weights and TensorBoard's scalars; stops early.

    history: continued in place. Whether to stop depends on the history alone, so a resumed run decides alike.
    """

    model: KerasModel  # set by Keras

    def __init__(
        self, folder: Path, history: History, rate: RecipeSchedule, stopping: EarlyStopping | None, phase: int
    ) -> None:
        super().__init__()
        self.phase = phase
        self.folder, self.history, self.rate, self.stopping = folder, history, rate, stopping
        self.writer = tf.summary.create_file_writer(str(folder / "tensorboard"))
        self.started = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Record the epoch, then save: the best weights first, so that the checkpoint never promises absent ones."""
        values: dict[str, float] = {"epoch": epoch + 1.0}
        if self.phase:
            values["phase"] = float(self.phase)
        values |= {name: float(value) for name, value in (logs or {}).items()}
        values["seconds"] = time.monotonic() - self.started
        values["learning_rate"] = float(self.rate(self.model.optimizer.iterations))
        self.history.append(values)
        if self.stopping is not None:
            if best_epoch(self.history, self.stopping) == len(self.history) and self.stopping.restore_best:
                save_best(self.folder, self.model)
            self.model.stop_training = should_stop(rows_of(self.history, self.phase), self.stopping)
        with self.writer.as_default(step=epoch + 1):
            for name, value in values.items():
                if name not in ("epoch", "phase"):
                    tf.summary.scalar(name, value)
        self.writer.flush()
        save_checkpoint(self.folder, self.model, self.history)

    def on_train_end(self, logs: Any = None) -> None:
        """Close TensorBoard's file."""
        self.writer.close()


class ProgressBar(tf_keras.callbacks.Callback):
    """Moves the bar a few times a second; reads losses only then, so that no step waits for it."""

    _supports_tf_logs = True  # tf_keras: leave the logs as tensors

    def __init__(self, bar: Progress, steps_per_epoch: int, epochs: int) -> None:
        super().__init__()
        self.bar, self.steps_per_epoch, self.epochs = bar, steps_per_epoch, epochs
        self.epoch, self.shown = 0, 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remember which epoch this is."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Show the running loss and metrics."""
        now = time.monotonic()
        if now - self.shown < 0.3:
            return
        self.shown = now
        words = " ".join(f"{name} {float(value):.4f}" for name, value in (logs or {}).items())
        done = self.epoch * self.steps_per_epoch + batch + 1
        self.bar.update(done, f"epoch {self.epoch + 1}/{self.epochs} {words}")


def rows_of(history: Sequence[dict[str, float]], phase: int) -> list[dict[str, float]]:
    """The epochs of a phase (0 is the first)."""
    return [values for values in history if values.get("phase", 0) == phase]


def best_epoch(history: Sequence[dict[str, float]], stopping: EarlyStopping) -> int:
    """The epoch (from 1) with the best value of the watched metric; the first of equals. 0 for no history."""
    best, found = math.inf, 0
    for i, values in enumerate(history, start=1):
        value = _score(values, stopping.metric)
        if value < best - stopping.min_delta or found == 0:
            best, found = value, i
    return found


def should_stop(history: Sequence[dict[str, float]], stopping: EarlyStopping) -> bool:
    """Whether `patience` epochs went by without improvement."""
    return len(history) - best_epoch(history, stopping) >= stopping.patience


def _score(values: dict[str, float], metric: str) -> float:
    """Smaller is better."""
    value = values[f"val_{metric}"]
    if math.isnan(value):
        return math.inf
    return -value if metric.endswith(("accuracy", "top5", "auc", "precision", "recall")) else value
