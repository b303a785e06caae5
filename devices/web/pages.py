"""The page that runs the files, loaded again and again: what is asked of it, and what it answers."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from edgedl.core.artifacts import Timing
from edgedl.core.errors import ModelError, StageError, UnavailableError
from edgedl.core.model_facts import ModelFile
from edgedl.devices.probe import write_inputs
from edgedl.devices.protocol import SamplingPlan
from edgedl.devices.results import timing_of
from edgedl.devices.session import BLOCK_S, BLOCK_SAMPLES, MAX_ROUNDS, SETTLED, Timed
from edgedl.devices.web import answers, browser, packages
from edgedl.devices.web.browser import Chromium, PageLostError
from edgedl.devices.web.server import served

HERE = Path(__file__).parent
PAGE_FILES = ("page.html", "page.mjs")
RUNTIMES = {"tflite": ("LiteRT.js", packages.LITERT), "onnx": ("ONNX Runtime Web", packages.ONNX_RUNTIME)}
TIMEOUT_S = 120.0
"""For a page, beside the time that it is to measure."""
TICKS = 200
"""A sample lasts at least so many ticks of the browser's clock, so that a tick is at most half a percent of it."""
SOFTWARE = re.compile("swiftshader|llvmpipe|lavapipe|softpipe|basic render|warp", re.IGNORECASE)


@dataclass(frozen=True)
class About:
    """What a page says of its browser. tick_us: of `performance.now`. adapter: WebGPU's, in words; empty for none."""

    isolated: bool
    tick_us: float
    adapter: str
    is_software: bool


@dataclass(frozen=True)
class Seen:
    """One file, run once. outputs: their bytes; hashes: of each. said: what its runtime wrote on the console."""

    outputs: list[bytes]
    hashes: tuple[str, ...]
    said: list[str]


@dataclass
class Pages:
    """A browser, the address of its page, and the words that all jobs have in common.

    load_us: of each runtime, by page; each: inferences in a sample, by page and file; cold: load time and first
    inference of each file where it was the first.
    """

    browser: Chromium
    address: str
    files: Sequence[ModelFile]
    target: str
    threads: int
    about: About
    load_us: dict[str, list[float]] = field(default_factory=dict)
    each: list[list[int]] = field(default_factory=list)
    cold: dict[int, list[tuple[float, float]]] = field(default_factory=dict)

    def examine(self) -> list[Seen]:
        """Run every file once, each in a page of its own. Raises ModelError for one that does not run."""
        return [self._examine(index) for index in range(len(self.files))]

    def _examine(self, index: int) -> Seen:
        seen, said = self._run([index], task="examine")
        self.cold.setdefault(index, []).append((seen["load_us"], seen["first_us"]))
        return Seen(
            [answers.decoded(output["base64"]) for output in seen["outputs"]],
            tuple(output["fnv1a"] for output in seen["outputs"]),
            said,
        )

    def time_all(self, seconds: float, order_seed: int) -> list[Timed]:
        """Time every file in one page for about so many seconds in all, blocks in turns."""
        seen, _ = self._run(range(len(self.files)), seconds, task="time", order_seed=order_seed)
        for kind, us in seen["runtime_us"].items():
            self.load_us.setdefault(kind, []).append(us)
        found = sorted(seen["files"], key=lambda one: one["index"])
        self.each.append([one["each"] for one in found])
        for one in found:
            if one["cold"]:
                self.cold.setdefault(one["index"], []).append((one["load_us"], one["first_us"]))
        return [
            Timed(
                runtime_words(file, self.target),
                (),
                one["load_us"],
                one["first_us"],
                one["warm_up"] + 1,
                tuple(tuple(block) for block in one["blocks_us"]),
            )
            for file, one in zip(self.files, found, strict=True)
        ]

    def timing_of(self, index: int, timed: Sequence[Timed], seed: int) -> Timing:
        """A file's timing; load and first inference are those of pages in which it was the first of its runtime."""
        load_us, first_us = (median(us) for us in zip(*self.cold[index], strict=True))
        return replace(timing_of(timed, seed), load_ms=load_us / 1e3, first_ms=first_us / 1e3)

    def timing_notes(self, index: int) -> tuple[str, ...]:
        """How a file was timed, and what comes on top of its load time."""
        counts = [each[index] for each in self.each]
        often = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        kind = self.files[index].format
        return (
            f"the browser's clock ticks in {self.about.tick_us:.3g} µs: a sample is the mean of {often} inferences",
            f"{RUNTIMES[kind][0]} itself takes {median(self.load_us[kind]) / 1e3:.0f} ms to load, before any file",
        )

    def _run(self, indices: Sequence[int], seconds: float = 0.0, **words: Any) -> tuple[Any, list[str]]:
        """A job on some files: what it saw, and the console. Raises ModelError where one does not run."""
        job = words | {
            "target": self.target,
            "threads": self.threads,
            "files": [self._file(index) for index in indices],
            "seconds": seconds,
            "sample_us": TICKS * self.about.tick_us,
            "block_us": BLOCK_S * 1e6,
            "block_samples": BLOCK_SAMPLES,
            "max_rounds": MAX_ROUNDS,
            "settled": SETTLED,
        }
        try:
            answer, said = self.browser.run(self.address, job, TIMEOUT_S + seconds)
        except PageLostError as error:
            names = ", ".join(self.files[index].path.name for index in indices)
            raise ModelError(
                f"{names} takes the page down", required="a file that the browser can run", received=str(error)
            ) from None
        if refused := answer.get("refused"):
            raise self._refusal(refused["file"], answers.reason(refused["reason"], said))
        if hidden := answers.complaints(said):
            raise self._refusal(indices[0], hidden)
        return answer["seen"], said

    def _file(self, index: int) -> dict[str, Any]:
        inputs = self.files[index].facts.inputs
        return {
            "index": index,
            "format": self.files[index].format,
            "url": f"model-{index}",
            "inputs_url": f"inputs-{index}",
            "inputs": [{"dtype": one.dtype, "shape": [max(axis, 1) for axis in one.shape]} for one in inputs],
        }

    def _refusal(self, index: int, reason: str) -> ModelError:
        file = self.files[index]
        where = f"{RUNTIMES[file.format][0]} cannot run {file.path.name}"
        if match := re.match(r"Element type (\w+) is not supported", reason):
            return ModelError(
                where,
                required="inputs and outputs of float32, int32 or uint8",
                received=match[1].lower(),
                advice="An integer model runs with float inputs and outputs: `edgedl compress MODEL --method int8 "
                "--io float`, in a recipe `{method: int8, io: float}`",
            )
        advice = None
        if re.search(r"does not match expected ranked tensor type .*-1", reason):
            advice = "Export it with static shapes, as `edgedl export` does: LiteRT.js has no way to set others"
        return ModelError(where, received=reason, advice=advice)


def runtime_words(file: ModelFile, target: str) -> str:
    """What a file ran in, e.g. "LiteRT.js 2.5.3, wasm"."""
    name, package = RUNTIMES[file.format]
    return f"{name} {packages.version_of(package)}, {target}"


@contextlib.contextmanager
def opened(files: Sequence[ModelFile], plan: SamplingPlan, target: str, threads: int) -> Generator[Pages]:
    """A server and a browser for a session, gone when the context is left. For `webgpu`, with the real GPU if the
    browser finds one, else with the browser's software one.

    Raises UnavailableError where the browser does not start, or has no WebGPU or no threads though they are asked for.
    """
    command = browser.find_browser()
    assert command is not None, "asked for without a browser"
    with tempfile.TemporaryDirectory(prefix="edgedl-web-") as folder:
        listed = packages.package_files() | {name: HERE / name for name in PAGE_FILES}
        for index, (file, inputs) in enumerate(zip(files, write_inputs(files, Path(folder), plan.seed), strict=True)):
            listed |= {f"model-{index}": file.path, f"inputs-{index}": inputs}
        with served(listed) as root, contextlib.ExitStack() as stack:
            address = root + PAGE_FILES[0]
            for flags in (browser.GPU, browser.SOFTWARE_GPU) if target == "webgpu" else (browser.NO_GPU,):
                stack.close()
                chromium = stack.enter_context(browser.started(command, flags))
                about = _about(chromium, address)
                if about.adapter or target != "webgpu":
                    break
            if target == "webgpu" and not about.adapter:
                raise UnavailableError(f"the browser {command[0]} has no WebGPU", received="no adapter")
            if target == "wasm-threads" and not about.isolated:
                raise UnavailableError(
                    f"the browser {command[0]} has no threads",
                    required="a cross-origin isolated page",
                    received="one that is not, in spite of the headers for it",
                )
            yield Pages(chromium, address, files, target, threads, about)


def _about(chromium: Chromium, address: str) -> About:
    try:
        found = chromium.run(address, {"task": "about"}, TIMEOUT_S)[0]["seen"]
    except PageLostError as error:
        raise StageError("the browser shows no page", received=str(error)) from None
    adapter = found["adapter"] or {}
    words = " ".join(str(adapter[key]) for key in ("vendor", "architecture", "description") if adapter.get(key))
    software = bool(adapter.get("fallback")) or SOFTWARE.search(words) is not None
    return About(found["isolated"], found["tick_us"], words or ("unnamed" if adapter else ""), software)
