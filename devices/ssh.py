"""`ssh:HOST`: a Raspberry Pi, a Jetson or any 64-bit Linux board, measured there.

HOST is what `ssh` takes: a name, user@name, or an alias of ~/.ssh/config. The environment variable EDGEDL_SSH holds
another command than `ssh`, with options, as GIT_SSH_COMMAND does for git.
"""

from __future__ import annotations

import functools
import io
import os
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedl.core.artifacts import LatencyReport
from edgedl.core.errors import UnavailableError
from edgedl.core.model_facts import ModelFile
from edgedl.devices.protocol import DeviceStatus, SamplingPlan
from edgedl.devices.remote import Answer, board_of, conditions_of, profile_with_probe

CONNECTION_FAILED = 255  # ssh(1), EXIT STATUS
_ADVICE = {  # what ssh says → the next step
    "permission denied": "`ssh-copy-id {host}` lets this user in without a password",
    "host key verification failed": "`ssh {host}` once, by hand, shows the host's key and asks whether it is known",
    "could not resolve": "Check the name, or give the address",
    "connection refused": "Is an ssh server running there? On a Raspberry Pi: `sudo raspi-config`, Interface Options",
    "timed out": "Is the board on, and in the same network?",
    "no route": "Is the board on, and in the same network?",
}


def _command() -> list[str]:
    return shlex.split(os.environ.get("EDGEDL_SSH", "ssh"))


@dataclass(frozen=True)
class SshShell:
    """A line to a host; see `remote.Shell`."""

    host: str
    temporary: str = "/tmp"

    @property
    def name(self) -> str:
        """The host."""
        return self.host

    def run(self, script: str, timeout_s: float = 60.0) -> Answer:
        """Run a script in the host's sh."""
        done = self._ssh(f"sh -c {shlex.quote(script)}", b"", timeout_s)
        return Answer(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def push(self, files: Sequence[tuple[Path, str]], folder: str) -> None:
        """Send the files as one tar stream."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for path, name in files:
                archive.add(path.resolve(), arcname=name)
        done = self._ssh(f"tar -x -f - -C {shlex.quote(folder)}", stream.getvalue(), 600.0)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise UnavailableError(
                f"the files cannot be copied to {self.host}", received=said[-1] if said else "no reason given"
            )

    def _ssh(self, command: str, given: bytes, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        words = [*_command(), "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--", self.host, command]
        try:
            done = subprocess.run(words, input=given, capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise UnavailableError(
                f"{self.host} did not answer within {timeout_s:.0f} s",
                advice="Is it still on? A model that takes longer needs fewer threads' competition, or is hung",
            ) from None
        except OSError as error:
            raise UnavailableError(f"ssh cannot be started: {error}", advice="Install OpenSSH's client") from None
        if done.returncode == CONNECTION_FAILED:
            raise self._refused(done.stderr.decode(errors="replace"))
        return done

    def _refused(self, said: str) -> UnavailableError:
        lines = [line for line in said.strip().splitlines() if line.strip()]
        advice = next((step for words, step in _ADVICE.items() if words in said.lower()), "`ssh {host}` tells more")
        return UnavailableError(
            f"{self.host} cannot be reached by ssh",
            received=lines[-1].strip() if lines else "the connection was lost",
            advice=advice.format(host=self.host),
        )


@dataclass(frozen=True)
class LinuxBoard:
    """The `ssh` device."""

    name: str = "ssh"
    summary: str = "a Linux board by ssh, ssh:HOST (measured there)"
    undisturbed: bool = True

    def targets(self) -> Sequence[str] | None:
        """Any host."""
        return None

    def status(self) -> DeviceStatus:
        """Whether there is an ssh client; hosts are asked when they are used."""
        command = _command()[0]
        if shutil.which(command) is None:
            return DeviceStatus(False, f"{command} not installed", ("ssh",), "apt-get install openssh-client")
        return DeviceStatus(True, "any host that ssh reaches without a password")

    def profile(self, files: Sequence[ModelFile], plan: SamplingPlan, target: str | None = None) -> LatencyReport:
        """Take one session on the host; see `Device.profile`."""
        if not target or target.startswith("-"):
            raise UnavailableError(
                "device 'ssh' needs a host", required="ssh:HOST, e.g. ssh:pi@raspberrypi.local", received="none"
            )
        shell = SshShell(target)
        board = board_of(shell)
        read = functools.partial(conditions_of, shell, plan)
        return profile_with_probe(
            shell, files, plan, device=f"ssh:{target}", board=board, before=read(), conditions=read
        )


device = LinuxBoard()
