"""The C sources that devices run, and how they are compiled: once for each architecture, kept in a cache."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import platformdirs

from edgedl.core.errors import StageError, UnavailableError

Architecture = Literal["x86_64", "aarch64"]

SOURCES = Path(__file__).parent
FLAGS: dict[str, tuple[str, ...]] = {
    "probe.c": ("-ldl",),
    "probe_onnx.c": ("-ldl",),
    "guest.c": ("-shared", "-fPIC", "-ldl"),
    "instructions.c": ("-shared", "-fPIC"),
    "callgrind.c": ("-shared", "-fPIC", "-ldl"),
}
GLIBC = "2.27"
"""What LiteRT's own aarch64 wheel asks for (manylinux_2_27)."""


def cache_folder() -> Path:
    """Where built programs and downloaded runtimes are kept; EDGEDL_CACHE overrides the system's place for caches."""
    given = os.environ.get("EDGEDL_CACHE")
    return Path(given) if given else platformdirs.user_cache_path("edgedl")


def host_architecture() -> str:
    """This machine's, as `uname -m` gives it."""
    return os.uname().machine


def compiler(architecture: str) -> list[str] | None:
    """The command that compiles C for Linux on an architecture: its gcc, or PyPI's ziglang; None without either."""
    names = ("cc", "gcc", "clang") if architecture == host_architecture() else (f"{architecture}-linux-gnu-gcc",)
    for name in names:
        if found := shutil.which(name):
            return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", f"{architecture}-linux-gnu.{GLIBC}"]
    return None


def built(source: str, architecture: str) -> Path:
    """The compiled program or library of a source in this folder, from the cache if it is there.

    Raises UnavailableError without a compiler, StageError (with its first error) when it fails.
    """
    command = compiler(architecture)
    if command is None:
        raise UnavailableError(
            f"there is no C compiler for {architecture}",
            required=f"{architecture}-linux-gnu-gcc, or the package ziglang",
            advice="`pip install 'edgedl[arm64]'` brings ziglang",
        )
    code = b"".join(path.read_bytes() for path in (SOURCES / source, *sorted(SOURCES.glob("*.h"))))
    flags = FLAGS[source]
    key = hashlib.sha256(b"\0".join([code, *(part.encode() for part in (*command, *flags))])).hexdigest()[:16]
    target = cache_folder() / "native" / f"{Path(source).stem}-{architecture}-{key}"
    if not target.exists():
        _compile([*command, "-O2", "-o"], SOURCES / source, flags, target)
    return target


def _compile(command: Sequence[str], source: Path, flags: Sequence[str], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        partial = Path(folder) / target.name
        done = subprocess.run([*command, partial, source, *flags], capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or [""]
            raise StageError(f"{source.name} does not compile", received=lines[0][:300], required=" ".join(command))
        partial.rename(target)  # atomic: two that build at once leave one whole file
