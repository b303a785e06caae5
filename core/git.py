"""What the repository around a file knows of it, by the `git` command; nothing here writes to it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgedl.core.errors import InputError

_LFS = re.compile(rb"version https://git-lfs[^\n]*\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\n")
_OBJECT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
"""What git tells its hooks, which may hold from the folder alone in which they run."""


@dataclass(frozen=True)
class Commit:
    """Where a repository stands. dirty: tracked files differ from it."""

    sha: str
    dirty: bool


def commit_of(folder: Path, *, besides: Path | None = None) -> Commit | None:
    """The commit that is checked out around `folder`; None outside a repository, or without git.

    besides: a file whose changes do not count, as a history that grows with every check.
    """
    sha, top = _words(folder, "rev-parse", "HEAD"), top_of(folder)
    if sha is None or top is None:
        return None
    status = _words(folder, "status", "--porcelain", "--untracked-files=no", "--no-renames", "-z") or ""
    changed = {(top / entry[3:]).resolve() for entry in status.split("\0") if entry}
    return Commit(sha, bool(changed - {besides.resolve()} if besides else changed))


def top_of(folder: Path) -> Path | None:
    """The root of the working tree around `folder`; None outside one, or without git."""
    top = _words(folder, "rev-parse", "--show-toplevel")
    return Path(top) if top else None


def why_no_top(folder: Path) -> str:
    """Why there is no working tree around `folder`, in git's words."""
    done = _run(folder, "rev-parse", "--show-toplevel")
    if done is None:
        return "no git command that answers"
    lines = done.stderr.decode(errors="replace").splitlines()
    return lines[0].removeprefix("fatal: ") if lines else "a folder without files of its own"


def repository_of(path: Path) -> Path | None:
    """The root of the working tree that a file is in, or was; None where there is none."""
    return next((top for top, _ in _places(path)), None)


def is_shallow(folder: Path) -> bool:
    """Whether earlier commits were not fetched."""
    return _words(folder, "rev-parse", "--is-shallow-repository") == "true"


def revision(folder: Path, name: str) -> str | None:
    """The full SHA of a commit by any of its names (a branch, HEAD~1, v1.2); None where there is no such commit."""
    sha = _words(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    return sha if sha and _OBJECT.fullmatch(sha) else None  # "^main" would be everything but


def content_at(path: Path, commit: str) -> bytes | None:
    """A file's content in a commit, through symbolic links as they were; None where it is not in it.

    What Git LFS keeps is fetched from where it is. Raises InputError where the file is in it and its content is not to
    be had.
    """
    return next((content for place in _places(path) if (content := _content(*place, commit)) is not None), None)


def _content(top: Path, name: str, commit: str) -> bytes | None:
    end = "\0" if "\n" in name else "\n"  # the first needs git 2.38
    given = os.fsencode(f"{commit}:{name}{end}")
    form = ("--batch-check=%(objectname)", "--follow-symlinks", *(("-z",) if end == "\0" else ()))
    found = _words(top, "cat-file", *form, given=given) or ""
    if found.endswith(" missing"):
        return None
    content = _git(top, "cat-file", "blob", found) if _OBJECT.fullmatch(found) else None
    if content is None:
        raise InputError(
            f"git does not hold what {name} is in {commit[:7]}",
            received=_link(found),
            advice="`git fetch --refetch` brings what a partial clone left out",
        )
    return _smudged(top, name, content) if _LFS.match(content) else content


def _link(found: str) -> str | None:
    kind, _, target = found.partition("\n")
    return f"a link to {target}" if kind.startswith("symlink ") else None


def version_by_hash(path: Path, sha256: str) -> tuple[bytes | None, int]:
    """The content with that hash among all that the file ever had in the commits of any branch that are here, and how
    many it had; what Git LFS keeps is fetched if it is the one. Raises InputError where that fails."""
    top, name = next(_places(path), (None, ""))
    if top is None:
        return None, 0
    form = ("--all", "--full-history", "-m", "--raw", "--no-abbrev", "--no-renames", "--format=", "-z")
    plain = ("--literal-pathspecs", "-c", "log.showRoot=true", "-c", "log.follow=false")
    changes = _git(top, *plain, "log", *form, "--", name) or b""
    blobs = re.findall(rb":\d{6} 100\d{3} [0-9a-f]+ ([0-9a-f]+) [A-Z]\d*\0", changes)
    blobs = list(dict.fromkeys(blob.decode() for blob in blobs))
    for blob in blobs:
        content = _git(top, "cat-file", "blob", blob)
        if content is None:
            continue
        kept = _LFS.match(content)
        if kept and kept[1].decode() == sha256:
            return _smudged(top, name, content), len(blobs)
        if hashlib.sha256(content).hexdigest() == sha256:
            return content, len(blobs)
    return None, len(blobs)


def tracked_files(folder: Path, *suffixes: str) -> list[Path] | None:
    """Files below `folder` that are in the index or could be added, with one of the suffixes; None outside a
    repository."""
    found = _words(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if found is None:
        return None
    paths = [folder / name for name in dict.fromkeys(found.split("\0")) if name.endswith(suffixes)]
    return sorted(path for path in paths if path.is_file())


def _places(path: Path) -> Iterator[tuple[Path, str]]:
    """The root of the working tree around a file, which need not be there any more, and its name from there.

    Of a link first its own name, for what it led to then may be another file; then that of what it leads to.
    """
    real = Path(os.path.realpath(path))
    own = path.absolute() if ".." not in path.parts else real
    for one in dict.fromkeys((own, real)):
        top = top_of(next(parent for parent in one.parents if parent.is_dir()))
        root = next((parent for parent in one.parents if top and Path(os.path.realpath(parent)) == top), None)
        if top and root:
            yield top, one.relative_to(root).as_posix()


def _smudged(top: Path, name: str, pointer: bytes) -> bytes:
    """What a pointer of Git LFS stands for. Raises InputError where it cannot be had."""
    content = _git(top, "lfs", "smudge", given=pointer)
    if content is None or content.startswith(b"version https://git-lfs"):
        there = _git(top, "lfs", "version") is not None
        raise InputError(
            f"Git LFS does not bring {name}",
            advice="`git lfs fetch --all` says why" if there else "Install git-lfs: the file is a pointer of it",
        )
    return content


def _words(folder: Path, *arguments: str, given: bytes | None = None) -> str | None:
    answer = _git(folder, *arguments, given=given)
    return os.fsdecode(answer).rstrip("\n") if answer is not None else None


def _git(folder: Path, *arguments: str, given: bytes | None = None) -> bytes | None:
    """What the command prints; None where it fails, or there is none."""
    done = _run(folder, *arguments, given=given)
    return done.stdout if done is not None and done.returncode == 0 else None


def _run(folder: Path, *arguments: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes] | None:
    """The command's end; None where it does not come to one."""
    environment = {key: value for key, value in os.environ.items() if key not in _OF_A_HOOK}
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            input=given,
            capture_output=True,
            timeout=120,
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
            check=False,
        )
    except (OSError, ValueError, subprocess.SubprocessError):  # a ValueError: of a NUL in a name
        return None
