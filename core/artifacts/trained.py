"""What training and loading lead to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgedl.core.artifacts.base import Artifact
from edgedl.core.artifacts.quality import Quality
from edgedl.core.contract import Contract


@dataclass(frozen=True)
class SplitRecord:
    """The data a model was trained and judged on.

    fingerprint: hash of the raw examples and labels, in order. counts: examples per split; `classes` per split and
    label. source: the recipe's data section.
    """

    source: Mapping[str, Any]
    fingerprint: str
    counts: Mapping[str, int]
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class CarriedOver:
    """How a model of Keras 3 (or a bare graph) became one of tf_keras, and how well the two agree.

    version: what wrote it, in words. road: "layers" (rebuilt one by one) or "frozen" (the graph as one constant layer:
    exported and quantised, never trained). random_error, extreme_error: largest difference of the outputs relative to
    the largest output, `measured` on 4 random and 6 extreme inputs; None where there is nothing to compare with.
    notes: what was hosted as a Keras 3 layer, or why the graph was frozen.
    """

    version: str
    road: Literal["layers", "frozen"]
    random_error: float | None
    extreme_error: float | None
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """One line for people."""
        road = "carried over layer by layer" if self.road == "layers" else "frozen as a whole graph"
        told = f"{self.version}, {road}"
        if self.random_error is None or self.extreme_error is None:
            return told
        return (
            f"{told}; answers differ by {self.random_error:.1e} of the largest on random inputs and "
            f"{self.extreme_error:.1e} on extreme ones (measured)"
        )


@dataclass(frozen=True, kw_only=True)
class TrainedModel(Artifact):
    """A Keras model (tf_keras, file `model.keras`) that does its task in float32.

    history: one mapping per finished epoch (epoch, loss, metrics, seconds). traces: how often each step function was
    traced by tf.function in the whole run (1 is what a static graph means). origin: "trained here" or the file it
    was read from. data: None for a model that was brought without data. carried: how a model that tf_keras cannot read
    was brought.
    """

    contract: Contract
    data: SplitRecord | None
    quality: Quality | None
    parameters: int
    macs: int
    layers: tuple[str, ...] = ()
    origin: str = "trained here"
    history: tuple[Mapping[str, float], ...] = ()
    traces: Mapping[str, int] = field(default_factory=dict[str, int])
    stopped: str = ""
    best_epoch: int | None = None
    model_file: str = "model.keras"
    carried: CarriedOver | None = None
