"""Everything that one recipe led to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedl.core.artifacts.audited import Audit
from edgedl.core.artifacts.compressed import CompressedModel
from edgedl.core.artifacts.exported import ExportedModel, ParityReport
from edgedl.core.artifacts.latency import LatencyReport
from edgedl.core.artifacts.trained import TrainedModel
from edgedl.core.artifacts.verdict import Verdict


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
