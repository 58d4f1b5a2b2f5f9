"""A command in a machine, with this process's own standard streams or terminal."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import terminal
from pytest_carthage.errors import CarthageError

if TYPE_CHECKING:
    from pytest_carthage.fabric.wire.client import Client

__all__ = ["SHELL", "CannotRun", "exit_status", "run_on_streams", "run_on_terminal"]

#: the best shell that there is; the prompt of a login shell says the host name
SHELL = ("/bin/sh", "-c", "if command -v bash >/dev/null; then exec bash -l; fi; exec sh -l")

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class CannotRun(CarthageError):
    """A command could not be started."""

    def __init__(self, message: str, number: int | None) -> None:
        super().__init__(message)
        #: what a shell would exit with: 127 for a program that is not there, 126 for one
        #: that may not be run; None: it is not the program that is wrong
        self.status = {errno.ENOENT: 127, errno.EACCES: 126, errno.ENOEXEC: 126}.get(number or 0)


def exit_status(status: int) -> int:
    """Turn a status into what a shell would give: 128 and the signal for a killed command."""
    return status if status >= 0 else 128 - status


def run_on_streams(
    client: Client,
    argv: Sequence[str],
    *,
    user: str | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    """Run a command on our standard streams themselves; returns its status.

    Signals that would end this process are passed on to it instead.

    :raises CannotRun: it cannot be started.
    """
    # the command may print before we know its number: a signal that answers that must wait
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    try:
        job = _start(client, argv, (0, 1, 2), user=user, cwd=cwd, env=dict(env or {}))[0]["job"]
        with _passing_on_signals(client, job):
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            return _wait(client, job)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def run_on_terminal(
    client: Client,
    argv: Sequence[str],
    *,
    user: str | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    """Run a command on a terminal of its own, and join ours to it; returns its status.

    :raises CannotRun: it cannot be started.
    """
    rows, cols = terminal.size()
    reply, fds = _start(
        client,
        argv,
        (),
        tty=True,
        rows=rows,
        cols=cols,
        user=user,
        cwd=cwd,
        env={"TERM": os.environ.get("TERM", "xterm-256color"), **(env or {})},
    )
    master = fds[0]
    try:
        with terminal.raw(), terminal.following_size(master):
            terminal.join(master)
        return _wait(client, reply["job"])
    finally:
        os.close(master)


def _start(
    client: Client, argv: Sequence[str], fds: Sequence[int], **fields: Any
) -> tuple[dict[str, Any], list[int]]:
    from pytest_carthage.fabric.wire.client import Refused
    from pytest_carthage.fabric.wire.frames import Closed

    try:
        return client.request("run", fds=fds, argv=list(argv), **fields)
    except (Refused, Closed) as error:
        raise CannotRun(
            f"cannot run {argv[0]!r}: {error}", getattr(error, "errno", None)
        ) from error


def _wait(client: Client, job: int) -> int:
    """Wait for the job; other answers that come meanwhile are to signals passed on."""
    from pytest_carthage.fabric.wire.frames import Closed

    number = client.send("wait", job=job)
    try:
        while True:
            answer = client.receive_for(number)
            if answer is not None:
                return int(answer[0]["status"])
    except Closed as error:
        raise CarthageError("the machine is gone") from error


@contextlib.contextmanager
def _passing_on_signals(client: Client, job: int) -> Iterator[None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        client.send("kill", job=job, signal=number)

    previous = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
