"""The processor's own counter of instructions, read by Linux's perf: what an inference adds to a process's count."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from statistics import median

from edgedl.core.artifacts import Instructions
from edgedl.core.errors import StageError, UnavailableError
from edgedl.core.provenance import machine
from edgedl.devices.counters.job import Counted, Job, op_sizes
from edgedl.devices.probe import SeenFile

PERF = "perf"
OUT = "counts"
OPTIONS = ("stat", "-x,", "-o", OUT, "-e", "instructions:u", "--")  # u: of the program, not of the kernel
INFERENCES = 50
PAIRS = 3
"""Processes with and without so many inferences are compared, so often: what else a process does varies a little."""


def refusal() -> UnavailableError | None:
    """Why perf cannot count here, and what would help; None when it can. Tries it: kernel and machine decide."""
    path = shutil.which(PERF)
    if path is None:
        brings = "`apt-get install linux-perf` (Ubuntu: linux-tools-generic) brings it"
        return UnavailableError("perf is not installed", advice=f"{brings}; `counters:callgrind` needs none")
    with tempfile.TemporaryDirectory(prefix="edgedl-perf-") as folder:
        command = [path, *OPTIONS, "true"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        told = _told(Path(folder))
    if _sum(told) is not None:
        return None
    words = (told + done.stderr).strip().splitlines()
    return UnavailableError(
        "perf counts no instructions on this computer",
        required="a processor whose counter programs may read: of few virtual machines, and "
        "/proc/sys/kernel/perf_event_paranoid at most 2",
        received=repr(words[-1][:100]) if words else None,
        advice="`counters:callgrind` counts without, with valgrind (`apt-get install valgrind`)",
    )


def hardware() -> str:
    """What the counts are of."""
    return machine()


def count(job: Job) -> Counted:
    """Count warm inferences: the difference of two processes, of which one runs INFERENCES more."""
    found: list[float] = []
    for _ in range(PAIRS):
        few, _ = _count(job, job.box.warm_up)
        many, seen = _count(job, job.box.warm_up + INFERENCES)
        found.append((many - few) / INFERENCES)
    spread = round(max(found) - min(found))
    instructions = Instructions(total=round(median(found)), inferences=PAIRS * INFERENCES, spread=spread)
    notes = ["ops by their multiply–accumulates: perf counts no ops"]
    if spread:
        notes.append(f"{PAIRS} means of {INFERENCES} inferences spread by {spread:,} instructions")
    return Counted(instructions, op_sizes(job.file), seen, 2 * PAIRS, tuple(notes))


def _count(job: Job, inferences: int) -> tuple[int, SeenFile]:
    """Instructions of a whole process that runs so many."""
    seen, folder = job.run([shutil.which(PERF) or PERF, *OPTIONS], "count", inferences)
    told = _told(folder)
    total = _sum(told)
    if total is None:
        raise StageError("perf told no count", received=repr(told.strip()[-100:]))
    return total, seen


def _told(folder: Path) -> str:
    counts = folder / OUT
    return counts.read_text() if counts.exists() else ""


def _sum(told: str) -> int | None:
    """What `perf stat -x,` counted, of all kinds of cores that there are; None where it counted on none."""
    rows = [line.split(",") for line in told.splitlines()]
    counts = [int(row[0]) for row in rows if len(row) > 2 and "instructions" in row[2] and row[0].isdecimal()]
    return sum(counts) if counts else None
