"""Callgrind's counts: valgrind translates the runtime's code, and counts what is executed. The same in every run.

Valgrind shows every program the same processor, whatever this computer's is as long as it has AVX2: a Core i7-4910MQ,
so no AVX-512 and no AMX. The kernels that the runtimes choose are those of that processor, and so are the caches here.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from edgedl.core.artifacts import CacheMisses, Instructions
from edgedl.core.errors import StageError, UnavailableError
from edgedl.core.provenance import machine
from edgedl.devices import litert_ops, native
from edgedl.devices.counters.job import Counted, Job, op_sizes
from edgedl.devices.native.runtime import LITERT
from edgedl.devices.results import op_table
from edgedl.devices.session import OpTime, OpTimes

VALGRIND = "valgrind"
GUEST = "callgrind.c"
OUT = "out"
OPTIONS = ("--tool=callgrind", "--vgdb=no", "--log-fd=2", "--dump-line=no", f"--callgrind-out-file={OUT}")
CACHES = {"D1": (1, 32, 8), "LL": (2, 256, 8)}
"""Level, KiB and ways of that processor's first data caches, by callgrind's names: it knows a first and a last one."""
NEWER = {"avx512f": "AVX-512", "amx_tile": "AMX", "avx_vnni": "AVX-VNNI"}  # as /proc/cpuinfo calls them


def refusal() -> UnavailableError | None:
    """Why callgrind cannot count here, and what would help; None when it can."""
    if shutil.which(VALGRIND) is None:
        return UnavailableError("valgrind is not installed", advice="`apt-get install valgrind` brings it")
    if native.compiler(native.host_architecture()) is None:
        return UnavailableError(
            "there is no C compiler", advice="`apt-get install gcc` or `pip install ziglang` brings it"
        )
    return None


def hardware() -> str:
    """What the counts are of."""
    done = subprocess.run([VALGRIND, "--version"], capture_output=True, text=True, check=False)
    shown = "x86-64 with AVX2 at most" if native.host_architecture() == "x86_64" else machine()
    return f"{shown}, as {done.stdout.strip()} shows it to programs"


def count(job: Job) -> Counted:
    """Count the first warm inference of a process, and, in LiteRT, the ops of an inference in another."""
    inferences = job.box.warm_up + 1
    seen, folder = job.run(_command(*_caches()), "count", inferences, preloaded=GUEST)
    instructions = _instructions(_events(folder / f"{OUT}.{inferences}"))
    notes = _hidden()
    if job.box.runtime is not LITERT:
        note = f"ops by their multiply–accumulates: {job.box.runtime.name} does not tell which instructions are whose"
        return Counted(instructions, op_sizes(job.file), seen, 1, (*notes, note))
    clock = {"INSTRUCTION_CLOCK": OUT}
    profiled, _ = job.run(_command(), "ops", 0, preloaded=GUEST, variables=clock)
    kernels = litert_ops.tie(profiled.ops, litert_ops.read_graph(job.file.path))
    ops = op_table(_with_rest(kernels, instructions.total), job.file.facts.ops, "instructions")
    return Counted(instructions, ops, seen, 2, (*notes, *kernels.notes))


def _command(*options: str) -> list[str]:
    return [shutil.which(VALGRIND) or VALGRIND, *OPTIONS, *options]


def _caches() -> list[str]:
    """The options of a run whose marks (see `native/callgrind.c`) say what is counted."""
    sizes = [f"--{name}={kib * 1024},{ways},64" for name, (_, kib, ways) in CACHES.items()]
    return ["--instr-atstart=no", "--cache-sim=yes", *sizes]


def _events(dump: Path) -> dict[str, int]:
    """The sums of one of callgrind's dumps, by event; zeros at the end of the line are left out there."""
    if not dump.exists():
        raise StageError("callgrind told no counts", required=f"a file {dump.name}")
    head = dict(line.split(": ", 1) for line in dump.read_text().splitlines() if line.startswith(("events", "summary")))
    events, sums = head["events"].split(), map(int, head["summary"].split())
    return dict.fromkeys(events, 0) | dict(zip(events, sums, strict=False))


def _instructions(events: dict[str, int]) -> Instructions:
    """Events are instructions (Ir), those that read or write data (Dr, Dw), and misses (D1m…, DLm…)."""
    misses = {"D1": events["D1mr"] + events["D1mw"], "LL": events["DLmr"] + events["DLmw"]}
    caches = [CacheMisses(*cache, misses[name]) for name, cache in CACHES.items()]
    return Instructions(
        total=events["Ir"], load=events["Dr"], store=events["Dw"], caches=tuple(caches), inferences=1, spread=0
    )


def _with_rest(kernels: OpTimes, total: int) -> OpTimes:
    """The kernels and, last, what the runtime spends between them."""
    rest = total - sum(kernel.time_us for kernel in kernels.ops)
    if not kernels.ops or rest <= 0:
        return kernels
    return OpTimes((*kernels.ops, OpTime(None, "between the kernels", rest)))


def _hidden() -> tuple[str, ...]:
    """What this computer's processor has that valgrind hides, so that other kernels would run without it."""
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    found = [name for flag, name in NEWER.items() if flag in flags]
    if not found:
        return ()
    return (f"this processor has {' and '.join(found)}, which valgrind hides: the kernels counted are those for AVX2",)
