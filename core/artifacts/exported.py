"""What export leads to, and whether it answers as the Keras model does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgedl.core.artifacts.base import Artifact, Obtained
from edgedl.core.artifacts.quality import Quality, QualityChange
from edgedl.core.contract import Contract


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an exported file. scale and zero_point: real = scale × (stored − zero_point)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True, kw_only=True)
class ExportedModel(Artifact):
    """A file that an app ships.

    format: "tflite", "onnx", "saved-model", "coreml" or "c-array". model_file: the file (a folder for saved-model and
    coreml).
    layers: names of the Keras layers, to which ops are traced back. change: of quality, against the trained
    Keras model, judged on this very file. altered: folder of the Keras model that it was made from, where that is not
    the trained one.
    """

    format: str
    precision: str
    model_file: str
    contract: Contract
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    size_bytes: int
    gzip_bytes: int
    layers: tuple[str, ...] = ()
    change: QualityChange | None = None
    altered: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def quality(self) -> Quality | None:
        """How well this very file does its task."""
        return self.change.after if self.change else None

    @property
    def model_path(self) -> Path:
        """The exported file itself."""
        return self.folder / self.model_file


@dataclass(frozen=True)
class OutputParity:
    """How far one output is from the Keras model's, over all examples.

    max_abs_error, mean_abs_error: in the output's unit. relative_error: largest absolute error over the largest
    absolute reference value. sqnr_db: signal-to-quantization-noise ratio, 10·log10(Σ ref² / Σ error²), None when the
    outputs are equal. agreement: share of examples with the same arg-max (classifiers).
    """

    name: str
    max_abs_error: float
    mean_abs_error: float
    relative_error: float
    sqnr_db: float | None
    agreement: float | None


@dataclass(frozen=True, kw_only=True)
class ParityReport(Artifact):
    """The same answers? One exported file against its Keras model on the same `n` examples.

    judged_by: the rule that decided, in words; failures: what broke it. obtained: always "measured", on this host.
    """

    file: str
    against: str
    format: str
    precision: str
    n: int
    examples: str
    outputs: tuple[OutputParity, ...]
    judged_by: str
    passed: bool
    failures: tuple[str, ...] = ()
    obtained: Obtained = "measured"
