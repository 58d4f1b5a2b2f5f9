"""Work that has to wait, done step by step in one thread, so that nobody else waits with it.

Such work is a generator: it yields what it waits for, and is resumed with what came of it. Between
two of its steps others are served, so that what it has found out may be over by then; whatever
must not be seen half done is done within one step, as is everything in a foreign namespace.

:func:`finish` does the same at once, in a process that has nobody else to serve.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections import deque
from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")

#: ends in a T
Steps = Generator["Wait", Any, T]


class Wait:
    """What work waits for: whatever of these comes first."""

    def __init__(
        self,
        *,
        fd: int = -1,
        pid: int = 0,
        turn: Turn | Signal | None = None,
        limit_s: float | None = None,
    ) -> None:
        #: is readable
        self.fd = fd
        #: a child that has ended
        self.pid = pid
        #: has been handed over to us
        self.turn = turn
        #: seconds
        self.limit_s = limit_s


def readable(fd: int, limit_s: float | None) -> Steps[bool]:
    """Wait until a descriptor is readable; returns whether it is, within the time."""
    if select.select([fd], [], [], 0)[0]:
        return True
    return (yield Wait(fd=fd, limit_s=limit_s)) is not None


def pause(seconds: float) -> Steps[None]:
    """Let time pass."""
    yield Wait(limit_s=seconds)


def child_end(pid: int, limit_s: float) -> Steps[int]:
    """Wait for the end of a child of this process; returns its exit status, as Popen tells it.

    :raises OSError: it did not end in time, and was killed.
    """
    status: int | None = yield Wait(pid=pid, limit_s=limit_s)
    if status is None:  # it was not reaped in this turn of the loop: the number is its own
        os.kill(pid, signal.SIGKILL)
        raise OSError(f"process {pid} did not end within {limit_s:g} s, and was killed")
    return os.waitstatus_to_exitcode(status)


def gone(pidfd: int, limit_s: float) -> Steps[bool]:
    """Wait for the end of a process; returns whether it came in time. Closes the descriptor."""
    try:
        return (yield from readable(pidfd, limit_s))
    finally:
        os.close(pidfd)


class Turn:
    """Lets one at a time work on something, in the order in which they came."""

    def __init__(self) -> None:
        self.is_taken = False
        #: who waits for it: called when it is theirs
        self.waiting: deque[Any] = deque()

    def take(self) -> Steps[None]:
        """Wait for our turn."""
        if self.is_taken:
            yield Wait(turn=self)
        self.is_taken = True

    def give(self) -> None:
        """Let the next one have it."""
        if self.waiting:
            self.waiting.popleft()(True)  # it stays taken
        else:
            self.is_taken = False

    def hold(self, steps: Steps[T]) -> Steps[T]:
        """Work when it is our turn."""
        yield from self.take()
        try:
            return (yield from steps)
        finally:
            self.give()


class Signal:
    """Lets any number of others wait until something has happened."""

    def __init__(self) -> None:
        #: who waits: called when it has
        self.waiting: deque[Any] = deque()

    def wait(self, limit_s: float) -> Steps[None]:
        """Wait until it is given, or for this time."""
        yield Wait(turn=self, limit_s=limit_s)

    def give(self) -> None:
        """Let all go on who wait now."""
        while self.waiting:
            self.waiting.popleft()(True)


def finish(steps: Steps[T]) -> T:
    """Do the work here and now, waiting wherever it waits."""
    value: Any = None
    try:
        while True:
            value = _waited(steps.send(value))
    except StopIteration as stop:
        result: T = stop.value
        return result


def _waited(wait: Wait) -> Any:
    if wait.turn is not None:
        raise RuntimeError("who works alone waits for nobody's turn")
    if wait.fd >= 0:
        return True if select.select([wait.fd], [], [], wait.limit_s)[0] else None
    if wait.pid:
        fd = os.pidfd_open(wait.pid)
        try:
            ended = select.select([fd], [], [], wait.limit_s)[0]
        finally:
            os.close(fd)
        return os.waitpid(wait.pid, 0)[1] if ended else None
    time.sleep(wait.limit_s or 0.0)
    return None
