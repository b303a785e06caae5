"""Files are whole or absent, also when the disk refuses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgedl.core.errors import OutputError
from edgedl.core.files import gzip_size, record_of, write_atomically

NAMESPACE = ["unshare", "--map-root-user", "--mount"]


def in_namespace(mount: str, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python `code` with a file system of its own mounted at `folder`."""
    script = f"mount -t tmpfs {mount} none {folder} && exec {sys.executable} -c '{code}'"
    return subprocess.run([*NAMESPACE, "sh", "-c", script], capture_output=True, text=True, check=False)


def namespaces_work() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


needs_namespace = pytest.mark.skipif(
    not namespaces_work(), reason="needs unshare(1) with mount namespaces (util-linux)"
)


def test_replaces_the_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    write_atomically(target, "one")
    write_atomically(target, b"two")
    assert target.read_text() == "two"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file"):
        write_atomically(tmp_path / "file" / "x", "one")


@needs_namespace
@pytest.mark.parametrize(("mount", "words"), [("-o size=64k", "disk is full"), ("-o ro", "read-only")])
def test_a_full_disk_and_a_read_only_folder_are_one_error_and_leave_nothing(
    tmp_path: Path, mount: str, words: str
) -> None:
    code = (
        "import os\n"
        "from pathlib import Path\n"
        "from edgedl.core.errors import OutputError\n"
        "from edgedl.core.files import write_atomically\n"
        "try:\n"
        f'    write_atomically(Path("{tmp_path}/x"), b"0" * 1_000_000)\n'
        "except OutputError as error:\n"
        f'    print(error, os.listdir("{tmp_path}"))\n'
    )
    done = in_namespace(mount, code, tmp_path)
    assert words in done.stdout, done.stderr
    assert done.stdout.rstrip().endswith("[]")


def test_sizes_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"a" * 10_000)
    entry = record_of(path, tmp_path, with_gzip=True)
    assert (entry.name, entry.size_bytes) == ("a.bin", 10_000)
    assert entry.gzip_bytes == gzip_size(path) < 100
    assert entry.sha256 == "27dd1f61b867b6a0f6e9d8a41c43231de52107e53ae424de8f847b821db4b711"
