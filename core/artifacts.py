"""The typed results that flow from stage to stage, and how they are saved.

    TrainedModel ─► (AlteredModel ─►) CompressedModel ─► ExportedModel ─► ParityReport, LatencyReport ─► Verdict

Each is a frozen dataclass in a folder of its own: its files, and `manifest.json` with everything else.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from edgedl.core.contract import Contract
from edgedl.core.errors import InputError
from edgedl.core.files import FileRecord, sha256_of, write_atomically
from edgedl.core.statistics import Interval, exact

MANIFEST = "manifest.json"

Obtained = Literal["measured", "emulated", "estimated"]
"""How a figure came to be. Every figure shown to a user carries one."""


@dataclass(frozen=True)
class Record:
    """Where an artifact comes from.

    key: hash of all that determines it (stage, configuration, parents' content, versions); the store's key.
    content_hash: hash of what it is (its files and its contract); children name their parent by it.
    """

    key: str = ""
    content_hash: str = ""
    parents: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    machine: str = ""
    created_at: str = ""
    seconds: float = 0.0
    files: tuple[FileRecord, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What every result has: a name, its record, and the folder it lives in (not part of the manifest)."""

    name: str
    record: Record = field(default_factory=Record)
    folder: Path = Path()

    def path(self, name: str) -> Path:
        """The artifact's file of that name."""
        return self.folder / name

    def file_record(self, name: str) -> FileRecord:
        """Hash and sizes of the artifact's file of that name."""
        return next(entry for entry in self.record.files if entry.name == name)


A = TypeVar("A", bound=Artifact)


# --- quality -----------------------------------------------------------------------------------------------------


QualityMetric = Literal[
    "accuracy",
    "pixel accuracy",
    "move accuracy",
    "AUC",
    "mae",
    "reconstruction error",
    "noise error",
    "perplexity",
    "energy distance",
]
"""What quality is measured in; `pipeline.evaluate` defines each. The first four are shares, of which more is better."""

SHARES: tuple[QualityMetric, ...] = ("accuracy", "pixel accuracy", "move accuracy", "AUC")


@dataclass(frozen=True)
class Quality:
    """How well a model does its task on held-out data.

    value: the metric on `n` examples of `split`: a share from 0 to 1, or an error in the target's unit.
    interval: its 95 % confidence interval (Wilson's score interval for accuracies of one answer an example, percentile
        bootstrap over examples for the others).
    of: the precision and format that was judged, e.g. "keras float32", "tflite int8".
    """

    metric: QualityMetric
    value: float
    interval: Interval
    n: int
    split: str
    of: str
    obtained: Obtained = "measured"

    @property
    def is_share(self) -> bool:
        """Whether the metric is a share, told in per cent and points; larger is better then, and only then."""
        return self.metric in SHARES


@dataclass(frozen=True)
class QualityChange:
    """Quality after against before on the same examples, paired; positive `loss` means it got worse.

    For shares, in points (0.5 = half a point of 100); for errors, in their unit. The interval is Newcombe's for paired
    proportions (Newcombe 1998, Statistics in Medicine 17, method 10), or a paired bootstrap over examples.
    """

    before: Quality
    after: Quality
    loss: float
    interval: Interval


# --- train -------------------------------------------------------------------------------------------------------


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


# --- compress ----------------------------------------------------------------------------------------------------


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


# --- export ------------------------------------------------------------------------------------------------------


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


# --- verify ------------------------------------------------------------------------------------------------------


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


# --- profile -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpCost:
    """One op, in the order of execution.

    index: in the file; -1 for a kernel that could not be traced back to one op. layer: the Keras layer, if known.
    cost: in `unit`, for one inference; "MACs" (multiply–accumulates) where only the op's size is known. share: of all
    ops together. runs_on: the part of the device that computes it, where there is a choice ("cpu", "npu", "gpu"); ""
    where that is not known. note: why there, or what would change it.
    """

    index: int
    op: str
    layer: str | None
    cost: float
    unit: Literal["us", "instructions", "cycles", "MACs"]
    share: float
    runs_on: str = ""
    note: str = ""


@dataclass(frozen=True)
class Memory:
    """What the model adds to the memory of a process or chip. what: what was counted, e.g. "peak resident memory"."""

    model_bytes: int
    what: str
    runtime_bytes: int | None = None


@dataclass(frozen=True)
class Timing:
    """Measured times per inference.

    blocks_us: the raw samples in microseconds, by process, then block (blocks of all files alternate).
    p10_us, median_us, p90_us: estimate and 95 % interval (hierarchical bootstrap over processes and blocks).
    load_ms: reading the file to ready; first_ms: the first, cold inference.
    ratio: p10 over the first file's p10, of blocks timed side by side, with its interval over processes (None for the
        first file); `core.statistics.quantile_ratio` says how.
    """

    blocks_us: tuple[tuple[tuple[float, ...], ...], ...]
    p10_us: Interval
    median_us: Interval
    p90_us: Interval
    load_ms: float
    first_ms: float
    ratio: Interval | None = None

    @property
    def n(self) -> int:
        """Number of timed inferences."""
        return sum(len(block) for process in self.blocks_us for block in process)


@dataclass(frozen=True)
class Estimate:
    """A time per inference that nothing ran for. latency_us: with the bounds that `basis` explains."""

    latency_us: Interval
    basis: str


@dataclass(frozen=True)
class CacheMisses:
    """Misses of one level of a modelled data cache, per inference."""

    level: int
    kib: int
    ways: int
    misses: int


@dataclass(frozen=True)
class Instructions:
    """Instructions that one warm inference executes; at one thread the same every time.

    simd: of which dot (dot products, matrix multiplication) and multiply_add. inferences: how many were counted;
    spread: largest less smallest total among them.
    """

    total: int
    load: int
    store: int
    branch: int
    simd: int
    dot: int
    multiply_add: int
    other: int
    caches: tuple[CacheMisses, ...]
    inferences: int
    spread: int


@dataclass(frozen=True)
class DeviceParity:
    """The same answers there? A file's outputs on the device, and those of the same runtime on the host's CPU, for the
    same `n` random inputs.

    arithmetic: what the device was told to compute in, e.g. "float32", "float16". against: the runtime on the host.
    """

    arithmetic: str
    against: str
    n: int
    outputs: tuple[OutputParity, ...]


@dataclass(frozen=True)
class ModelLatency:
    """One file in a session. What a device cannot tell is None: a time where nothing was timed, memory, instructions.

    outputs: hash (FNV-1a, 64 bits) of each output's bytes for the session's random inputs. parity: where a device's
    arithmetic is its own, how far that takes the outputs. sparsity: share of zeros among the weights. energy_uj: of an
    inference, with all that the processor's packages drew meanwhile.
    """

    file: str
    sha256: str
    size_bytes: int
    runtime: str
    ops: tuple[OpCost, ...]
    timing: Timing | None = None
    estimate: Estimate | None = None
    instructions: Instructions | None = None
    memory: Memory | None = None
    energy_uj: float | None = None
    outputs: tuple[str, ...] = ()
    parity: tuple[DeviceParity, ...] = ()
    notes: tuple[str, ...] = ()
    sparsity: float | None = None


@dataclass(frozen=True)
class Speed:
    """The figure by which a session compares its files.

    what: "p10" of the measured times, "instructions" of an inference, or an "estimate" of its time. n: inferences seen.
    ratio: to the session's first file (None for that one); exact for instructions and estimates.
    """

    value: Interval
    unit: Literal["us", "instructions"]
    what: Literal["p10", "instructions", "estimate"]
    n: int
    obtained: Obtained
    ratio: Interval | None


@dataclass(frozen=True)
class Conditions:
    """The state of the machine around the session; None where the system does not tell."""

    load_average: float | None
    governor: str | None
    temperature_c: float | None
    threads: int
    xnnpack: bool
    battery_percent: float | None = None
    throttled: bool | None = None


@dataclass(frozen=True, kw_only=True)
class LatencyReport(Artifact):
    """One profiling session on one device, of all files together.

    device: e.g. "cpu", "arm64:raspberry-pi-5"; hardware: what it is. obtained: how times, instructions, costs per op
    and memory came to be; an `Estimate` is estimated whatever this says. processes, warm_up: how many were started,
    and inferences before the first sample. stopped: why sampling ended.
    """

    device: str
    hardware: str
    obtained: Obtained
    runtimes: Mapping[str, str]
    models: tuple[ModelLatency, ...]
    conditions: Conditions
    processes: int
    warm_up: int
    stopped: str
    seconds: float

    def speed(self, model: ModelLatency) -> Speed | None:
        """The best figure there is of one of the session's files; None where it has none."""
        if model.timing is not None:
            timing = model.timing
            return Speed(timing.p10_us, "us", "p10", timing.n, self.obtained, timing.ratio)
        first = self.models[0]
        if model.instructions is not None:
            total, n = model.instructions.total, model.instructions.inferences
            base = first.instructions.total if first.instructions and model is not first else None
            ratio = exact(total / base) if base else None
            return Speed(exact(total), "instructions", "instructions", n, self.obtained, ratio)
        if model.estimate is not None:
            value = model.estimate.latency_us
            base = first.estimate.latency_us.value if first.estimate and model is not first else None
            return Speed(value, "us", "estimate", 0, "estimated", exact(value.value / base) if base else None)
        return None


# --- check -------------------------------------------------------------------------------------------------------

Outcome = Literal["pass", "regressed", "improved", "inconclusive"]


@dataclass(frozen=True)
class Finding:
    """One question of a check: what was compared, against which limit, and the answer.

    change: new against old: a ratio for latency and size, points for accuracy. interval: None where exact.
    """

    what: Literal["latency", "size", "accuracy"]
    outcome: Outcome
    sentence: str
    old: float
    new: float
    change: float
    limit: float | None
    interval: Interval | None
    unit: str
    obtained: Obtained = "measured"


@dataclass(frozen=True, kw_only=True)
class Verdict(Artifact):
    """The answer of `check`: the worst of its findings (regressed, then inconclusive, improved, pass)."""

    new: str
    old: str
    outcome: Outcome
    findings: tuple[Finding, ...]
    latency: LatencyReport | None = None


# --- audit -------------------------------------------------------------------------------------------------------

AuditKey = Literal[
    "per_class_drop", "changed", "calibration_error", "corruption_drop", "fgsm_drop", "disagreement"
]  # fmt: skip
"""What limits of an audit are named by; `pipeline.audit` defines each."""


@dataclass(frozen=True)
class AuditFigure:
    """One thing that compression may have changed, on the same `n` examples before and after.

    what: in words, e.g. "noise". before, after: of the uncompressed Keras model and of the file; None where the figure
    is itself a comparison. change: positive is worse, with its interval. unit: "points", "%" of the examples, or
    that of the task's error. outcome: None where no limit was set; "inconclusive" where the interval holds the limit.
    """

    key: AuditKey
    what: str
    before: Interval | None
    after: Interval | None
    change: Interval
    unit: str
    n: int
    limit: float | None = None
    outcome: Outcome | None = None
    obtained: Obtained = "measured"


@dataclass(frozen=True, kw_only=True)
class AuditReference(Artifact):
    """The uncompressed Keras model's answers to an audit's inputs, which every variant is compared with.

    answers.npz: the first output by the inputs' name; attack.npz: the FGSM inputs, where there are any. positions: of
    the test examples. refused: inputs that do not apply to this model, with the reason.
    """

    positions: tuple[int, ...]
    inputs: tuple[str, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Audit(Artifact):
    """A compressed file compared with its origin beyond one accuracy number. name: the variant's.

    examples: what it was judged on, in words. does_not_apply: what was not judged, with the reason.
    """

    file: str
    examples: str
    figures: tuple[AuditFigure, ...]
    does_not_apply: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The worst of the figures that have a limit."""
        found = {one.outcome for one in self.figures}
        return "regressed" if "regressed" in found else "inconclusive" if "inconclusive" in found else "pass"


# --- the whole run -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """Everything one recipe led to, in order; what the report shows.

    recipe: the checked recipe, with its defaults. reused: folders of artifacts that were there already.
    """

    name: str
    folder: Path
    recipe: Mapping[str, Any]
    trained: TrainedModel
    compressed: tuple[CompressedModel, ...]
    exported: tuple[ExportedModel, ...]
    parity: tuple[ParityReport, ...]
    latency: tuple[LatencyReport, ...]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    reused: tuple[str, ...]
    seconds: float
    audits: tuple[Audit, ...] = ()


# --- saving and loading ------------------------------------------------------------------------------------------

KINDS: dict[str, type[Artifact]] = {
    "trained": TrainedModel,
    "altered": AlteredModel,
    "compressed": CompressedModel,
    "sensitivity": SensitivityReport,
    "exported": ExportedModel,
    "parity": ParityReport,
    "latency": LatencyReport,
    "verdict": Verdict,
    "audit-reference": AuditReference,
    "audit": Audit,
}


@functools.cache
def _adapter(kind: type[Any]) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def to_json(value: object) -> Any:
    """A dataclass as plain JSON types; an artifact loses its folder, which only this machine has."""
    data = _adapter(type(value)).dump_python(value, mode="json")
    if isinstance(value, Artifact):
        del data["folder"]
    return data


def from_json(kind: type[Any], data: Any) -> Any:
    """The dataclass `kind` from plain JSON types. Raises InputError naming what does not fit."""
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(data, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"not a {kind.__name__}", received=f"{where}: {first['msg']}") from None


def json_schema(kind: type[Any]) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of what `to_json` makes of such a result."""
    schema = _adapter(kind).json_schema(mode="serialization")
    if issubclass(kind, Artifact):
        del schema["properties"]["folder"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def kind_of(artifact: Artifact) -> str:
    """The manifest's word for the artifact's type."""
    return next(word for word, kind in KINDS.items() if type(artifact) is kind)


def save_artifact(artifact: Artifact) -> None:
    """Write `manifest.json` into the artifact's folder."""
    content = {"kind": kind_of(artifact), **to_json(artifact)}
    write_atomically(artifact.folder / MANIFEST, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def load_artifact(folder: Path) -> Artifact:
    """Read the artifact of `folder`, whatever its kind. Raises InputError when there is none or it is damaged."""
    try:
        data = json.loads((folder / MANIFEST).read_text())
        kind = KINDS[data.pop("kind")]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            f"{folder} holds no artifact of edgedl",
            required=f"a folder with a {MANIFEST} that a stage wrote",
            received=type(error).__name__,
        ) from None
    return replace(from_json(kind, data), folder=folder)


def is_intact(artifact: Artifact) -> bool:
    """Whether every recorded file is still there with its recorded content."""
    return all(
        (path := artifact.folder / entry.name).is_file() and sha256_of(path) == entry.sha256
        for entry in artifact.record.files
    )


def field_names(kind: type[Artifact]) -> Sequence[str]:
    """The fields of an artifact kind, in order."""
    return [entry.name for entry in fields(kind)]
