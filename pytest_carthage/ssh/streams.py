"""Ends of pipes and terminals in an event loop, with a client that may be slower than they are."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

__all__ = ["Sink", "Source"]

_PIECE = 1 << 16
#: bytes that wait for a command to take them; with more, the client is to wait
_MANY = 1 << 18


class Source:
    """Reads until the end what a command prints; owns the descriptor.

    :param fd: of a pipe, or a terminal's master.
    :param take: is given what came.
    :param ended: is called once there is no more.
    """

    def __init__(self, fd: int, take: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._fd = fd
        self._take = take
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._is_paused = False
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _PIECE)
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody has the terminal open any more, see pty(7)
            data = b""
        if data:
            self._take(data)
        else:
            self.close()

    def drain(self) -> None:
        """Take all that is there now."""
        while self._fd >= 0:
            try:
                data = os.read(self._fd, _PIECE)
            except OSError:
                return
            if not data:
                return
            self._take(data)

    def pause(self) -> None:
        """Read no more for now."""
        if self._fd >= 0 and not self._is_paused:
            self._is_paused = True
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Read again."""
        if self._fd >= 0 and self._is_paused:
            self._is_paused = False
            self._loop.add_reader(self._fd, self._readable)

    def close(self) -> None:
        """Read no more, ever."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._ended()


class Sink:
    """Writes what a command is to read, as it takes it; owns the descriptor.

    :param crowded: is called with True when too much waits, and with False when it does no more.
    """

    def __init__(self, fd: int, crowded: Callable[[bool], None]) -> None:
        self._fd = fd
        self._crowded = crowded
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()
        self._is_crowded = self._is_ending = self._is_watched = False
        os.set_blocking(fd, False)

    def write(self, data: bytes) -> None:
        """Write, at once or when there is room; what nobody wants to read is dropped."""
        if self._fd < 0 or self._is_ending:
            return
        self._waiting += data
        self._flush()
        if len(self._waiting) > _MANY and not self._is_crowded:
            self._is_crowded = True
            self._crowded(True)

    def end(self) -> None:
        """There is no more to come."""
        self._is_ending = True
        if self._fd >= 0 and not self._waiting:
            self.close()

    def _flush(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: os.write(self._fd, self._waiting[:_PIECE])]
        except BlockingIOError:
            if not self._is_watched:
                self._is_watched = True
                self._loop.add_writer(self._fd, self._flush)
            return
        except OSError:  # nobody reads it any more
            self._waiting.clear()
            self.close()
        if self._is_watched and self._fd >= 0:
            self._is_watched = False
            self._loop.remove_writer(self._fd)
        if self._is_crowded:
            self._is_crowded = False
            self._crowded(False)  # more may come at once, and the end
        if self._is_ending and not self._waiting:
            self.close()

    def close(self) -> None:
        """Write no more, ever."""
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1
