"""How the supervisor makes a fabric: a child leaves the host, and forks the fabric's PID 1."""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from pytest_carthage.fabric import init, rootfs
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.container import groups
from pytest_carthage.fabric.wire import frames

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection
    from pathlib import Path

__all__ = ["fork_fabric"]


def fork_fabric(
    folder: Path,
    lifeline: int,
    *,
    unprivileged: bool,
    close: Collection[int],
    hidden: Path | None = None,
) -> int:
    """Make the fabric of the environment in ``folder``; returns its process id.

    :param lifeline: a pipe's read end, whose end of file ends the fabric.
    :param hidden: folder in which machines over the host's files find nothing.
    :param close: descriptors of this process that a child must not hold open.
    :raises OSError: the kernel refused, with its number.
    """
    listener = frames.listen(str(folder / "fabric.sock"))
    told_read, told_write = os.pipe2(os.O_CLOEXEC)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    log = os.open(folder / "fabric.log", flags, 0o600)
    child = os.fork()
    if child == 0:
        if hidden is not None:
            rootfs.hide(str(hidden))
        _leave(listener, lifeline, told_write, log, [*close, told_read], unprivileged=unprivileged)
    listener.close()
    for fd in (told_write, log):
        os.close(fd)
    with os.fdopen(told_read, "rb") as told:
        answer = told.read()
    if not answer.startswith(b"pid "):
        raise _as_told(answer.decode(errors="replace"))
    return int(answer[4:])


def _leave(
    listener: socket.socket,
    lifeline: int,
    answer_to: int,
    log: int,
    close: Collection[int],
    *,
    unprivileged: bool,
) -> None:
    """Child: make the namespaces, fork the fabric's PID 1 into them, and end."""
    try:
        signal.set_wakeup_fd(-1)
        for fd in close:
            try:
                os.close(fd)
            except OSError:
                pass
        os.setsid()
        groups.open_up()
        init.leave_host(unprivileged=unprivileged)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            is_ready = False
            try:
                os.close(reading)
                for number in (1, 2):
                    os.dup2(log, number)
                os.chdir("/")
                sys_.set_process_name("carthage-fabric")
                init.furnish()
                gc.freeze()
                fabric = init.Fabric(listener, lifeline, unprivileged=unprivileged)
                os.write(writing, b"ready")
                os.close(writing)
                os.close(answer_to)
                is_ready = True
                fabric.server.run()
            except BaseException as error:
                traceback.print_exc()
                sys.stderr.flush()
                if not is_ready:  # else nobody listens, and the number is another's
                    os.write(writing, _to_tell(error))
            finally:  # or this would go on as a second supervisor
                os._exit(1)
        os.close(writing)
        answer = os.read(reading, 4096)
        os.write(answer_to, f"pid {pid}".encode() if answer == b"ready" else answer)
    except BaseException as error:
        os.write(answer_to, _to_tell(error))
    os._exit(0)


def _to_tell(error: BaseException) -> bytes:
    """An error as a child tells it through a pipe: number, and text."""
    return f"{getattr(error, 'errno', None) or 0} {error}".encode()


def _as_told(text: str) -> OSError:
    number, _, words = text.partition(" ")
    error = OSError(words or "the fabric ended at once")
    error.errno = int(number) if number.isdecimal() and number != "0" else None
    return error
