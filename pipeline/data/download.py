"""Fetching a file with a known checksum: whole and right, or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import ssl
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgedl.core.console import reporter
from edgedl.core.errors import DataError, OutputError

URL_VARIABLE = "EDGEDL_DATASETS_URL"
_CHUNK = 1 << 18
_TIMEOUT_S = 30.0
_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    TimeoutError,
    ConnectionError,
    ValueError,  # a URL that is none
)


@dataclass(frozen=True)
class Remote:
    """A file to fetch: `base` + `name`. checksum: "sha256:…" or, where nothing better is published, "md5:…".

    variable: the environment variable that names another server (a mirror) for all files of its kind.
    """

    base: str
    name: str
    checksum: str
    variable: str = URL_VARIABLE

    @property
    def url(self) -> str:
        """Where it is, or would be on the mirror."""
        base = os.environ.get(self.variable) or self.base
        return f"{base.rstrip('/')}/{self.name}"


def fetch(remote: Remote, folder: Path) -> Path:
    """The file in `folder`: fetched if it is not there or not right. Raises DataError, OutputError."""
    path = folder / remote.name
    if path.is_file():
        if _checksum_of(path, remote) == remote.checksum:
            return path
        reporter().warn(f"{path} is not what it should be (checksum); fetching it again")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{remote.name}.", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                _download(remote, file, path)
            _check(Path(temporary), remote, path)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise OutputError(
            f"cannot write {path}",
            received=error.strerror or str(error),
            advice="Set data.cache to a writable folder with space",
        ) from error
    return path


def _download(remote: Remote, file: IO[bytes], path: Path) -> None:
    by_hand = f"or fetch it by hand and save it as {path}"
    try:
        request = urllib.request.Request(remote.url, headers={"User-Agent": "edgedl"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            total = int(response.headers.get("Content-Length") or 0)
            received = _copy(response, file, total, remote.name)
    except urllib.error.HTTPError as error:
        advice = (
            f"Check {remote.variable}, {by_hand}" if remote.variable in os.environ else f"Try again later, {by_hand}"
        )
        raise DataError(
            f"cannot fetch {remote.url}", received=f"answer {error.code} {error.reason}", advice=advice
        ) from None
    except _NETWORK_ERRORS as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"cannot fetch {remote.url}",
            received=str(getattr(reason, "strerror", None) or reason),
            advice=f"Check the connection (and {remote.variable}, if set), {by_hand}",
        ) from None
    if received < total:
        raise DataError(
            f"cannot fetch {remote.url}: the connection ended early",
            required=f"{total} bytes",
            received=f"{received} bytes",
            advice=f"Try again, {by_hand}",
        )


def _copy(response: http.client.HTTPResponse, file: IO[bytes], total: int, name: str) -> int:
    received = 0
    with reporter().progress(f"Fetching {name}", total or 1) as progress:
        while piece := response.read(_CHUNK):
            file.write(piece)
            received += len(piece)
            progress.update(min(received, total or 1), f"{received / 1e6:.1f} MB")
    return received


def _check(temporary: Path, remote: Remote, path: Path) -> None:
    if (found := _checksum_of(temporary, remote)) != remote.checksum:
        raise DataError(
            f"{remote.url} is not the published file",
            required=remote.checksum,
            received=found,
            advice=f"Check {remote.variable}, if set; a proxy may have answered instead. Nothing was saved as {path}",
        )


def _checksum_of(path: Path, remote: Remote) -> str:
    kind = remote.checksum.partition(":")[0]
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"
