"""The process that imports heavy packages once and forks a fresh child for every task (see isolation.py).

python -m edgedl.core.nursery SOCKET KEY MODULE…     ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import shutil
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection, Listener, wait
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from edgedl.core.isolation import carry_out

T = TypeVar("T")


def main() -> None:
    """Import the modules, then serve until standard input ends."""
    address, key, *modules = sys.argv[1:]
    for module in modules:
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # minders are reaped by the kernel
    listener = Listener(address, authkey=bytes.fromhex(key))
    socket: int = cast(Any, listener)._listener._socket.fileno()  # no public way to wait on two things at once
    while sys.stdin.fileno() not in select.select([sys.stdin.fileno(), socket], [], [])[0]:
        connection = listener.accept()
        fork(mind, connection)
        connection.close()
    listener.close()
    shutil.rmtree(Path(address).parent, ignore_errors=True)


def fork(work: Callable[[T], None], subject: T) -> int:
    """Do `work(subject)` in a forked child, which then ends without any of the parent's clean-up; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work(subject)
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def mind(connection: Connection[Any, Any]) -> None:
    """Fork the worker for one task, say its pid, wait for it, say how it ended (negative: the signal).

    When the caller hangs up, or is killed, the worker ends too.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    task = Path(connection.recv())
    worker = fork(work_on, task)
    connection.send(worker)
    ended = os.pidfd_open(worker)
    if ended not in wait([ended, connection]):
        os.kill(worker, signal.SIGKILL)
    _, status = os.waitpid(worker, 0)
    with contextlib.suppress(BrokenPipeError):
        connection.send(os.waitstatus_to_exitcode(status))


def work_on(task: Path) -> None:
    """Carry the task out with everything it prints going into `log` beside it."""
    log = os.open(task.with_name("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    carry_out(task)


def _run() -> NoReturn:
    main()
    sys.exit(0)


if __name__ == "__main__":
    _run()
