"""What a device is to the rest of edgedl: a target that says whether it is there, and takes a profiling session.

The protocol asks for nothing that only some targets have. A device may run the files here (host CPU), in an
emulator, on a phone behind adb, on a board behind ssh, in a browser, or only hand them to a vendor's compiler: it
always answers with a `LatencyReport` whose `obtained` says how the figures came to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from edgedl.core.artifacts import LatencyReport
    from edgedl.core.model_facts import ModelFile


@dataclass(frozen=True)
class DeviceStatus:
    """Whether a device can be used now.

    detail: what it is, or what stands in the way, in a sentence. missing: names of what is not installed or not
    connected. command: the one command that brings it, where there is one.
    """

    available: bool
    detail: str
    missing: tuple[str, ...] = ()
    command: str | None = None


@dataclass(frozen=True)
class SamplingPlan:
    """What a session may cost and when it has seen enough.

    budget_s: wall-clock seconds for the whole session. threads: threads the runtime may use. xnnpack: whether LiteRT
    computes with XNNPACK's kernels (True, as apps do) or with TFLite's built-in ones. seed: of inputs and of the
    order in which files alternate.
    median_within: enough is a 95 % interval of every median within ± this share of it.
    decide_at: if given, enough is instead that the ratio of every file to the first is decided against this value:
    its interval lies above it, or at or below it. control: the last of the files is the first one once more, so that
    the session shows how far a file is from itself; both are then what the others are set against.
    """

    budget_s: float = 10.0
    threads: int = 1
    xnnpack: bool = True
    seed: int = 0
    median_within: float = 0.01
    decide_at: float | None = None
    control: bool = False


class Device(Protocol):
    """One kind of target."""

    @property
    def name(self) -> str:
        """The word that chooses it, e.g. "cpu"."""
        ...

    @property
    def summary(self) -> str:
        """One line for `edgedl devices`: what it is, and whether it measures, emulates or estimates."""
        ...

    def targets(self) -> Sequence[str] | None:
        """What can stand behind the colon of `name:target` (cores, serial numbers, systems); empty for only one.

        None: anything can (host names); `profile` finds out whether it is there.
        """
        ...

    def status(self) -> DeviceStatus:
        """Whether it can be used now. Cheap: imports no runtime, starts nothing, asks no network."""
        ...

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Take one session with all files interleaved; ratios are to the first.

        Raises UnavailableError when the device or the target is not there, ModelError (naming the file and the
        reason) when a file cannot run on it.
        """
        ...


@runtime_checkable
class Installable(Protocol):
    """A device that can bring what it needs."""

    def set_up(self) -> list[str]:
        """Install, download and compile what is missing; a sentence for each thing done.

        Raises UnavailableError with the command to run where this process may not.
        """
        ...


@runtime_checkable
class Undisturbed(Protocol):
    """A device whose figures stay the same however busy this computer is: several such work side by side."""

    @property
    def undisturbed(self) -> bool:
        """Whether they do now."""
        ...


@runtime_checkable
class Exact(Protocol):
    """A device that counts or computes its figures: they are the same every time, so it takes none twice."""

    @property
    def exact(self) -> bool:
        """Whether it does now."""
        ...


@runtime_checkable
class Compiler(Protocol):
    """A device whose vendor's compiler makes files that run there alone: `edgedl export --to NAME:TARGET`."""

    @property
    def compiler(self) -> str:
        """The package that compiles; another version of it makes another file."""
        ...

    @property
    def compiles(self) -> Literal["tflite", "onnx"]:
        """The format that it takes."""
        ...

    def refusal(self, precision: str, target: str | None) -> str | None:
        """Why it compiles nothing of that precision ("float32", "int8" …) for the target, or None when it does."""
        ...

    def compile(self, file: ModelFile, target: str | None, written: Path) -> None:
        """Write what an app loads to `written`; what that names lies beside it.

        Raises UnavailableError when compiler or target is not there, ModelError when nothing of the file would run
        on the device.
        """
        ...
