"""`web[:TARGET]`: a file as a web app runs it: .tflite in LiteRT.js, .onnx in ONNX Runtime Web, in a headless Chromium.

A session is many pages, one after the other, each in a process of its own. Each loads every file and times blocks of
all of them in a random order, as the `cpu` device does (`page.mjs`).
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgedl.core import isolation
from edgedl.core.artifacts import LatencyReport, ModelLatency
from edgedl.core.console import reporter
from edgedl.core.errors import UnavailableError
from edgedl.core.files import sha256_of
from edgedl.core.model_facts import ModelFile
from edgedl.core.provenance import machine
from edgedl.devices.checks import check_available, check_formats
from edgedl.devices.cpu import host_conditions
from edgedl.devices.native.runtime import pip
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.results import latency_report
from edgedl.devices.sampling import Sampled
from edgedl.devices.session import Timed
from edgedl.devices.web import answers, browser, packages
from edgedl.devices.web.pages import RUNTIMES, Pages, Seen, opened, runtime_words

TARGETS = ("wasm", "wasm-threads", "webgpu")
MODULE = "playwright"
PAGES = 10
"""About as many as a budget is divided into; each loads the runtimes afresh, which takes about a second more."""
LEAST_PAGES = 4
"""However small the budget: the same file differs from page to page as it does from process to process."""


@dataclass(frozen=True)
class WebBrowser:
    """The `web` device."""

    name: str = "web"
    summary: str = "a headless Chromium: LiteRT.js for .tflite, ONNX Runtime Web for .onnx (measured)"

    def targets(self) -> Sequence[str]:
        """One thread (the default), several, the GPU."""
        return TARGETS

    def status(self) -> DeviceStatus:
        """Whether Playwright, a browser and the npm packages are there."""
        if importlib.util.find_spec(MODULE) is None:
            return DeviceStatus(False, f"{MODULE} is not installed", (MODULE,), "pip install 'edgedl[web]'")
        command = browser.find_browser()
        if command is None:
            return DeviceStatus(False, browser.not_found(), ("chromium",), "apt-get install chromium")
        if absent := [f"{package.name}@{package.version}" for package in packages.missing()]:
            what = f"{', '.join(absent)} not in the cache"
            return DeviceStatus(False, what, tuple(absent), f"edgedl devices setup {self.name}")
        runtimes = ", ".join(f"{name} {packages.version_of(package)}" for name, package in RUNTIMES.values())
        return DeviceStatus(True, f"{runtimes} in {command[0]}")

    def set_up(self) -> list[str]:
        """Bring Playwright and the npm packages. Raises UnavailableError without npm, or without a browser."""
        done: list[str] = []
        if importlib.util.find_spec(MODULE) is None:
            pip("install", MODULE)
            done.append(f"installed {MODULE}")
        for package in packages.missing():
            place = packages.fetch(package)
            done.append(f"{package.name} {package.version}, with the digest that edgedl expects, is in {place}")
        if browser.find_browser() is None:
            raise UnavailableError(browser.not_found(), advice="On Debian `apt-get install chromium` brings it")
        return done or ["nothing was missing"]

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Take one session; see `Device.profile`. Where WebGPU is software, files run but nothing is timed."""
        check_available(self)
        check_formats(files, "the web", *RUNTIMES)
        return browser.outside_loop(_profile, files, plan, target or TARGETS[0])


device = WebBrowser()


def _profile(files: Sequence[ModelFile], plan: SamplingPlan, target: str) -> LatencyReport:
    started = time.monotonic()
    threads = max(plan.threads, 2) if target == "wasm-threads" else 1
    conditions = replace(host_conditions(plan), threads=threads, xnnpack=True)
    isolation.warm_up("runtime")
    names = ", ".join(file.path.name for file in files)
    with (
        reporter().progress(f"profiling {names} in a browser", plan.budget_s) as bar,
        opened(files, plan, target, threads) as pages,
    ):
        seen = pages.examine()
        sampled = None
        if target != "webgpu" or not pages.about.is_software:
            began = time.monotonic()
            sampled = Sampled(pages.time_all, plan, processes=PAGES, deadline=began + plan.budget_s)
            while not sampled.stopped or sampled.processes < LEAST_PAGES:
                sampled.take()
                bar.update(time.monotonic() - began, f"{sampled.processes} pages")
    version = pages.browser.version
    return latency_report(
        files,
        [_latency(pages, index, one, sampled, plan) for index, one in enumerate(seen)],
        plan,
        device=f"{device.name}:{target}",
        hardware=f"{machine()}; {_browser_words(pages)}",
        obtained="measured" if sampled else "emulated",
        runtimes={"Chromium": version, **{name: packages.version_of(one) for name, one in RUNTIMES.values()}},
        conditions=conditions,
        processes=sampled.processes if sampled else 1,
        warm_up=sampled.warm_up if sampled else 0,
        stopped=sampled.stopped if sampled else "each file run once, not timed",
        started=started,
    )


def _browser_words(pages: Pages) -> str:
    isolated = "cross-origin isolated" if pages.about.isolated else "not cross-origin isolated"
    gpu = f", WebGPU on {pages.about.adapter}" if pages.target == "webgpu" else ""
    return f"Chromium {pages.browser.version}, headless, {isolated}{gpu}"


def _latency(pages: Pages, index: int, seen: Seen, sampled: Sampled | None, plan: SamplingPlan) -> ModelLatency:
    file = pages.files[index]
    timed: Sequence[Timed] = sampled.by_file[index] if sampled else ()
    compared, told = answers.compared(file, seen.outputs, plan)
    return ModelLatency(
        file=file.path.name,
        sha256=sha256_of(file.path),
        size_bytes=file.path.stat().st_size,
        runtime=runtime_words(file, pages.target),
        ops=(),
        timing=pages.timing_of(index, timed, plan.seed) if timed else None,
        outputs=seen.hashes,
        parity=tuple(compared),
        notes=(*_notes(pages, index, seen, plan, timed=bool(timed)), *told),
    )


def _notes(pages: Pages, index: int, seen: Seen, plan: SamplingPlan, *, timed: bool) -> list[str]:
    file, on_gpu = pages.files[index], pages.target == "webgpu"
    notes: list[str] = []
    if on_gpu:
        notes.append(answers.placement(file, seen.said))
    if on_gpu and not timed:
        notes.append(f"not timed: WebGPU is software here ({pages.about.adapter}), whose latency is no GPU's")
    if timed:
        notes += pages.timing_notes(index)
    if plan.threads > 1 and pages.target != "wasm-threads":
        notes.append(f"one thread, not {plan.threads}: `{device.name}:wasm-threads` has several")
    if not plan.xnnpack and file.format == "tflite":
        notes.append("LiteRT.js always computes with XNNPACK")
    return notes
