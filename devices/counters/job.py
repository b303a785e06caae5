"""One file to count: its probe, started behind the command of what counts, and what came of it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedl.core.artifacts import Instructions, OpCost
from edgedl.core.errors import ModelError, StageError, UnavailableError
from edgedl.core.model_facts import ModelFile
from edgedl.devices import native, onnx_runtime
from edgedl.devices.arm64.counting import BOXES, Box
from edgedl.devices.native.runtime import ONNX_RUNTIME, library
from edgedl.devices.probe import ProbeFile, ProbeTask, SeenFile, read_facts

TIMEOUT_S = 600.0
BEAT_S = 0.2
PATH_LENGTH = 120
REFUSED = 4  # the exit status of a probe that told an error


@dataclass(frozen=True)
class Counted:
    """One file's counts. seen: what the probe told beside them. processes: how many were started."""

    instructions: Instructions
    ops: tuple[OpCost, ...]
    seen: SeenFile
    processes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One file to count, at one thread.

    inputs: a file with its inputs' bytes. folder: where others may be made. beat: called while a process is waited for;
    raises KeyboardInterrupt when that is to end.
    """

    file: ModelFile
    inputs: Path
    folder: Path
    xnnpack: bool
    beat: Callable[[], None]

    @property
    def box(self) -> Box:
        """What runs it."""
        return BOXES[self.file.format]

    def run(
        self,
        counter: Sequence[str],
        task: Literal["count", "ops"],
        count: int,
        *,
        preloaded: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> tuple[SeenFile, Path]:
        """One process of the probe, and the folder it ran in.

        counter: the words before the probe's. preloaded: a source in `devices/native`. variables: all of the
        environment; it is else empty and names are fixed, since whatever moves memory changes counts a little.

        Raises ModelError where the runtime refuses the file, crashes on it or does not end, UnavailableError where
        what counts does not work.
        """
        folder = self._new_folder()
        environment = dict(variables or {})
        files = self._files()
        if preloaded:
            files["preloaded.so"] = native.built(preloaded, native.host_architecture())
            environment["LD_PRELOAD"] = "./preloaded.so"
        for name, path in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(path.absolute())
        wanted = ProbeTask(task, [ProbeFile("model", "inputs")], count, xnnpack=self.xnnpack)
        command = [*counter, *wanted.command("./probe", "./library")]
        try:
            done = _run(command, folder, environment, self.beat)
        except subprocess.TimeoutExpired:
            raise ModelError(
                f"{self.file.path.name} could not be counted",
                received=f"no end within {TIMEOUT_S:g} s of {Path(counter[0]).name}",
                advice="A smaller model, or `--device cpu`",
            ) from None
        return self._seen(done, Path(counter[0]).name), folder

    def _new_folder(self) -> Path:
        """One whose path is as long wherever it is: ONNX Runtime keeps it, and that moves memory."""
        parent = self.folder.resolve()
        return Path(tempfile.mkdtemp(dir=parent, prefix="_" * (PATH_LENGTH - len(f"{parent}/12345678"))))

    def _files(self) -> dict[str, Path]:
        """What lies in the probe's folder, by name."""
        beside = onnx_runtime.external_files(self.file.path) if self.box.runtime is ONNX_RUNTIME else ()
        architecture = native.host_architecture()
        return {name: self.file.path.parent / name for name in beside} | {
            "probe": native.built(self.box.probe, architecture),
            "library": library(architecture, self.box.runtime),
            "model": self.file.path,
            "inputs": self.inputs,
        }

    def _seen(self, done: subprocess.CompletedProcess[str], counter: str) -> SeenFile:
        words = (done.stderr.strip().splitlines() or ["nothing"])[-1][:300]
        if done.returncode > 0 and done.returncode != REFUSED:
            raise UnavailableError(
                f"{counter} does not run here", received=f"exit status {done.returncode}, its last line {words!r}"
            )
        name, runtime = self.file.path.name, self.box.runtime.name
        try:
            return read_facts(done.stdout.splitlines(), [name], said=done.stderr, runtime=runtime).files[0]
        except StageError as error:
            if "was lost" not in error.what:
                raise
            ended = f"killed by {signal.Signals(-done.returncode).name}" if done.returncode else words
            raise ModelError(
                f"{name} takes {runtime} down under {counter}",
                required="a file that it can load and run",
                received=ended,
                advice="`edgedl profile --device cpu` shows whether it runs without",
            ) from None


def _run(
    command: Sequence[str], folder: Path, variables: Mapping[str, str], beat: Callable[[], None]
) -> subprocess.CompletedProcess[str]:
    """Run it in the folder. Whatever it started ends with this call, also when that is interrupted."""
    deadline = time.monotonic() + TIMEOUT_S
    with subprocess.Popen(
        command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        try:
            while True:
                try:
                    out, said = process.communicate(timeout=BEAT_S)
                    return subprocess.CompletedProcess(command, process.returncode, out, said)
                except subprocess.TimeoutExpired:
                    beat()
                    if time.monotonic() > deadline:
                        raise
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def op_sizes(file: ModelFile) -> tuple[OpCost, ...]:
    """The ops by their multiply–accumulates, where nothing tells an op's instructions."""
    total = file.facts.macs or 1
    return tuple(OpCost(op.index, op.op, op.layer, op.macs, "MACs", op.macs / total) for op in file.facts.ops)
