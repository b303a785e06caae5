"""Where the old file is: a path, an earlier commit of the same path, or found by its hash.

By its hash it is looked for at its path, in a cache folder, in every commit of that path that is here, and at a URL.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from edgedl.core import git
from edgedl.core.errors import ConfigError, DataError, InputError, OutputError
from edgedl.core.files import sha256_of, write_atomically
from edgedl.devices.native import cache_folder
from edgedl.pipeline.check.baseline import Baseline
from edgedl.pipeline.data.download import Remote, fetch

GIT = "git:"
URL_VARIABLE = "EDGEDL_BASELINES_URL"


class NotFoundError(InputError):
    """The file that a baseline names by its hash is nowhere to be had."""


@dataclass(frozen=True)
class Found:
    """The old file, and in words where it was."""

    path: Path
    where: str


def cached(sha256: str, name: str) -> Path:
    """Where an old model file is kept."""
    return cache_folder() / "models" / sha256 / name


def keep(path: Path) -> None:
    """Have the file in the cache, for when it is no longer where it is. Raises OutputError."""
    _kept(path.read_bytes(), path.name)


def at_commit(new: Path, name: str) -> Found | None:
    """The file as it was in a commit (a branch, HEAD~1, a tag); None where it was not in it.

    Raises ConfigError outside a repository and for a commit that is not here, InputError for a content that is not.
    """
    top = git.repository_of(new)
    if top is None:
        received = git.why_no_top(new.absolute().parent)
        raise ConfigError(
            f"{new} is in no git repository",
            required="one, for an earlier commit of it",
            received=received,
            advice="Name the old file itself: --against FILE",
        )
    commit = git.revision(top, name)
    if commit is None and name == "HEAD":
        return None  # nothing was committed yet
    if commit is None:
        raise ConfigError(f"git knows no commit {name!r} here", advice=_to_have(top, name))
    content = git.content_at(new, commit)
    if content is None:
        return None
    return Found(_kept(content, new.name), f"{new.name} in {name} ({commit[:7]})")


SHALLOW = "This clone is shallow: `git fetch --unshallow` (actions/checkout: fetch-depth: 0) brings the rest"


def _to_have(top: Path, name: str) -> str:
    """The next step where a commit is not known."""
    if git.revision(top, f"origin/{name}"):
        return f"The server's is {GIT}origin/{name}"
    if git.is_shallow(top):
        return SHALLOW
    return "`git log --all --oneline` lists commits; `git fetch` brings the server's"


def by_hash(baseline: Baseline, at: Path) -> Found:
    """The file that a baseline accepted. at: where the baseline lies. Raises NotFoundError."""
    folder = Path(os.path.realpath(at)).parent
    path = Path(os.path.realpath(folder / baseline.file))
    if path.is_file() and sha256_of(path) == baseline.sha256:
        return Found(path, f"{baseline.file} as accepted")
    own = cached(baseline.sha256, path.name)
    if own.is_file() and sha256_of(own) == baseline.sha256:
        return Found(own, f"{baseline.file} as accepted, from the cache")
    looked = [f"{path.name} as it is now" if path.is_file() else f"no {path.name} there now"]
    try:
        content, n = git.version_by_hash(path, baseline.sha256)
        if content is not None and hashlib.sha256(content).hexdigest() == baseline.sha256:
            return Found(_kept(content, path.name), f"{baseline.file} as accepted, from git")
        looked.append(f"{n} version{'s' * (n != 1)} of it in git" if n else "none in git")
    except InputError as error:
        looked.append(str(error))
    if baseline.url:
        try:
            return _fetched(baseline, baseline.url, own)
        except DataError as error:
            looked.append(f"{error.what} ({error.received})")
    shallow = f"{SHALLOW}; or put" if git.is_shallow(folder) else "Put"
    raise NotFoundError(
        f"the accepted {baseline.file} of {baseline.model} is not to be had",
        required=f"a file with SHA-256 {baseline.sha256[:12]}…",
        received=", ".join(looked),
        advice=f"{shallow} it into the cache as {own}, give the baseline a `url`, or accept the new file with "
        "--update-baseline",
    )


def _fetched(baseline: Baseline, url: str, own: Path) -> Found:
    url = f"{url}{{file}}" if url.endswith("/") else url
    url = url.replace("{sha256}", baseline.sha256).replace("{file}", quote(own.name))
    base, _, name = url.rpartition("/")
    remote = Remote(base, name, f"sha256:{baseline.sha256}", variable=URL_VARIABLE)
    fetch(remote, own.parent).replace(own)
    return Found(own, f"{baseline.file} as accepted, from {remote.url}")


def _kept(content: bytes, name: str) -> Path:
    """The content as a file of the cache, by its hash."""
    path = cached(hashlib.sha256(content).hexdigest(), name)
    if not (path.is_file() and path.read_bytes() == content):
        try:
            write_atomically(path, content)
        except OutputError as error:
            raise OutputError(error.what, advice="EDGEDL_CACHE names another folder for it") from None
    return path
