"""Streams of a command that runs far away, and descriptors here that are its ends.

The descriptors are a client's: they stay blocking, since what they lead to is used by others.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
from collections.abc import Callable

__all__ = ["Feed", "Spill"]

_PIECE = 1 << 15
#: what a pipe that is ready takes without blocking, see pipe(7)
_READY_BYTES = select.PIPE_BUF
#: bytes that wait to be written; with more, the far end is to wait
_MANY = 1 << 18


class Feed:
    """Reads a descriptor to its end and gives what comes to a channel; owns it.

    :param give: takes bytes; None is the end.
    """

    def __init__(self, fd: int, give: Callable[[bytes | None], None]) -> None:
        self._fd = fd
        self._give = give
        self._loop = asyncio.get_running_loop()
        self._is_watched = False
        self._is_paused = False
        self.resume()

    def resume(self) -> None:
        """Read on."""
        self._is_paused = False
        if self._fd < 0 or self._is_watched:
            return
        try:
            self._loop.add_reader(self._fd, self._readable)
            self._is_watched = True
        except PermissionError:  # a file, which is always ready (epoll_ctl(2))
            self._loop.call_soon(self._read_file)

    def pause(self) -> None:
        """Read no more for now."""
        self._is_paused = True
        self._forget()

    def _forget(self) -> None:
        if self._is_watched:
            self._loop.remove_reader(self._fd)
            self._is_watched = False

    def _read_file(self) -> None:
        if self._fd >= 0 and not self._is_paused:
            self._readable()
            if self._fd >= 0 and not self._is_paused:
                self._loop.call_soon(self._read_file)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._give(data)
        else:
            self.close()
            self._give(None)

    def close(self) -> None:
        """Read no more."""
        if self._fd >= 0:
            self._forget()
            os.close(self._fd)
            self._fd = -1


class Spill:
    """Writes what a far command prints to a descriptor as that takes it; owns it.

    :param is_own: nobody else has what it leads to, so that it need not block.
    """

    def __init__(self, fd: int, crowded: Callable[[bool], None], *, is_own: bool = False) -> None:
        self._fd = fd
        self._crowded = crowded
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()
        self._is_ending = self._is_watched = self._is_crowded = False
        self._never_blocks = is_own or stat.S_ISREG(os.fstat(fd).st_mode)
        if is_own:
            os.set_blocking(fd, False)
        #: set when all is written
        self.done = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Write, at once or when there is room; what nobody wants is dropped."""
        if self._fd < 0 or self._is_ending:
            return
        self._waiting += data
        if not self._is_watched:
            self._flush()
        if len(self._waiting) > _MANY and not self._is_crowded:
            self._is_crowded = True
            self._crowded(True)

    def _flush(self) -> None:
        try:
            while self._waiting and self._is_ready():
                size = len(self._waiting) if self._never_blocks else _READY_BYTES
                del self._waiting[: os.write(self._fd, self._waiting[:size])]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads it any more, or there is no room
            self._waiting.clear()
            self._is_ending = True
        if self._waiting and not self._is_watched:
            self._is_watched = True
            self._loop.add_writer(self._fd, self._flush)
        elif not self._waiting and self._is_watched:
            self._is_watched = False
            self._loop.remove_writer(self._fd)
        if not self._waiting and self._is_crowded:
            self._is_crowded = False
            self._crowded(False)
        if self._is_ending and not self._waiting:
            self.close()

    def _is_ready(self) -> bool:
        if self._never_blocks:
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(0))

    def end(self) -> None:
        """There is no more to come."""
        self._is_ending = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Write no more."""
        if self._fd >= 0:
            if self._is_watched:
                self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1
        self.done.set()
