"""The npm packages that the page loads: which (packages.yaml), where they are kept, and how npm brings them."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgedl.core.errors import OutputError, StageError, UnavailableError
from edgedl.devices.native import cache_folder

TIMEOUT_S = 600.0
LITERT, ONNX_RUNTIME = "@litertjs/core", "onnxruntime-web"


@dataclass(frozen=True)
class NpmPackage:
    """One package. integrity: "sha512-" and the base64 digest of its archive. folder: its name among served files."""

    name: str
    version: str
    integrity: str
    folder: str
    files: tuple[str, ...]

    @property
    def place(self) -> Path:
        """Where its files are, or would be put."""
        return cache_folder() / "web" / f"{self.folder}-{self.version}"

    @property
    def is_there(self) -> bool:
        """Whether all its files are in the cache."""
        return all((self.place / file).is_file() for file in self.files)


@functools.cache
def packages() -> tuple[NpmPackage, ...]:
    """What packages.yaml lists."""
    import yaml

    entries = yaml.safe_load(Path(__file__).with_name("packages.yaml").read_text())
    return tuple(NpmPackage(**{**entry, "files": tuple(entry["files"])}) for entry in entries)


def version_of(name: str) -> str:
    """The pinned version of a package."""
    return next(package.version for package in packages() if package.name == name)


def missing() -> list[NpmPackage]:
    """Those that are not in the cache."""
    return [package for package in packages() if not package.is_there]


def package_files() -> dict[str, Path]:
    """Every file of the packages, by its name among served files."""
    return {f"{package.folder}/{file}": package.place / file for package in packages() for file in package.files}


def fetch(package: NpmPackage) -> Path:
    """Bring a package with the user's npm into the cache, once its archive has the right digest; no script of it runs.

    Raises UnavailableError without npm or where npm fails, StageError for an archive that is not the pinned one.
    """
    npm = shutil.which("npm")
    wanted = f"{package.name}@{package.version}"
    if npm is None:
        raise UnavailableError(
            f"{wanted} comes with npm, which is not installed",
            required="npm on the PATH",
            advice="Install Node.js with npm (Debian, Ubuntu: `apt-get install npm`), then run this again",
        )
    package.place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=package.place.parent) as folder:
        command = [npm, "pack", wanted, "--ignore-scripts", "--silent", "--pack-destination", folder]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise _npm_failed(wanted, f"no answer within {TIMEOUT_S:g} s") from None
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise _npm_failed(wanted, _reason(done.stdout + done.stderr))
        _check(package, archives[0])
        unpacked = Path(folder) / "unpacked"
        _unpack(package, archives[0], unpacked)
        with contextlib.suppress(OSError):  # the folder is there if another edgedl was quicker
            shutil.rmtree(package.place, ignore_errors=True)
            unpacked.rename(package.place)
    if not package.is_there:
        raise OutputError(f"{package.place} cannot be written")
    return package.place


def _npm_failed(wanted: str, reason: str) -> UnavailableError:
    return UnavailableError(
        f"npm cannot bring {wanted}", received=reason, advice=f"`npm view {wanted}` shows whether your npm finds it"
    )


def _reason(said: str) -> str:
    """npm's error in a line, without its prefix and the path of its log."""
    lines = [line.removeprefix("npm error").removeprefix("npm ERR!").strip() for line in said.splitlines()]
    telling = [line for line in lines if line and "complete log" not in line and not line.startswith("npm warn")]
    return " ".join(telling[:3])[:300] or "no reason given"


def _check(package: NpmPackage, archive: Path) -> None:
    digest = hashlib.sha512(archive.read_bytes()).digest()
    received = f"sha512-{base64.b64encode(digest).decode()}"
    if received != package.integrity:
        raise StageError(
            f"the archive of {package.name}@{package.version} is not the one that edgedl was written for",
            required=package.integrity,
            received=received,
            advice="Nothing of it was kept. Ask whoever runs the registry that your npm uses",
        )


def _unpack(package: NpmPackage, archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as content:
        for file in package.files:
            member = content.getmember(f"package/{file}")
            source = content.extractfile(member)
            assert source is not None, f"{file} is no plain file"
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
