"""Work that takes its time, done by a child of a lean process, which serves meanwhile."""

from __future__ import annotations

import json
import os
import signal
import traceback
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric import syscalls as sys_

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pytest_carthage.fabric.wire.server import Server

__all__ = ["send"]


def send(
    server: Server,
    work: Callable[[], Any],
    done: Callable[[Any], None],
    *,
    close: Collection[int],
) -> None:
    """Fork a child that does ``work``, and call ``done`` with what that returned.

    It gets None if the child ended before. The child ends with this process.

    :param work: returns what JSON can hold.
    :param close: descriptors of this process that a child must not hold open.
    :raises OSError: there can be no child now.
    """
    parent = os.getpid()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if pid == 0:
        _do(work, writing, [*close, reading], parent)
    os.close(writing)
    answer = bytearray()

    def readable() -> None:
        data = os.read(reading, 1 << 16)
        if data:
            answer.extend(data)
            return
        server.unwatch(reading)
        os.close(reading)
        done(json.loads(answer) if answer.endswith(b"\n") else None)

    server.watch(reading, readable)


def _do(work: Callable[[], Any], writing: int, close: Collection[int], parent: int) -> None:
    """The child's whole life."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for fd in close:
            os.close(fd)
        sys_.die_with_parent(signal.SIGKILL)
        if os.getppid() == parent:
            data = memoryview(json.dumps(work()).encode() + b"\n")
            while data:
                data = data[os.write(writing, data) :]
            status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)
