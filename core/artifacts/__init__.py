"""The typed results that flow from stage to stage, and how they are saved.

    TrainedModel ─► (AlteredModel ─►) CompressedModel ─► ExportedModel ─► ParityReport, LatencyReport ─► Verdict

Each is a frozen dataclass in a folder of its own: its files, and `manifest.json` with everything else.
"""

from edgedl.core.artifacts.audited import Audit, AuditFigure, AuditKey, AuditReference
from edgedl.core.artifacts.base import A, Artifact, Obtained, Record
from edgedl.core.artifacts.compressed import (
    AlteredModel,
    CalibrationRecord,
    CalibrationWarning,
    CompressedModel,
    FloatOp,
    KeptPromise,
    LayerSensitivity,
    Quantization,
    RepairTried,
    SensitivityReport,
    SkippedLayer,
    Step,
    WeightPromise,
)
from edgedl.core.artifacts.exported import ExportedModel, OutputParity, ParityReport, TensorSpec
from edgedl.core.artifacts.latency import (
    CacheMisses,
    Conditions,
    DeviceParity,
    Estimate,
    Instructions,
    LatencyReport,
    Memory,
    ModelLatency,
    OpCost,
    Speed,
    Timing,
)
from edgedl.core.artifacts.quality import SHARES, Quality, QualityChange, QualityMetric
from edgedl.core.artifacts.run import Run
from edgedl.core.artifacts.saving import (
    KINDS,
    MANIFEST,
    field_names,
    from_json,
    is_intact,
    json_schema,
    kind_of,
    load_artifact,
    save_artifact,
    to_json,
)
from edgedl.core.artifacts.trained import CarriedOver, SplitRecord, TrainedModel
from edgedl.core.artifacts.verdict import Checked, Figures, Finding, Gate, NoiseFloor, OpChange, Outcome, Verdict

__all__ = [
    "A",
    "AlteredModel",
    "Artifact",
    "Audit",
    "AuditFigure",
    "AuditKey",
    "AuditReference",
    "CacheMisses",
    "CalibrationRecord",
    "CalibrationWarning",
    "CarriedOver",
    "Checked",
    "CompressedModel",
    "Conditions",
    "DeviceParity",
    "Estimate",
    "ExportedModel",
    "Figures",
    "Finding",
    "Gate",
    "FloatOp",
    "Instructions",
    "KINDS",
    "KeptPromise",
    "LatencyReport",
    "LayerSensitivity",
    "MANIFEST",
    "Memory",
    "ModelLatency",
    "Obtained",
    "NoiseFloor",
    "OpChange",
    "OpCost",
    "Outcome",
    "OutputParity",
    "ParityReport",
    "Quality",
    "QualityChange",
    "QualityMetric",
    "Quantization",
    "Record",
    "RepairTried",
    "Run",
    "SHARES",
    "SensitivityReport",
    "SkippedLayer",
    "Speed",
    "SplitRecord",
    "Step",
    "TensorSpec",
    "Timing",
    "TrainedModel",
    "Verdict",
    "WeightPromise",
    "field_names",
    "from_json",
    "is_intact",
    "json_schema",
    "kind_of",
    "load_artifact",
    "save_artifact",
    "to_json",
]
