"""What a repository knows of a file, asked of repositories that git makes here."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgedl.core.errors import InputError
from edgedl.core.git import (
    commit_of,
    content_at,
    is_shallow,
    repository_of,
    revision,
    top_of,
    tracked_files,
    version_by_hash,
    why_no_top,
)

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
pytestmark = needs_git

OURS = {
    **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}
"""Where no setting of the person who runs the tests counts."""


def git(folder: Path, *arguments: str, **environment: str) -> str:
    """What the command prints; raises CalledProcessError where it fails."""
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=OURS | environment)
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    """An empty one, on the branch main."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    return folder


def commit(folder: Path, **files: str | bytes) -> str:
    """All there is, with these files (`__` stands for a dot); the commit's SHA."""
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content.encode() if isinstance(content, str) else content)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "a change")
    return git(folder, "rev-parse", "HEAD")


def by_hash(path: Path, content: str) -> bytes | None:
    return version_by_hash(path, hashlib.sha256(content.encode()).hexdigest())[0]


@pytest.fixture(scope="module")
def two_commits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = repository(tmp_path_factory.mktemp("repository"))
    commit(folder, m="one")
    git(folder, "tag", "v1")
    commit(folder, m="two")
    return folder


@pytest.fixture
def repo(two_commits: Path, tmp_path: Path) -> Path:
    """Two commits: `m` was "one" and is "two"."""
    return Path(shutil.copytree(two_commits, tmp_path / "repo"))


# --- commits, and a file in them ---------------------------------------------------------------------------------


def test_a_file_as_it_was_at_any_name_of_a_commit(repo: Path):
    git(repo, "switch", "--quiet", "--create", "side", "HEAD~1")
    commit(repo, m="side", n="new")
    (repo / "m").unlink()
    contents = {"HEAD": b"side", "HEAD~1": b"one", "main": b"two", "v1": b"one", "main^": b"one"}
    for name, content in contents.items():
        sha = revision(repo, name)
        assert sha is not None
        assert content_at(repo / "m", sha) == content, name
    assert content_at(repo / "n", revision(repo, "main") or "") is None, "it was not there yet"


@pytest.mark.parametrize(
    "name", ["", "nope", "^HEAD", "--all", "-", "HEAD:m", "HEAD..v1", "HEAD^{tree}", "a b", "ü", "a\0b"]
)
def test_what_is_no_commit(repo: Path, name: str):
    assert revision(repo, name) is None


@pytest.mark.parametrize(
    "name", ["m[1].x", "*", "a b", "ü", "-n", ":(top)m", "'", '"', "new\nline", "new\n", " m", "#"]
)
def test_names_are_taken_as_they_are(repo: Path, name: str):
    sha = commit(repo, m1__x="another", **{name: "odd"})
    (repo / name).write_text("changed")
    assert content_at(repo / name, sha) == b"odd"
    assert by_hash(repo / name, "odd") == b"odd"
    assert by_hash(repo / name, "two") is None, "another file's content"
    assert repo / name in (tracked_files(repo, "") or [])


def test_from_wherever_it_is_asked(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (repo / "deep" / "er").mkdir(parents=True)
    sha = commit(repo / "deep", n="deep")
    for folder, path in ((repo / "deep" / "er", "../../m"), (repo / "deep", "../m"), (repo, "m"), (tmp_path, "repo/m")):
        monkeypatch.chdir(folder)
        assert content_at(Path(path), sha) == b"two"
        assert by_hash(Path(path), "one") == b"one"
    shutil.rmtree(repo / "deep")
    monkeypatch.chdir(tmp_path)
    assert content_at(Path("repo/deep/n"), sha) == b"deep", "its folder is gone"
    assert by_hash(repo / "deep" / "n", "deep") == b"deep"


# --- symbolic links ----------------------------------------------------------------------------------------------


def test_a_link_is_followed_as_it_was(repo: Path):
    """`current.x` leads to the newest version: in the commit before, to another file."""
    (repo / "current.x").symlink_to("v1.x")
    before = commit(repo, v1__x="first")
    (repo / "current.x").unlink()
    (repo / "current.x").symlink_to("v2.x")
    now = commit(repo, v2__x="second")
    assert content_at(repo / "current.x", before) == b"first"
    assert content_at(repo / "current.x", now) == b"second"


def test_a_link_to_a_folder_is_followed_as_it_was(repo: Path):
    for name in ("v1", "v2"):
        (repo / name).mkdir()
    (repo / "current").symlink_to("v1")
    before = commit(repo, **{"v1/m": "first"})
    (repo / "current").unlink()
    (repo / "current").symlink_to("v2")
    commit(repo, **{"v2/m": "second"})
    assert content_at(repo / "current" / "m", before) == b"first"


def test_a_link_that_is_not_in_the_commit_stands_for_its_file(repo: Path, tmp_path: Path):
    sha = git(repo, "rev-parse", "HEAD")
    (repo / "link").symlink_to("m")
    (tmp_path / "outside").symlink_to(repo / "m")
    assert content_at(repo / "link", sha) == content_at(tmp_path / "outside", sha) == b"two"
    assert repository_of(tmp_path / "outside") == repo.resolve()


def test_a_link_out_of_the_repository_is_told_and_not_taken_for_a_new_file(repo: Path, tmp_path: Path):
    (tmp_path / "elsewhere").write_text("x")
    (repo / "link").symlink_to(tmp_path / "elsewhere")
    sha = commit(repo)
    with pytest.raises(InputError, match=f"a link to {tmp_path / 'elsewhere'}"):
        content_at(repo / "link", sha)


def test_a_link_that_leads_to_itself_is_no_repository_s_file(repo: Path):
    (repo / "loop").symlink_to("loop")
    assert content_at(repo / "loop", git(repo, "rev-parse", "HEAD")) is None


# --- found by its hash -------------------------------------------------------------------------------------------


def test_every_content_that_a_file_ever_had_is_found_by_its_hash(repo: Path):
    git(repo, "switch", "--quiet", "--create", "side", "v1")
    commit(repo, m="side")
    git(repo, "switch", "--quiet", "main")
    git(repo, "rm", "--quiet", "m")
    commit(repo)
    for content in ("one", "two", "side"):
        assert by_hash(repo / "m", content) == content.encode()
    missing, n = version_by_hash(repo / "m", "0" * 64)
    assert (missing, n) == (None, 3)


@pytest.mark.parametrize(
    "setting",
    ["log.showRoot=false", "log.follow=true", "log.showSignature=true", "color.ui=always", "diff.renames=copies"],
)
def test_the_person_s_settings_of_git_do_not_matter(repo: Path, setting: str):
    git(repo, "config", *setting.split("="))
    git(repo, "mv", "m", "n")
    commit(repo)
    assert by_hash(repo / "m", "one") == b"one"
    assert by_hash(repo / "n", "two") == b"two"
    assert content_at(repo / "m", revision(repo, "v1") or "") == b"one"
    (repo / "n").write_text("changed")
    assert is_dirty(repo)
    assert tracked_files(repo, "n") == [repo / "n"]


def test_what_a_merge_left_behind_is_found_too(repo: Path):
    git(repo, "switch", "--quiet", "--create", "side", "v1")
    commit(repo, m="side")
    git(repo, "switch", "--quiet", "main")
    git(repo, "merge", "--quiet", "--strategy", "ours", "--no-edit", "side")
    git(repo, "branch", "--quiet", "--delete", "side")
    assert by_hash(repo / "m", "side") == b"side"


def test_commits_that_no_branch_has_but_head(repo: Path):
    git(repo, "switch", "--quiet", "--detach")
    commit(repo, m="detached")
    (repo / "m").write_text("changed")
    assert by_hash(repo / "m", "detached") == b"detached"
    assert commit_of(repo) is not None


# --- clones, worktrees, submodules, hooks ------------------------------------------------------------------------


def test_a_shallow_clone_says_so(repo: Path, tmp_path: Path):
    git(tmp_path, "clone", "--quiet", "--depth", "1", repo.as_uri(), "shallow")
    shallow = tmp_path / "shallow"
    assert is_shallow(shallow)
    assert not is_shallow(repo)
    assert not is_shallow(tmp_path)
    assert revision(shallow, "HEAD~1") is None
    assert by_hash(shallow / "m", "two") == b"two"
    assert by_hash(shallow / "m", "one") is None
    git(shallow, "fetch", "--quiet", "--unshallow")
    assert by_hash(shallow / "m", "one") == b"one"


def test_a_submodule_is_a_repository_of_its_own(repo: Path, tmp_path: Path):
    outer = repository(tmp_path / "outer")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", repo.as_uri(), "sub")
    commit(outer, m="outer")
    sha = revision(outer / "sub", "HEAD~1")
    assert sha is not None
    assert content_at(outer / "sub" / "m", sha) == b"one"
    assert repository_of(outer / "sub" / "m") == (outer / "sub").resolve()


def test_a_bare_repository_has_no_files(repo: Path, tmp_path: Path):
    git(tmp_path, "clone", "--quiet", "--bare", repo.as_uri(), "bare")
    assert top_of(tmp_path / "bare") is None
    assert "work tree" in why_no_top(tmp_path / "bare")


def test_in_a_hook_it_is_still_the_repository_around_the_file(repo: Path, tmp_path: Path):
    """git gives its hooks a GIT_DIR and a GIT_INDEX_FILE that hold for the folder where they run."""
    git(repo, "worktree", "add", "--quiet", str(tmp_path / "tree"), "-b", "tree")
    (tmp_path / "tree" / "sub").mkdir()
    code = "import sys, pathlib as p; from edgedl.core import git; f = p.Path('sub/n').absolute(); "
    code += "print(git.content_at(f, sys.argv[1]), git.commit_of(f.parent).dirty, git.tracked_files(f.parent, 'n'))"
    before = commit(tmp_path / "tree", **{"sub/n": "before"})
    hook = repo / ".git" / "hooks" / "pre-commit"
    hook.write_text(f"#!/bin/sh\n{shlex.join([sys.executable, '-c', code, before])} > said 2>&1\n")
    hook.chmod(0o755)
    commit(tmp_path / "tree", **{"sub/n": "after"})
    said = (tmp_path / "tree" / "said").read_text()
    assert said == f"b'before' True [{(tmp_path / 'tree' / 'sub' / 'n')!r}]\n"


def test_why_there_is_no_repository(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert top_of(tmp_path) is None
    assert repository_of(tmp_path / "m") is None
    assert content_at(tmp_path / "m", "HEAD") is None
    assert version_by_hash(tmp_path / "m", "0" * 64) == (None, 0)
    assert "not a git repository" in why_no_top(tmp_path)
    with monkeypatch.context() as patched:
        patched.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        assert top_of(repo) is None
        assert "dubious ownership" in why_no_top(repo), "as in a container"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert top_of(repo) is None
    assert commit_of(repo) is None
    assert why_no_top(repo) == "no git command that answers"


# --- where the repository stands ---------------------------------------------------------------------------------


def is_dirty(repo: Path, besides: Path | None = None) -> bool:
    found = commit_of(repo, besides=besides)
    assert found is not None
    assert found.sha == git(repo, "rev-parse", "HEAD")
    return found.dirty


def test_a_commit_is_dirty_with_changes_besides_those_of_the_history(repo: Path):
    commit(repo, history="a line\n", z="z")
    assert not is_dirty(repo)
    (repo / "history").write_text("two lines\n")
    assert is_dirty(repo)
    assert not is_dirty(repo, repo / "history"), "the first change that git names"
    (repo / "untracked").write_text("")
    assert not is_dirty(repo, repo / "history")
    (repo / "z").write_text("changed")
    assert is_dirty(repo, repo / "history")


def test_a_repository_without_a_commit(tmp_path: Path):
    repository(tmp_path)
    assert commit_of(tmp_path) is None
    assert revision(tmp_path, "HEAD") is None


def test_files_that_are_tracked_or_could_be(repo: Path):
    (repo / "out").mkdir()
    (repo / "out" / "ignored.x").write_text("")
    (repo / "gone.x").write_text("")
    commit(repo, __gitignore="out/*\n!out/kept.x\n", a__x="")
    (repo / "gone.x").unlink()
    (repo / "b.x").write_text("untracked")
    (repo / "b.y").write_text("untracked")
    (repo / "out" / "kept.x").write_text("")
    assert tracked_files(repo, ".x") == [repo / "a.x", repo / "b.x", repo / "out" / "kept.x"]
    assert tracked_files(repo / "out", ".x", ".y") == [repo / "out" / "kept.x"]
    assert tracked_files(repo.parent, ".x") is None


# --- Git LFS -----------------------------------------------------------------------------------------------------

STAND_IN = """#!/bin/sh
# What git-lfs does to a pointer whose object is here.
[ "$1" = version ] && exit 0
oid=$(sed -n 's/^oid sha256://p')
exec cat "$(git rev-parse --git-common-dir)/lfs/objects/$(echo $oid | cut -c1-2)/$(echo $oid | cut -c3-4)/$oid"
"""


@pytest.fixture
def lfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git-lfs, or a stand-in for the part of it that is used."""
    if shutil.which("git-lfs") is None:
        (tmp_path / "tools").mkdir()
        (tmp_path / "tools" / "git-lfs").write_text(STAND_IN)
        (tmp_path / "tools" / "git-lfs").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "tools"), prepend=os.pathsep)


def pointer_to(repo: Path, content: bytes, *, here: bool = True) -> str:
    """What is committed for a file that Git LFS keeps."""
    oid = hashlib.sha256(content).hexdigest()
    if here:
        path = repo / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"


def test_what_git_lfs_keeps_is_brought_from_where_it_is(repo: Path, lfs: None):
    before = commit(repo, big=pointer_to(repo, b"big"))
    commit(repo, big=pointer_to(repo, b"bigger"))
    assert content_at(repo / "big", before) == b"big"
    assert by_hash(repo / "big", "big") == b"big"


def test_what_git_lfs_cannot_bring_is_told_and_not_taken_for_a_new_file(repo: Path, lfs: None):
    sha = commit(repo, big=pointer_to(repo, b"gone", here=False))
    with pytest.raises(InputError, match=r"Git LFS does not bring big\. `git lfs fetch --all` says why"):
        content_at(repo / "big", sha)
    with pytest.raises(InputError, match="Git LFS does not bring big"):
        by_hash(repo / "big", "gone")
    assert by_hash(repo / "big", "another") is None, "only the one that is looked for is fetched"


def test_without_git_lfs_its_absence_is_told(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool = shutil.which("git")
    assert tool is not None
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "git").symlink_to(tool)
    sha = commit(repo, big=pointer_to(repo, b"big"))
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    monkeypatch.setenv("GIT_EXEC_PATH", git(repo, "--exec-path"))
    if subprocess.run([tool, "lfs", "version"], capture_output=True, check=False).returncode == 0:
        pytest.skip("git-lfs lies beside git's own commands")
    with pytest.raises(InputError, match="Install git-lfs"):
        content_at(repo / "big", sha)
