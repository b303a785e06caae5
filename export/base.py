"""What every exporter is handed, and what it has to answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedl.core.artifacts import Quantization
from edgedl.core.contract import Contract
from edgedl.core.isolation import DEFAULT_LIMITS, Limits


@dataclass(frozen=True)
class ExportSource:
    """One variant of a model on its way into a format.

    name: of the model, for file names and errors. keras: its file. batch: static batch size, None leaves it open.
    layers: names of the Keras layers. saved_model, tflite, onnx: the variant's graph in a format that others are made
    from, where it exists already (`needs` of the exporter); float_saved_model, float_onnx: the float32 model's.
    calibration: .npz with one array per input, where the precision needs it.
    """

    name: str
    variant: str
    quantization: Quantization
    contract: Contract
    layers: tuple[str, ...]
    keras: Path
    batch: int | None = 1
    limits: Limits = DEFAULT_LIMITS
    saved_model: Path | None = None
    float_saved_model: Path | None = None
    tflite: Path | None = None
    onnx: Path | None = None
    float_onnx: Path | None = None
    calibration: Path | None = None

    @property
    def stem(self) -> str:
        """File name without ending."""
        return f"{self.name}-{self.variant}"


@dataclass(frozen=True)
class Exporter:
    """One format.

    refusal: why the format has no such precision, or None when it has. write: put the file (or folder) into the given
    folder and return its path; raises ModelError, StageError. needs: the formats that must be there first.
    tool: an optional package that writes the format; a file of another version of it is made anew.
    """

    format: str
    needs: tuple[Literal["saved_model", "float_saved_model", "tflite", "onnx", "float_onnx"], ...]
    refusal: Callable[[Quantization], str | None]
    write: Callable[[ExportSource, Path], Path]
    tool: str | None = None
