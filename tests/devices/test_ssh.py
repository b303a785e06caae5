"""A board by ssh: a real sshd on this machine's loopback."""

from __future__ import annotations

import functools
import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.tiny_models import dense_tflite, model_file

from edgedl.core.errors import ModelError, UnavailableError
from edgedl.devices import find_device, ssh
from edgedl.devices.arm64 import emulator, profiles
from edgedl.devices.protocol import SamplingPlan

PLAN = SamplingPlan(budget_s=4.0)
SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """A server that lets this user in by key; gives the folder with `config`, for `ssh -F`."""
    if SSHD is None:
        pytest.skip("sshd not installed (apt-get install openssh-server)")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user", "arm"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    arm = f'command="{folder}/as-arm",restrict {(folder / "arm.pub").read_text()}'
    (folder / "authorized_keys").write_text((folder / "user.pub").read_text() + arm)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPasswordAuthentication no\nUsePAM no\n"
    )
    known = (folder / "host.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {' '.join(known)}\n")
    common = f"  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n  IdentitiesOnly yes\n"
    (folder / "config").write_text(
        f"Host board\n{common}  IdentityFile {folder}/user\n  UserKnownHostsFile {folder}/known_hosts\n"
        f"Host arm\n{common}  IdentityFile {folder}/arm\n  UserKnownHostsFile {folder}/known_hosts\n"
        f"Host stranger\n{common}  IdentityFile {folder}/host\n  UserKnownHostsFile {folder}/known_hosts\n"
        f"Host unknown\n{common}  IdentityFile {folder}/user\n  UserKnownHostsFile {folder}/nothing\n"
        "Host off\n  HostName 127.0.0.1\n  Port 1\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.DEVNULL)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield folder
    process.terminate()
    process.wait()


@pytest.fixture
def board(server: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder that the board has for temporary files; the line to it is in the environment."""
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.setenv("EDGEDL_SSH", f"ssh -F {server}/config")
    monkeypatch.setattr(ssh, "SshShell", functools.partial(ssh.SshShell, temporary=str(there)))
    return there


def test_files_are_timed_there_and_nothing_is_left(board: Path, tmp_path: Path) -> None:
    files = [model_file(dense_tflite(tmp_path / f"{layers} layers.tflite", layers)) for layers in (2, 8)]
    device, target = find_device("ssh:board")
    report = device.profile(files, PLAN, target)
    assert (report.device, report.obtained) == ("ssh:board", "measured")
    assert "x86_64" in report.hardware or "aarch64" in report.hardware
    assert report.conditions.load_average is not None
    large = report.models[1]
    assert large.timing is not None
    assert large.timing.ratio is not None
    assert large.timing.ratio.value > 1
    assert len(large.ops) == 8
    assert len(large.outputs) == 1
    assert list(board.iterdir()) == []


AS_ARM = """#!/bin/sh
# What a client asks of an Arm64 board, done here: its programs run in QEMU, and `uname` says what a board's would.
uname() {{ if [ "$1" = -m ]; then echo aarch64; else echo Linux 6.6.51; fi; }}
script=$(printf '%s' "$SSH_ORIGINAL_COMMAND" | sed "s#^sh -c ##; s#\\./probe#{runs_by} ./probe#")
case $SSH_ORIGINAL_COMMAND in
  "sh -c "*) eval "eval $script" ;;
  *) eval "$SSH_ORIGINAL_COMMAND" ;;
esac
"""


def test_an_arm64_board(emulated: None, server: Path, board: Path, tmp_path: Path) -> None:
    profile = profiles.load("raspberry-pi-4")
    runs_by = f"qemu-aarch64 -L {emulator.root_folder(profile)} -cpu {profile.qemu_cpu}"
    (server / "as-arm").write_text(AS_ARM.format(runs_by=runs_by))
    (server / "as-arm").chmod(0o755)
    files = [model_file(dense_tflite(tmp_path / f"{layers}.tflite", layers)) for layers in (2, 8)]
    report = ssh.device.profile(files, PLAN, "arm")
    assert "aarch64" in report.hardware
    small, large = report.models
    assert large.timing is not None
    assert large.timing.ratio is not None
    assert large.timing.ratio.value > 1
    assert len(small.ops) == 2
    assert len(small.outputs) == 1
    assert list(board.iterdir()) == []


def test_a_file_that_the_runtime_refuses_is_named_and_nothing_is_left(board: Path, tmp_path: Path) -> None:
    file = model_file(dense_tflite(tmp_path / "custom.tflite", 1, custom_op="NoSuchOp"))
    with pytest.raises(ModelError, match=r"custom\.tflite.*NoSuchOp"):
        ssh.device.profile([file], PLAN, "board")
    assert list(board.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("stranger", "stranger cannot be reached.*Permission denied.*ssh-copy-id stranger"),
        ("unknown", "Host key verification failed.*by hand"),
        ("off", "refused.*Is an ssh server running"),
        ("no-such-host.invalid", "Check the name"),
        ("-oProxyCommand=id", "needs a host"),
        ("", "needs a host"),
    ],
)
def test_a_host_that_cannot_be_reached_is_told_with_the_next_step(
    board: Path, tmp_path: Path, host: str, says: str
) -> None:
    file = model_file(dense_tflite(tmp_path / "m.tflite", 1))
    with pytest.raises(UnavailableError, match=f"(?s){says}"):
        ssh.device.profile([file], PLAN, host)


def test_no_room_is_told_before_anything_is_sent(board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedl.devices import remote

    monkeypatch.setattr(remote, "SPARE", 10**9)
    with pytest.raises(UnavailableError, match="no room on board"):
        ssh.device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 1))], PLAN, "board")
    assert list(board.iterdir()) == []


def test_another_architecture_is_refused(board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedl.devices import remote

    monkeypatch.setattr(remote, "_FACTS", "echo machine=armv7l")
    with pytest.raises(UnavailableError, match=r"x86_64 or aarch64.*armv7l"):
        ssh.device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 1))], PLAN, "board")


def test_without_a_client_it_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDL_SSH", "no-such-ssh")
    assert ssh.device.status().command == "apt-get install openssh-client"
    with pytest.raises(UnavailableError, match="cannot be started"):
        ssh.SshShell("board").run("true")
