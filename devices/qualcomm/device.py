"""`qualcomm:SOC`: Qualcomm's NPU (the Hexagon Tensor Processor) in Qualcomm's own x86 emulator, for ONNX files.

The emulator computes what the chip would, by other means: which nodes the NPU takes, what the answers are and what the
chip's context binary weighs is emulated. How long it takes has nothing to do with the chip, so there is no latency.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from edgedl.core.artifacts import LatencyReport, ModelLatency, OpCost
from edgedl.core.console import reporter
from edgedl.core.errors import ModelError, StageError
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile, OpFacts
from edgedl.core.provenance import version_of
from edgedl.devices import onnx_runtime, parity
from edgedl.devices.checks import check_available, check_formats, check_target
from edgedl.devices.child import in_child
from edgedl.devices.native import host_architecture
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.qualcomm.emulator import MODULE, PACKAGE, Emulated, Placed, compile_for, emulate, plain_name
from edgedl.devices.qualcomm.socs import Soc, socs
from edgedl.devices.results import latency_report

LICENCE = "its libraries are under Qualcomm's AI Stack License, which installing it accepts"
T = TypeVar("T")

GONE = "ONNX Runtime folded or rebuilt it before placement"


@dataclass(frozen=True)
class Qualcomm:
    """The `qualcomm` device."""

    name: str = "qualcomm"
    summary: str = "Qualcomm's NPU in Qualcomm's emulator: placement, accuracy, context binary (emulated); no latency"
    undisturbed: bool = True
    exact: bool = True

    def targets(self) -> Sequence[str]:
        """Chips."""
        return tuple(socs())

    def status(self) -> DeviceStatus:
        """Whether Qualcomm's package is installed on a machine that it can emulate on."""
        if host_architecture() != "x86_64":
            detail = f"Qualcomm's emulator runs on x86-64 Linux, not on {host_architecture()}"
            return DeviceStatus(False, detail, ("x86-64 Linux",))
        if importlib.util.find_spec(MODULE) is None:
            detail = f"{PACKAGE} is not installed ({LICENCE})"
            return DeviceStatus(False, detail, (PACKAGE,), "pip install 'edgedl[qualcomm]'")
        return DeviceStatus(True, f"{PACKAGE} {version_of(PACKAGE)}; {LICENCE}")

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Compile every file for the chip, see where its nodes run and how far the answers are from the CPU's."""
        check_available(self)
        soc = socs()[check_target(self, target)]
        check_formats(files, self.name, "onnx")
        started = time.monotonic()
        names = ", ".join(file.path.name for file in files)
        models: list[ModelLatency] = []
        with reporter().progress(f"emulating {names}", len(files)) as bar:
            for file in files:
                models.append(_model(file, soc, plan.seed, plan.budget_s / len(files)))
                bar.update(len(models), file.path.name)
        return latency_report(
            files,
            models,
            plan,
            device=f"{self.name}:{soc.name}",
            hardware=f"{soc.words}, as {PACKAGE} {version_of(PACKAGE)} emulates it; latency is not emulated",
            obtained="emulated",
            runtimes={name: version_of(name) or "" for name in (onnx_runtime.PACKAGE, PACKAGE)},
            processes=len(files),
            stopped="emulated",
            started=started,
        )

    @property
    def compiler(self) -> str:
        """The package that holds Qualcomm's library."""
        return PACKAGE

    @property
    def compiles(self) -> Literal["onnx"]:
        """ONNX files."""
        return "onnx"

    def refusal(self, precision: str, target: str | None) -> str | None:
        """Float files, on chips whose NPU computes integers only."""
        soc = socs()[check_target(self, target)]
        if precision == "int8" or soc.float16:
            return None
        return f"the NPU of {soc.soc_type} computes integers only; {precision} is not compiled for it"

    def compile(self, file: ModelFile, target: str | None, written: Path) -> None:
        """Write the chip's context binary and the ONNX file around it, which an app loads."""
        check_available(self)
        soc = socs()[check_target(self, target)]
        check_formats([file], self.name, "onnx")
        with tempfile.TemporaryDirectory(prefix="edgedl-qualcomm-") as rest:
            compiled = _in_child(file, compile_for, soc, written.absolute(), Path(rest))
        if not compiled:
            raise ModelError(
                f"nothing of {file.path.name} runs on the NPU of {soc.soc_type}",
                required="a file that its compiler takes at least a part of",
                advice=_cause(file, soc) or f"`edgedl profile --device {self.name}:{soc.name}` tells why",
            )


device = Qualcomm()


def _model(file: ModelFile, soc: Soc, seed: int, seconds: float) -> ModelLatency:
    found = _emulated(file, soc, seed, seconds)
    ops = place(file.facts.ops, found.placed)
    notes = _placement(file, ops, soc)
    if found.context_bytes is not None:
        notes += parity.words([found.parity], "the NPU")
        chip, arch = found.built_for or (soc.soc_type, soc.htp_arch)
        notes.append(
            f"context binary for {chip} (HTP v{arch}): {found.context_bytes:,} bytes; "
            f"`edgedl export --to {device.name}:{soc.name}` writes it"
        )
    return ModelLatency(
        file=file.path.name,
        sha256=sha256_of(file.path),
        size_bytes=file.facts.size_bytes,
        runtime=f"{onnx_runtime.version()} with {PACKAGE} {version_of(PACKAGE)}",
        ops=ops,
        parity=(found.parity,) if found.context_bytes is not None else (),
        notes=tuple(notes),
    )


def _emulated(file: ModelFile, soc: Soc, seed: int, seconds: float) -> Emulated:
    name = file.path.name
    with tempfile.TemporaryDirectory(prefix="edgedl-qualcomm-") as folder:
        found = _in_child(file, emulate, soc, seed, seconds, Path(folder))
    if found.built_for not in (None, (soc.soc_type, soc.htp_arch)):
        raise StageError(
            f"Qualcomm's library compiled {name} for another chip",
            required=f"{soc.soc_type}, HTP v{soc.htp_arch}",
            received=f"{found.built_for}",
            advice=f"Install the version of {PACKAGE} that edgedl was tried with",
        )
    return found


def _in_child(file: ModelFile, function: Callable[..., T], *arguments: object) -> T:
    """`function(path, *arguments)` in a child."""
    return in_child(function, file.path.absolute(), *arguments, subject=file.path.name, runs_in="Qualcomm's library")


def place(facts: Sequence[OpFacts], placed: Sequence[Placed]) -> tuple[OpCost, ...]:
    """One row per node of the file, with its multiply–accumulates: where it runs, and why not on the NPU.

    A node without a name is where all executed nodes of its kind are. One that is not executed has no place.
    """
    by_name = {one.name: one for one in placed if one.name}
    total = sum(fact.macs for fact in facts) or 1
    rows: list[OpCost] = []
    for fact in facts:
        alike = [one for one in placed if one.op == fact.op]
        one = by_name.get(plain_name(fact.name)) if fact.name else None
        if one is None and not fact.name and len({each.on_npu for each in alike}) == 1:
            one = alike[0]
        where, note = ("", GONE) if one is None else ("npu" if one.on_npu else "cpu", one.reason)
        rows.append(OpCost(fact.index, fact.op, fact.layer, fact.macs, "MACs", fact.macs / total, where, note))
    return tuple(rows)


def _placement(file: ModelFile, ops: Sequence[OpCost], soc: Soc) -> list[str]:
    on_npu = [op for op in ops if op.runs_on == "npu"]
    on_cpu = [op for op in ops if op.runs_on == "cpu"]
    by_reason: dict[str, list[str]] = {}
    for op in on_cpu:
        by_reason.setdefault(op.note or "no reason given", []).append(op.op)
    reasons = "; ".join(f"{len(kinds)} {', '.join(sorted(set(kinds)))} ({why})" for why, kinds in by_reason.items())
    if not on_npu:
        cause = _cause(file, soc) or f"Qualcomm's provider says: {reasons}"
        sentence = f"NOTHING RUNS ON THE NPU: all {len(on_cpu)} nodes fall back to the CPU. {cause}"
        reporter().warn(f"{file.path.name} on {soc.soc_type}: {sentence}")
        return [sentence]
    share = sum(op.share for op in on_npu)
    notes = [f"{len(on_npu)} of {len(on_npu) + len(on_cpu)} nodes run on the NPU, {share:.1%} of multiply–accumulates"]
    if on_cpu:
        notes.append(f"on the CPU: {reasons}")
    if any(fact.precision == "float32" and fact.macs for fact in file.facts.ops) and file.facts.precision == "float32":
        notes.append("the NPU computes this float32 file in float16; int8 (QDQ) is what it is built for")
    return notes


def _cause(file: ModelFile, soc: Soc) -> str:
    """Why nothing runs on the NPU, where the file itself shows it."""
    dynamic = [one for one in file.facts.inputs if any(side < 1 for side in one.shape)]
    if dynamic:
        names = ", ".join(f"{one.name} {list(one.shape)}" for one in dynamic)
        return f"A size is left open ({names}; -1 is open), and the NPU needs all: export with `--batch 1`"
    if file.facts.precision == "float32" and not soc.float16:
        return f"{soc.soc_type} computes integers only: use an int8 ONNX file (QDQ)"
    return ""
