"""A window into a virtual machine: a part of a disk that it reads, and that is written here.

What goes to a machine through its virtio-serial port goes in pieces of 4 KiB, with an interrupt
for each. Through a disk it goes in pieces of 1 MiB.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["PIECE", "SERIAL", "WINDOW_BYTES", "Window", "add_window"]

PIECE = 1 << 20
#: at the end of the disk
WINDOW_BYTES = 16 * PIECE
#: of the disk: that by which a machine is told what it is
SERIAL = "carthage-seed"


def add_window(path: Path) -> None:
    """Make room for one at the end of a raw image, before a machine opens it."""
    size = -(-path.stat().st_size // PIECE) * PIECE
    os.truncate(path, size + WINDOW_BYTES)


class Window:
    """Pieces of it, and who waits for one."""

    def __init__(self, path: str | None) -> None:
        """:param path: of the image; None: there is no window."""
        self._path = path
        self._fd = -1
        self._begin = 0
        self._free: list[int] = []
        self._waiting: list[Callable[[], None]] = []
        #: whether the machine sees what is written here
        self.is_open = False

    def sign(self) -> bytes:
        """What the machine has to see there, if it is the same disk; empty: there is none."""
        self.close()
        if self._path is None:
            return b""
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return b""
        self._begin = os.fstat(self._fd).st_size - WINDOW_BYTES
        if self._begin < 0:
            return b""
        sign = os.urandom(512)
        os.pwrite(self._fd, sign, self._begin)
        return sign

    def open(self) -> None:
        """The machine has seen it."""
        self.is_open = True
        self._free = list(range(0, WINDOW_BYTES, PIECE))

    def close(self) -> None:
        """Nobody looks at it any more."""
        self.is_open = False
        self._free, self._waiting = [], []
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def put(self, source: int, offset: int, count: int) -> int | None:
        """Copy a part of a file there; returns where in the window, or None: there is no room."""
        if not self._free:
            return None
        place = self._free.pop()
        data = os.pread(source, count, offset)
        os.pwrite(self._fd, data, self._begin + place)
        return place

    def when_free(self, call: Callable[[], None]) -> None:
        """Call a function when there may be room again."""
        self._waiting.append(call)

    def free(self, place: int) -> None:
        """The machine has taken a piece."""
        if not self.is_open:
            return
        self._free.append(place)
        calls, self._waiting = self._waiting, []
        for call in calls:
            call()
