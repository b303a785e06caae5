"""GPU and NNAPI of an Android phone, which only an Android build of the runtime reaches: Google's benchmark_model.

The variable EDGEDL_BENCHMARK_MODEL names the user's own file of it (android_aarch64). A process of it gives one sample:
the mean of its runs.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedl.core.artifacts import Conditions, LatencyReport
from edgedl.core.errors import ModelError, UnavailableError
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile
from edgedl.devices.protocol import SamplingPlan
from edgedl.devices.remote import Board, Found, Shell, profile_remotely
from edgedl.devices.session import Timed

DELEGATES = {"gpu": "--use_gpu=true", "nnapi": "--use_nnapi=true"}
VARIABLE = "EDGEDL_BENCHMARK_MODEL"

_TIMES = re.compile(
    r"Inference timings in us: Init: ([\d.e+]+), First inference: ([\d.e+]+), Warmup \(avg\): [\d.e+]+, "
    r"Inference \(avg\): ([\d.e+]+)"
)
_RUNS_ON = re.compile(r"Explicitly applied (\w+) delegate, and the model graph will be (.*?)(?: by|\.|$)")


def profile_with_benchmark_model(
    shell: Shell,
    files: Sequence[ModelFile],
    plan: SamplingPlan,
    part: str,
    *,
    device: str,
    board: Board,
    before: Conditions,
    conditions: Callable[[], Conditions],
) -> LatencyReport:
    """`profile_remotely` on a part of `DELEGATES`. Raises UnavailableError where the variable names no file."""
    path = Path(os.environ.get(VARIABLE, ""))
    if not path.is_file():
        raise UnavailableError(
            f"{part} on Android needs Google's benchmark_model",
            required=f"{VARIABLE}=path of its android_aarch64 build",
            received=f"{str(path)!r}" if VARIABLE in os.environ else "the variable is not set",
        )
    return profile_remotely(
        shell, files, plan, device=device, board=board, programs=[(path, "benchmark_model")],
        driver=lambda folder: _BenchmarkModel(shell, folder, files, part),
        runtimes={"benchmark_model": sha256_of(path)[:12]}, before=before, conditions=conditions,
    )  # fmt: skip


@dataclass(frozen=True)
class _BenchmarkModel:
    """benchmark_model as a `Driver`: a process a file and round."""

    shell: Shell
    folder: str
    files: Sequence[ModelFile]
    part: str

    def examine(self) -> list[Found]:
        """It tells nothing but times."""
        return [Found(notes=("each sample is the mean of a process",)) for _ in self.files]

    def time_all(self, seconds: float, order_seed: int) -> list[Timed]:
        """Each file in a process of its own."""
        return [self._time(index, file, seconds / len(self.files)) for index, file in enumerate(self.files)]

    def _time(self, index: int, file: ModelFile, seconds: float) -> Timed:
        words = ["./benchmark_model", f"--graph=model-{index}", DELEGATES[self.part], f"--min_secs={seconds:.2f}"]
        script = f"cd {shlex.quote(self.folder)} && {shlex.join(words)} 2>&1"
        answer = self.shell.run(script, timeout_s=seconds + 120.0)
        found = _TIMES.search(answer.out)
        if answer.status or found is None:
            errors = [line for line in answer.out.splitlines() if "ERROR" in line] or answer.out.splitlines()
            raise ModelError(
                f"benchmark_model cannot run {file.path.name} with {self.part} on {self.shell.name}",
                received=(errors or [f"exit status {answer.status}"])[-1],
            )
        init_us, first_us, mean_us = (float(one) for one in found.groups())
        applied = _RUNS_ON.search(answer.out)
        told = f"{applied[1]} delegate: graph {applied[2]}" if applied else f"no word that {self.part} took any op"
        return Timed(f"benchmark_model, {self.part}", (told,), init_us, first_us, 1, ((mean_us,),))
