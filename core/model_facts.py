"""What a model file is, whatever its format: the answer of `edgedl inspect`, and what a device is handed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgedl.core.artifacts import TensorSpec


@dataclass(frozen=True)
class OpFacts:
    """One layer (Keras) or op (TFLite, ONNX) in order of execution.

    layer: the Keras layer it came from, where names tell. precision: of its output ("float32", "int8" …).
    macs: multiply–accumulates for one example; parameters: number of constant weights it reads; weight_bytes: their
    stored size.
    """

    index: int
    op: str
    name: str
    layer: str | None
    precision: str
    output_shape: tuple[int, ...]
    macs: int
    parameters: int
    weight_bytes: int


@dataclass(frozen=True)
class ModelFacts:
    """A model file in figures.

    kind: "keras-2", "h5", "saved-model", "tflite", "onnx" …; precision: the scheme in a word ("float32", "int8",
    "dynamic-range", "mixed"), told from the ops. signature: names of inputs and outputs as an app sees them.
    metadata: what the file says about itself (description, labels, normalisation, versions). notes: oddities.
    zeros: how many of the parameters are zero, None where it was not counted.
    """

    file: str
    kind: str
    size_bytes: int
    gzip_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ops: tuple[OpFacts, ...]
    parameters: int
    macs: int
    precision: str
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()
    zeros: int | None = None

    @property
    def sparsity(self) -> float | None:
        """The share of zeros among the parameters."""
        return None if self.zeros is None or not self.parameters else self.zeros / self.parameters

    @property
    def op_counts(self) -> dict[str, int]:
        """How often each kind of op or layer occurs, most frequent first."""
        counts: dict[str, int] = {}
        for op in self.ops:
            counts[op.op] = counts.get(op.op, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True)
class ModelFile:
    """A TFLite or ONNX file on its way to a device."""

    path: Path
    facts: ModelFacts

    @property
    def format(self) -> str:
        """ "tflite" or "onnx"."""
        return self.facts.kind
