"""A Chromium, Chrome or Edge of this computer: which one, started headless by Playwright, and its pages."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import shlex
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from edgedl.core.errors import StageError, UnavailableError

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext

P = ParamSpec("P")
T = TypeVar("T")

VARIABLE = "EDGEDL_CHROMIUM"
"""Names another browser: a command, with options if need be."""
NAMES = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "microsoft-edge-stable",
)  # fmt: skip
PLACES = (
    "/usr/lib/chromium/chromium",
    "/opt/google/chrome/chrome",
    "/opt/microsoft/msedge/msedge",
    "/snap/bin/chromium",
)
DOWNLOADED = ("chromium-*/chrome-linux*/chrome", "chromium_headless_shell-*/*/*headless*shell")
"""Below Playwright's folder of browsers."""

QUIET = (
    "--disable-background-networking", "--disable-component-update", "--disable-domain-reliability", "--disable-quic",
    "--disable-sync", "--no-first-run", "--no-pings",
)  # fmt: skip
NO_GPU = ("--disable-gpu",)
GPU = ("--enable-unsafe-webgpu", "--ignore-gpu-blocklist", "--enable-features=Vulkan", "--use-angle=vulkan")
SOFTWARE_GPU = (
    "--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-vulkan=swiftshader",
    "--use-webgpu-adapter=swiftshader",
)  # fmt: skip
CLOSING_S = 10.0


def find_browser() -> list[str] | None:
    """The command of the browser to use: that of the variable, the system's, or one that Playwright downloaded.

    None where there is none, or where the variable names something that is not there.
    """
    if given := shlex.split(os.environ.get(VARIABLE, "")):
        found = shutil.which(given[0])
        return [found, *given[1:]] if found else None
    for name in (*NAMES, *PLACES):
        if found := shutil.which(name):
            return [found]
    given_folder = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    folder = Path(given_folder) if given_folder else Path.home() / ".cache/ms-playwright"
    downloaded = [path for pattern in DOWNLOADED for path in sorted(folder.glob(pattern), reverse=True)]
    return next(([str(path)] for path in downloaded if os.access(path, os.X_OK)), None)


def not_found() -> str:
    """Why `find_browser` gave None, for people."""
    given = os.environ.get(VARIABLE)
    return f"{VARIABLE}={given!r} is no program" if given else "no Chromium, Chrome or Edge is found"


def outside_loop(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it where no event loop runs: here, or (in a notebook) in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return function(*args, **kwargs)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, functools.partial(function, *args, **kwargs)).result()


class PageLostError(Exception):
    """A page that crashed or did not answer in time; the message says which."""


@dataclass(frozen=True)
class Chromium:
    """A running browser. version: Chromium's own, e.g. "140.0.7339.16"."""

    version: str
    _runner: asyncio.Runner
    _browser: Browser

    def run(self, address: str, job: Mapping[str, Any], timeout_s: float) -> tuple[dict[str, Any], list[str]]:
        """Load the page afresh, in a profile and a process of its own; what `edgedl(job)` answers there, and what the
        page's console said.

        Raises PageLostError, and StageError where the browser itself is lost.
        """
        from playwright.async_api import Error

        try:
            return self._runner.run(self._in_page(address, job, timeout_s))
        except TimeoutError:
            raise PageLostError(f"the page did not answer within {timeout_s:g} s") from None
        except Error as error:
            if not self._browser.is_connected():
                raise StageError("the browser ended while a page ran", received=error.message.splitlines()[0]) from None
            if "crashed" in error.message:
                raise PageLostError("the page crashed (memory, or a fault of the browser)") from None
            raise

    async def _in_page(
        self, address: str, job: Mapping[str, Any], timeout_s: float
    ) -> tuple[dict[str, Any], list[str]]:
        said: list[str] = []
        context = await self._browser.new_context()
        try:
            page = await context.new_page()
            page.on("console", lambda message: said.append(message.text))
            async with asyncio.timeout(timeout_s):
                await page.goto(address)
                return await page.evaluate("job => edgedl(job)", job), said
        finally:
            await _closed(context)


async def _closed(what: BrowserContext | Browser) -> None:
    """Close it; one that hangs is left to the end of the browser."""
    from playwright.async_api import Error

    with contextlib.suppress(Error, TimeoutError):
        async with asyncio.timeout(CLOSING_S):
            await what.close()


@contextlib.contextmanager
def started(command: Sequence[str], flags: Sequence[str]) -> Generator[Chromium]:
    """The browser, headless, with a temporary profile; both are gone when the context is left.

    Raises UnavailableError, with the browser's own words, where it does not start.
    """
    from playwright.async_api import Error, async_playwright

    path, *options = command
    with asyncio.Runner() as runner:
        playwright = runner.run(async_playwright().start())
        try:
            try:
                browser = runner.run(
                    playwright.chromium.launch(
                        executable_path=path,
                        args=[*QUIET, *flags, *options],
                        chromium_sandbox=os.geteuid() != 0,  # Chromium refuses to have one as root
                        handle_sigint=False,  # Ctrl-C reaches edgedl, which then closes it
                    )
                )
            except Error as error:
                raise _not_started(path, error.message) from None
            try:
                yield Chromium(browser.version, runner, browser)
            finally:
                runner.run(_closed(browser))
        finally:
            runner.run(playwright.stop())


def _not_started(path: str, message: str) -> UnavailableError:
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    said = [line.partition("[err]")[2].strip() for line in lines if "[err]" in line]  # its standard error
    telling = [line for line in said if "ERROR" in line or "FATAL" in line] or said or lines
    sandbox = any("andbox" in line for line in said)
    return UnavailableError(
        f"the browser {path} does not start",
        required=f"a Chromium, Chrome or Edge that runs headless ({VARIABLE} names another)",
        received=(telling or ["no reason given"])[0][:300],
        advice=f'Where the system forbids its sandbox: {VARIABLE}="{path} --no-sandbox"' if sandbox else None,
    )
