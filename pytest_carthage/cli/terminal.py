"""This process's own terminal, joined to another one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import sys
import termios
import tty
from collections.abc import Iterator
from types import FrameType

__all__ = ["following_size", "join", "raw", "size"]


def size() -> tuple[int, int]:
    """Rows and columns."""
    size = os.get_terminal_size(sys.stdin.fileno())
    return size.lines, size.columns


@contextlib.contextmanager
def raw() -> Iterator[None]:
    """Have keys go through as they are, Ctrl-C included."""
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    tty.setraw(stdin, termios.TCSADRAIN)  # what is typed ahead is not lost
    try:
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def following_size(master: int) -> Iterator[None]:
    """Have a terminal of the machine always be as large as ours."""

    def follow(number: int, frame: FrameType | None) -> None:
        rows, cols = size()
        # the kernel tells the command by a SIGWINCH of its own
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    previous = signal.signal(signal.SIGWINCH, follow)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, previous)


def join(other: int, *, escape: bytes = b"") -> bool:
    """Copy both ways until the other side is closed, or until a key is typed.

    :param escape: the key, a byte; empty: there is none.
    :return: whether it was typed.
    """
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    reading = [other, stdin]
    while True:
        ready, _, _ = select.select(reading, [], [])
        if other in ready:
            try:
                data = os.read(other, 1 << 16)
            except OSError:  # EIO: nobody has the other side open any more, see pty(7)
                return False
            if not data:
                return False
            _write(stdout, data)
        if stdin in ready:
            data = os.read(stdin, 1 << 16)
            if not data:
                reading.remove(stdin)
                continue
            before, found, _ = data.partition(escape) if escape else (data, b"", b"")
            with contextlib.suppress(BrokenPipeError):  # told when it is read
                _write(other, before)
            if found:
                return True


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
