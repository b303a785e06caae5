"""`ethos-u55`, `ethos-u65`, `ethos-u85`: Arm's microNPUs, through Arm's compiler Vela (extra `ethos`).

Nothing runs: Vela compiles the file and its own model of the hardware gives cycles per layer, so all is estimated. Ops
that the NPU cannot take stay on the CPU beside it; Vela does not estimate those.
"""

from __future__ import annotations

import csv
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedl.core.artifacts import Estimate, LatencyReport, Memory, ModelLatency, OpCost
from edgedl.core.errors import ModelError
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile, OpFacts
from edgedl.core.provenance import version_of
from edgedl.core.statistics import exact
from edgedl.devices.checks import check_available, check_formats, check_target
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.results import latency_report

PACKAGE, MODULE = "ethos-u-vela", "ethosu"
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class EthosU:
    """One family of NPUs. targets are the multiply–accumulates per cycle; system and memory: sections of Vela's
    configuration file Arm/vela.ini, named in every result."""

    family: str
    macs: tuple[str, ...]
    system: str
    memory: str
    undisturbed: bool = True
    exact: bool = True

    @property
    def name(self) -> str:
        """ "ethos-u55" …"""
        return f"ethos-{self.family}"

    @property
    def summary(self) -> str:
        """For `edgedl devices`."""
        return f"Arm Ethos-{self.family.upper()}, a microcontroller's NPU: Vela's cycles and memory (estimated)"

    def targets(self) -> Sequence[str]:
        """Multiply–accumulates per cycle."""
        return self.macs

    def status(self) -> DeviceStatus:
        """Whether Vela is installed."""
        if importlib.util.find_spec(MODULE) is None:
            return DeviceStatus(False, f"{PACKAGE} is not installed", (PACKAGE,), "pip install 'edgedl[ethos]'")
        return DeviceStatus(True, f"Vela {version_of(PACKAGE)}, {self.system}, {self.memory}")

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Compile every file for the NPU and read what Vela estimates."""
        check_available(self)
        target = check_target(self, target)
        check_formats(files, self.name, "tflite")
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="edgedl-vela-") as folder:
            models = tuple(
                _latency(file, compile_file(file, self, target, Path(folder) / str(index)))
                for index, file in enumerate(files)
            )
        return latency_report(
            files,
            models,
            plan,
            device=f"{self.name}:{target}",
            hardware=f"Arm Ethos-{self.family.upper()} with {target} MACs per cycle ({self.system}, {self.memory})",
            obtained="estimated",
            runtimes={"Vela": version_of(PACKAGE) or ""},
            stopped="compiled",
            started=started,
        )

    @property
    def compiler(self) -> str:
        """Vela."""
        return PACKAGE

    @property
    def compiles(self) -> Literal["tflite"]:
        """TFLite files."""
        return "tflite"

    def refusal(self, precision: str, target: str | None) -> str | None:
        """Whatever is not quantized to integers."""
        check_target(self, target)
        if precision in {"int8", "int16x8"}:
            return None
        return f"Ethos-{self.family.upper()} computes integers only; {precision} is not compiled for it"

    def compile(self, file: ModelFile, target: str | None, written: Path) -> None:
        """Write the TFLite file in which Vela replaced what the NPU takes by its commands."""
        check_available(self)
        macs = check_target(self, target)
        check_formats([file], self.name, "tflite")
        with tempfile.TemporaryDirectory(prefix="edgedl-vela-") as rest:
            compiled = compile_file(file, self, macs, Path(rest))
            if all(op.runs_on == "cpu" for op in _op_costs(file.facts.ops, compiled)):
                raise ModelError(
                    f"nothing of {file.path.name} runs on the NPU of {self.name}",
                    required="quantized ops that Vela takes",
                    advice=f"`edgedl profile --device {self.name}:{macs}` tells why",
                )
            shutil.move(compiled.path, written)


u55 = EthosU("u55", ("32", "64", "128", "256"), "Ethos_U55_High_End_Embedded", "Shared_Sram")
u65 = EthosU("u65", ("256", "512"), "Ethos_U65_High_End", "Dedicated_Sram")
u85 = EthosU("u85", ("128", "256", "512", "1024", "2048"), "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB")


@dataclass(frozen=True)
class Compiled:
    """What Vela made of a file. rows: its table per layer; refused: why an op stays on the CPU, by its output."""

    path: Path
    summary: dict[str, str]
    rows: list[dict[str, str]]
    refused: dict[str, str]


def compile_file(file: ModelFile, npu: EthosU, macs: str, folder: Path) -> Compiled:
    """Compile a TFLite file into `folder`. Raises ModelError with Vela's own reason when it cannot."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["--config", "Arm/vela.ini", "--system-config", npu.system, "--memory-mode", npu.memory]
    words += ["--accelerator-config", f"{npu.name}-{macs}", "--output-dir", str(folder), "--verbose-performance"]
    command = [sys.executable, "-m", "ethosu.vela", *words, str(file.path.absolute())]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"Vela did not finish {file.path.name}", received=f"more than {TIMEOUT_S:g} s") from None
    said = done.stdout + done.stderr
    written = {path.name.removeprefix(file.path.stem): path for path in folder.iterdir()}
    model, layers = written.get("_vela.tflite"), written.get("_per-layer.csv")
    summary = next((path for name, path in written.items() if name.startswith("_summary_")), None)
    if done.returncode or model is None or layers is None or summary is None:
        raise ModelError(f"Vela cannot compile {file.path.name}", received=_reason(said))
    return Compiled(model, _table(summary)[0], _table(layers), _refusals(said))


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def _reason(said: str) -> str:
    """Vela's own error in a line."""
    found = re.search(r"Error: (.+?)(?:\n\s*\n|Failed to|$)", said, re.DOTALL)
    text = found[1] if found else (said.strip().splitlines() or ["no word"])[-1]
    return " ".join(text.split())[:300]


def _refusals(said: str) -> dict[str, str]:
    pattern = (
        r"Warning \(supported operators\) operator: \S+, ofm: '(.*?)'\nReason: (.*(?:\n(?!\s*$|Warning|Network).+)*)"
    )
    return {name: " ".join(reason.split()) for name, reason in re.findall(pattern, said)}


def _latency(file: ModelFile, compiled: Compiled) -> ModelLatency:
    ops = _op_costs(file.facts.ops, compiled)
    on_cpu = [op for op in ops if op.runs_on == "cpu"]
    notes: list[str] = []
    if on_cpu:
        kinds = ", ".join(sorted({op.op for op in on_cpu}))
        notes.append(f"{len(on_cpu)} of {len(ops)} ops stay on the CPU ({kinds}) and are not in the estimate")
    seconds, clock_mhz = float(compiled.summary["inference_time"]), float(compiled.summary["core_clock"]) / 1e6
    basis = f"Vela's cycle model of the NPU at {clock_mhz:g} MHz; Arm states no error for it"
    sram_kib = float(compiled.summary["sram_memory_used"])
    return ModelLatency(
        file=file.path.name,
        sha256=sha256_of(file.path),
        size_bytes=file.facts.size_bytes,
        runtime=f"Vela {version_of(PACKAGE)}",
        ops=ops,
        estimate=Estimate(exact(seconds * 1e6), basis) if len(on_cpu) < len(ops) else None,
        memory=Memory(round(sram_kib * 1024), "SRAM that Vela plans"),
        notes=tuple(notes),
    )


def _op_costs(facts: Sequence[OpFacts], compiled: Compiled) -> tuple[OpCost, ...]:
    """One row per op of the file. Vela splits an op into several of its own, named after the op's output or kind."""
    by_name = {fact.name: fact.index for fact in facts}
    kinds = [_plain(fact.op) for fact in facts]
    cycles: dict[int, float] = {}
    targets: dict[int, str] = {}
    stray = 0.0
    for row in compiled.rows:
        kind = _plain(row["Original Operator"])
        index = by_name.get(row["Name"])
        if index is None and kinds.count(kind) == 1:
            index = facts[kinds.index(kind)].index
        if index is None:
            stray += float(row["Op Cycles"])
            continue
        cycles[index] = cycles.get(index, 0.0) + float(row["Op Cycles"])
        targets[index] = "npu" if "npu" in (targets.get(index), row["Target"].lower()) else row["Target"].lower()
    total = sum(cycles.values()) + stray or 1.0
    rows = [
        OpCost(
            fact.index,
            fact.op,
            fact.layer,
            cycles.get(fact.index, 0.0),
            "cycles",
            cycles.get(fact.index, 0.0) / total,
            "cpu" if fact.name in compiled.refused else targets.get(fact.index, "npu"),
            compiled.refused.get(fact.name, ""),
        )
        for fact in facts
    ]
    if stray:
        rows.append(OpCost(-1, "parts of several ops", None, stray, "cycles", stray / total, "npu"))
    return tuple(rows)


def _plain(kind: str) -> str:
    """CONV_2D and Conv2D are one kind."""
    return re.sub(r"[^a-z0-9]", "", kind.lower())
