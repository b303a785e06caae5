"""What compression leads to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgedl.core.artifacts.base import Artifact, Obtained
from edgedl.core.artifacts.quality import QualityChange
from edgedl.core.artifacts.trained import TrainedModel
from edgedl.core.contract import Contract


@dataclass(frozen=True)
class Quantization:
    """What a post-training scheme asks of the converter. Shapes and names of the model stay as they are.

    weights: type that constant weights are stored in; activations: type that the kernels compute in. A dynamic-range
    kernel takes integer weights as they are, weight-only ones are made float when the file is loaded.
    io: type of the model's own inputs and outputs; "integer" means the activations' type. dense_scales: whether the
    integer weights of a dense layer have a scale for each output or one in all; convolutions have one for each.
    """

    method: Literal[
        "float32", "float16", "dynamic-range", "int8", "int16x8", "mixed", "weight-only-int8", "weight-only-int4"
    ]
    weights: Literal["float32", "float16", "int8", "int4"]
    activations: Literal["float32", "int8", "int16"]
    io: Literal["float", "integer"] = "float"
    dense_scales: Literal["per-channel", "per-tensor"] = "per-channel"

    @property
    def needs_calibration(self) -> bool:
        """Whether the ranges of activations have to be seen on representative data."""
        return self.activations != "float32"


@dataclass(frozen=True)
class CalibrationWarning:
    """What the calibration linter suspects. layer: the Keras layer it is about, None for an input or all of them."""

    kind: Literal["too-few-examples", "dead-channels", "saturated", "outliers", "inputs-differ", "not-checked"]
    layer: str | None
    said: str


@dataclass(frozen=True)
class CalibrationRecord:
    """The representative data set: how many training examples, drawn with which seed, and what was seen.

    method: how ranges came of it ("min-max", "percentile 99.99", "mse", "entropy"). warnings: of the linter.
    """

    n: int
    seed: int
    split: str
    sha256: str
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    method: str = "min-max"
    warnings: tuple[CalibrationWarning, ...] = ()


@dataclass(frozen=True)
class FloatOp:
    """An op that stayed in floating point although the scheme asked for integers, and why."""

    index: int
    op: str
    layer: str | None
    reason: str


@dataclass(frozen=True)
class WeightPromise:
    """What was done to one weight tensor of a Keras layer, to be found again in the exported file.

    weight: its name in the layer, e.g. "kernel". shape: Keras's. sparsity: share of zeros (0 to 1). pattern: how the
    zeros lie: anywhere, in blocks, or two in every four values in a row along the input channels ("2:4"). clusters: the
    most distinct values it may have. grid: they are whole multiples of a step, and counted in each output channel.
    """

    layer: str
    weight: str
    shape: tuple[int, ...]
    sparsity: float | None = None
    pattern: Literal["unstructured", "block", "2:4"] | None = None
    clusters: int | None = None
    grid: bool = False


@dataclass(frozen=True)
class KeptPromise:
    """A promise, and what the exported file holds.

    tensor: its name in the file. sparsity: share of stored zeros. distinct: number of distinct stored values;
    per_channel: whether they were counted in each output channel (the largest counts), because a BatchNorm was folded
    in or the scales or steps are per channel. kept: whether the promise holds; it is an error of the stage where it
    does not.
    """

    promise: WeightPromise
    tensor: str
    sparsity: float
    distinct: int
    per_channel: bool
    kept: bool


@dataclass(frozen=True)
class SkippedLayer:
    """A layer that a technique left as it was, and why."""

    layer: str
    kind: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class AlteredModel(TrainedModel):
    """A Keras model that a technique made of another: pruned, clustered, distilled, fine-tuned, made narrower.

    method: of the technique. change: of quality, against the model that the chain began with. control: the same for
    that step's input fine-tuned in the same way without the technique; None where nothing was fine-tuned or no control
    was asked for. promises: of this step and of those before it that it kept. said: what was done, in sentences.
    fake_quant: folder of a SavedModel with learnt ranges (QAT). figures: numbers by name, with units in the names.
    """

    method: str
    change: QualityChange | None = None
    control: QualityChange | None = None
    promises: tuple[WeightPromise, ...] = ()
    skipped: tuple[SkippedLayer, ...] = ()
    said: tuple[str, ...] = ()
    fake_quant: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Step:
    """One alteration of a chain, as a result shows it. See `AlteredModel`, whose folder is named."""

    method: str
    folder: str
    parameters: int
    macs: int
    change: QualityChange | None
    control: QualityChange | None
    said: tuple[str, ...]
    skipped: tuple[SkippedLayer, ...]


@dataclass(frozen=True)
class LayerSensitivity:
    """What it costs when one layer alone is int8 and all others are float32, on validation examples.

    layer: the Keras layer, or an op of which names tell no layer ("SOFTMAX after dense"). ops: its kinds in the file;
    tensors: the outputs of these ops; ops that only move values count to the layer before them. lost: points of a
    share, or per cent by which an error grew, with the interval of `change`. sqnr_db: of the model's judged output;
    None when int8 changed nothing.
    """

    layer: str
    ops: tuple[str, ...]
    tensors: tuple[str, ...]
    lost: float
    change: QualityChange
    sqnr_db: float | None


@dataclass(frozen=True)
class RepairTried:
    """One repair of a quantized model: what was done, and the loss on validation examples without and with it.

    lost_before, lost_after: points of a share, or per cent by which an error grew, against the float32 file; before is
    the best so far; after is None where the repair could not be done (`said` tells why). sqnr_db_…: of the judged
    output. kept: whether the file has it. skipped: layers that it left alone.
    """

    repair: str
    lost_before: float
    lost_after: float | None
    change: QualityChange | None
    sqnr_db_before: float | None
    sqnr_db_after: float | None
    n: int
    seconds: float
    kept: bool
    said: tuple[str, ...] = ()
    skipped: tuple[SkippedLayer, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CompressedModel(Artifact):
    """A smaller or faster variant, judged on the TFLite file that an app would ship (`model.tflite`).

    integer_ops: share (0 to 1) of computing ops whose outputs are integers. calibration: None where none was needed;
    its examples are kept as `calibration.npz` (one array per input name, shape n × input shape) and serve every
    format. notes: what was skipped or fell back, in sentences. parameters, macs: of the Keras model that was converted;
    float_parameters, float_macs: of the model that it began as. steps: what altered the Keras model; `altered` is the
    folder (beside this one) of the last step's model. kept: what the steps promised, found in the file. tried: repairs
    of int8, in order. kept_float: layers that were left in float32 on purpose, the most sensitive first.
    """

    quantization: Quantization
    contract: Contract
    size_bytes: int
    gzip_bytes: int
    float_size_bytes: int
    float_gzip_bytes: int
    quality: QualityChange | None
    integer_ops: float
    float_ops: tuple[FloatOp, ...]
    calibration: CalibrationRecord | None
    parameters: int = 0
    macs: int = 0
    float_parameters: int = 0
    float_macs: int = 0
    steps: tuple[Step, ...] = ()
    kept: tuple[KeptPromise, ...] = ()
    tried: tuple[RepairTried, ...] = ()
    kept_float: tuple[LayerSensitivity, ...] = ()
    altered: str | None = None
    notes: tuple[str, ...] = ()
    model_file: str = "model.tflite"


@dataclass(frozen=True, kw_only=True)
class SensitivityReport(Artifact):
    """How much each layer of a model suffers from int8, the worst first; `sensitivity.png` shows it.

    plain: the loss when all layers are int8; rows as in `LayerSensitivity`. All on the same `n` validation examples.
    skipped: layers that the converter cannot bring into integers.
    """

    plain: QualityChange
    plain_lost: float
    plain_sqnr_db: float | None
    n: int
    rows: tuple[LayerSensitivity, ...]
    skipped: tuple[SkippedLayer, ...]
    calibration: CalibrationRecord
    picture: str = "sensitivity.png"
    obtained: Obtained = "measured"
