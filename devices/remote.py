"""Devices at the end of a line (adb, ssh): programs and models are pushed there, run, and tell; nothing stays behind.

A session is several processes, as on the host; conditions are read before and after. What runs there is a `Driver`:
as a rule the probe, with LiteRT's own Linux library, the one in the wheel.
"""

from __future__ import annotations

import contextlib
import random
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgedl.core.artifacts import Conditions, LatencyReport, Memory, ModelLatency, OpCost
from edgedl.core.console import reporter
from edgedl.core.errors import UnavailableError
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile
from edgedl.core.provenance import version_of
from edgedl.devices import litert, litert_ops, native
from edgedl.devices.checks import check_formats
from edgedl.devices.native.runtime import library
from edgedl.devices.probe import ProbeFile, ProbeTask, Seen, Task, read_facts, write_inputs
from edgedl.devices.protocol import SamplingPlan
from edgedl.devices.results import PEAK_MEMORY, latency_report, op_table, timing_of
from edgedl.devices.sampling import Sampled
from edgedl.devices.session import BLOCK_S, BLOCK_SAMPLES, Timed

PROCESSES = 10
"""Fewer than on the host: each must last until a processor that saves power has reached its clock."""
WARM_UP_SHARE = 0.25
SPARE = 2
"""Room wanted on the device, over the size of what is pushed."""


@dataclass(frozen=True)
class Answer:
    """How a script ended on the device: exit status, standard output and standard error."""

    status: int
    out: str
    said: str


class Shell(Protocol):
    """A way to a device. Its methods raise UnavailableError, with the next step, when the line is cut."""

    @property
    def name(self) -> str:
        """The device as errors call it."""
        ...

    @property
    def temporary(self) -> str:
        """A folder there in which programs may be put and started."""
        ...

    def run(self, script: str, timeout_s: float = 60.0) -> Answer:
        """Run a POSIX shell script there."""
        ...

    def push(self, files: Sequence[tuple[Path, str]], folder: str) -> None:
        """Copy files into a folder there, each under a new name."""
        ...


@dataclass(frozen=True)
class Board:
    """What a device is. max_khz: by processor, in the order of their numbers; empty where it does not tell."""

    architecture: str
    hardware: str
    free_bytes: int | None
    max_khz: tuple[int, ...] = ()


_FACTS = """
echo machine=$(uname -m)
echo system=$(uname -sr)
echo model=$({ cat /proc/device-tree/model 2>/dev/null || getprop ro.product.model 2>/dev/null; } | tr -d '\\000')
echo cores=$(grep -c ^processor /proc/cpuinfo)
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
  khz=$(cat $cpu/cpufreq/cpuinfo_max_freq 2>/dev/null) && echo khz=${cpu##*cpu}:$khz
done
echo free=$(df -k TEMPORARY 2>/dev/null | tail -n 1)
"""

_CONDITIONS = """
echo load=$(cat /proc/loadavg 2>/dev/null)
echo governor=$(cat /sys/devices/system/cpu/cpuCPU/cpufreq/scaling_governor 2>/dev/null)
for zone in /sys/class/thermal/thermal_zone*; do
  value=$(cat $zone/temp 2>/dev/null) && echo zone=$(cat $zone/type 2>/dev/null):$value
done
throttled=$(vcgencmd get_throttled 2>/dev/null) && echo $throttled
"""


def board_of(shell: Shell) -> Board:
    """Ask the device what it is. Raises UnavailableError for one that LiteRT has no library for."""
    answer = shell.run(_FACTS.replace("TEMPORARY", shell.temporary))
    facts = _pairs(answer.out)
    machine_word = "".join(facts.get("machine", [""]))
    if machine_word not in ("x86_64", "aarch64"):
        raise UnavailableError(
            f"{shell.name} is no device that LiteRT's library is built for",
            required="an x86_64 or aarch64 Linux with glibc, or 64-bit Android",
            received=machine_word or (answer.said.splitlines() or ["no answer to `uname -m`"])[-1],
        )
    clocks = dict(word.split(":") for word in facts.get("khz", []))
    columns = "".join(facts.get("free", [])).split()
    free = int(columns[3]) * 1024 if len(columns) >= 4 and columns[3].isdigit() else None
    words = ["".join(facts.get("model", [])), machine_word, f"{facts.get('cores', ['?'])[0]} processors"]
    words.append("".join(facts.get("system", [])))
    return Board(
        machine_word,
        ", ".join(word for word in words if word),
        free,
        tuple(int(clocks[key]) for key in sorted(clocks, key=int)),
    )


def conditions_of(shell: Shell, plan: SamplingPlan, cpu: int = 0) -> Conditions:
    """Load, governor, temperature and throttling now."""
    facts = _pairs(shell.run(_CONDITIONS.replace("CPU", str(cpu), 1)).out)
    load = re.match(r"[\d.]+", "".join(facts.get("load", [])))
    throttled = facts.get("throttled")
    return Conditions(
        load_average=float(load[0]) if load else None,
        governor="".join(facts.get("governor", [])) or None,
        temperature_c=_hottest(facts.get("zone", [])),
        threads=plan.threads,
        xnnpack=plan.xnnpack,
        throttled=bool(int(throttled[0], 16) & 0xF) if throttled else None,  # vcgencmd: bits 0–3 are of this moment
    )


def _hottest(zones: Sequence[str]) -> float | None:
    """The hottest processor's zone in °C, or the hottest of all where none is named after one."""
    found = [(name, int(value)) for name, _, value in (zone.rpartition(":") for zone in zones) if value.isdigit()]
    processors = [value for name, value in found if re.search("cpu|soc|pkg|tsens", name, re.IGNORECASE)]
    value = max(processors or [value for _, value in found], default=None)
    return None if value is None else (value / 1000 if value > 1000 else float(value))


def _pairs(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            found.setdefault(name.strip(), []).append(value.strip())
    return found


@dataclass(frozen=True)
class Found:
    """What a driver tells of one file beside its times."""

    ops: tuple[OpCost, ...] = ()
    memory: Memory | None = None
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Driver(Protocol):
    """What times the files on the device, in the folder that holds its programs, `model-0` … and `inputs-0` …"""

    def examine(self) -> list[Found]:
        """Look at every file, before any is timed. Raises ModelError for one that does not run."""
        ...

    def time_all(self, seconds: float, order_seed: int) -> list[Timed]:
        """Time every file for about so many seconds in all, in an order that the seed decides."""
        ...


def profile_remotely(
    shell: Shell,
    files: Sequence[ModelFile],
    plan: SamplingPlan,
    *,
    device: str,
    board: Board,
    programs: Sequence[tuple[Path, str]],
    driver: Callable[[str], Driver],
    runtimes: Mapping[str, str],
    before: Conditions,
    conditions: Callable[[], Conditions],
) -> LatencyReport:
    """One session on a device that answered.

    programs: files to push beside the models, by their names there. driver: makes one, given the folder's path there.
    conditions: reads the device's state again, when the session is over.

    Raises ModelError for a file that does not run there, UnavailableError when the line is cut or there is no room.
    """
    started = time.monotonic()
    check_formats(files, shell.name, "tflite")
    names = ", ".join(file.path.name for file in files)
    with (
        reporter().progress(f"profiling {names} on {shell.name}", plan.budget_s) as bar,
        _pushed(shell, files, plan, board, programs) as folder,
    ):
        there = driver(folder)
        found = there.examine()
        sampled = Sampled(there.time_all, plan, processes=PROCESSES, deadline=time.monotonic() + plan.budget_s)
        sampled.take_all(bar, started)
        after = conditions()
    models = [
        ModelLatency(
            file=file.path.name,
            sha256=sha256_of(file.path),
            size_bytes=file.path.stat().st_size,
            runtime=timed[0].runtime,
            ops=about.ops,
            timing=timing_of(timed, plan.seed),
            memory=about.memory,
            outputs=about.outputs,
            notes=(*about.notes, *timed[0].notes, *_warnings(before, after)),
        )
        for file, timed, about in zip(files, sampled.by_file, found, strict=True)
    ]
    return latency_report(
        files,
        models,
        plan,
        device=device,
        hardware=board.hardware,
        obtained="measured",
        runtimes=runtimes,
        conditions=after,
        processes=sampled.processes,
        warm_up=sampled.warm_up,
        stopped=sampled.stopped,
        started=started,
    )


def _warnings(before: Conditions, after: Conditions) -> tuple[str, ...]:
    if not (before.throttled or after.throttled):
        return ()
    when = "before and after" if before.throttled and after.throttled else "before" if before.throttled else "after"
    return (f"the device was throttled {when} the session: times are too long, and differ from one to the next",)


@contextlib.contextmanager
def _pushed(
    shell: Shell,
    files: Sequence[ModelFile],
    plan: SamplingPlan,
    board: Board,
    programs: Sequence[tuple[Path, str]],
) -> Generator[str]:
    """Programs, models and inputs in a new folder on the device, which is removed whatever happens."""
    with tempfile.TemporaryDirectory(prefix="edgedl-remote-") as here:
        inputs = write_inputs(files, Path(here), plan.seed)
        wanted = [
            *programs,
            *((file.path, f"model-{index}") for index, file in enumerate(files)),
            *((path, f"inputs-{index}") for index, path in enumerate(inputs)),
        ]
        needed = SPARE * sum(path.stat().st_size for path, _ in wanted)
        if board.free_bytes is not None and board.free_bytes < needed:
            raise UnavailableError(
                f"there is no room on {shell.name} in {shell.temporary}",
                required=f"{needed / 1e6:.0f} MB",
                received=f"{board.free_bytes / 1e6:.0f} MB free",
            )
        made = shell.run(f"mktemp -d {shell.temporary}/edgedl-XXXXXX")
        folder = made.out.strip()
        if made.status or not folder.startswith(shell.temporary):
            raise UnavailableError(
                f"nothing can be written on {shell.name} in {shell.temporary}",
                received=(made.said.splitlines() or ["no reason given"])[-1],
            )
        try:
            shell.push(wanted, folder)
            shell.run(f"chmod 700 {shlex.quote(folder)}/*")
            yield folder
        finally:
            with contextlib.suppress(UnavailableError):  # a line that is cut takes the folder out of reach
                shell.run(f"rm -rf {shlex.quote(folder)}")


# --- the probe ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """How the probe is started on a device. extra: files to push with it, by their names there.

    before: words in front of the probe's (a loader). pinned: words in front of all (taskset).
    """

    extra: Sequence[tuple[Path, str]] = ()
    before: Sequence[str] = ()
    pinned: Sequence[str] = ()
    notes: tuple[str, ...] = ()


def profile_with_probe(
    shell: Shell,
    files: Sequence[ModelFile],
    plan: SamplingPlan,
    *,
    device: str,
    board: Board,
    before: Conditions,
    conditions: Callable[[], Conditions],
    start: Start = Start(),
) -> LatencyReport:
    """`profile_remotely` with LiteRT's Linux library and the probe."""
    programs = [
        (native.built("probe.c", board.architecture), "probe"),
        (library(board.architecture), "libLiteRt.so"),
        *start.extra,
    ]
    return profile_remotely(
        shell, files, plan, device=device, board=board, programs=programs,
        driver=lambda folder: _Probe(shell, folder, start, plan, files),
        runtimes={litert.NAME: version_of(litert.PACKAGE) or ""}, before=before, conditions=conditions,
    )  # fmt: skip


@dataclass
class _Probe:
    """The probe as a `Driver`. block: inferences in one."""

    shell: Shell
    folder: str
    start: Start
    plan: SamplingPlan
    files: Sequence[ModelFile]
    block: int = 1

    def run(self, task: Task, files: Sequence[int], count: int, seconds: float = 0.0) -> Seen:
        """One process of the probe on some of the files."""
        wanted = ProbeTask(
            task,
            [ProbeFile(f"model-{index}", f"inputs-{index}") for index in files],
            count,
            seconds=seconds,
            threads=self.plan.threads,
            xnnpack=self.plan.xnnpack,
        )
        words = [*self.start.pinned, *self.start.before, *wanted.command("./probe", "./libLiteRt.so")]
        answer = self.shell.run(f"cd {shlex.quote(self.folder)} && {shlex.join(words)}", timeout_s=seconds + 120.0)
        names = [self.files[index].path.name for index in files]
        return read_facts(answer.out.splitlines(), names, said=answer.said, ended=f"exit status {answer.status}")

    def examine(self) -> list[Found]:
        """Costs per op, memory and outputs; then how many inferences a block has, so that the fastest file's lasts
        about as long as on the host."""
        found = [self._examine(index, file) for index, file in enumerate(self.files)]
        seen = self.run("time", range(len(self.files)), 1, 0.1)
        typical_us = min(min(block) for file in seen.files for block in file.blocks_us)
        self.block = round(min(max(BLOCK_S * 1e6 / typical_us, 1), BLOCK_SAMPLES))
        return found

    def _examine(self, index: int, file: ModelFile) -> Found:
        seen = self.run("ops", [index], 20)
        (one,) = seen.files
        kernels = litert_ops.tie(one.ops, litert_ops.read_graph(file.path))
        memory = Memory(max(0, one.peak_bytes - seen.runtime_bytes), PEAK_MEMORY, seen.runtime_bytes)
        notes = (*self.start.notes, *kernels.notes)
        return Found(op_table(kernels, file.facts.ops), memory, tuple(one.outputs), notes)

    def time_all(self, seconds: float, order_seed: int) -> list[Timed]:
        """All files in one process, blocks in turns; the first blocks only warm it up."""
        order = random.Random(order_seed).sample(range(len(self.files)), len(self.files))
        seen = self.run("time", order, self.block, seconds)
        runtime = litert.runtime_words(xnnpack=self.plan.xnnpack)
        found: dict[int, Timed] = {}
        for index, file in zip(order, seen.files, strict=True):
            cold = min(int(WARM_UP_SHARE * len(file.blocks_us)), len(file.blocks_us) - 1)
            blocks = tuple(file.blocks_us[cold:])
            warm_up = 1 + sum(map(len, file.blocks_us[:cold]))
            found[index] = Timed(runtime, (), file.load_us, file.first_us or 0.0, warm_up, blocks)
        return [found[index] for index in sorted(found)]
