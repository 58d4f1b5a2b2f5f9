"""What the init of a system container tells: on its console, and that it has started all."""

from __future__ import annotations

import errno
import os
import socket

from pytest_carthage.fabric.wire.steps import Signal, Steps

_PIECE = 1 << 16


class Console:
    """What a machine's first process prints, written to the machine's log.

    Of a terminal the inner end is kept open: else the outer one would be hung up whenever nobody
    has it open.
    """

    def __init__(self, outer: int, log: str) -> None:
        self._outer = outer
        self._inner = -1
        self.is_open = True
        os.set_blocking(outer, False)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def keep(self, inner: int) -> None:
        """Keep the inner end of a terminal open."""
        self._inner = inner

    def fileno(self) -> int:
        """Readable when something has been printed."""
        return self._outer

    def read(self) -> bool:
        """Take what was printed; returns whether there was anything."""
        try:
            data = os.read(self._outer, _PIECE)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                self.is_open = False  # a terminal that is hung up
            return False
        if not data:
            self.is_open = False
        os.write(self._log, data.replace(b"\r\n", b"\n"))
        return bool(data)

    def close(self) -> None:
        """Take what is left, and let go of it."""
        while self.read():
            pass
        for fd in (self._outer, self._inner, self._log):
            if fd >= 0:
                os.close(fd)


class Readiness:
    """Hears from an init that it has started all that it should, see sd_notify(3)."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._signal = Signal()
        self.is_told = False
        self._is_over = False

    def fileno(self) -> int:
        """Readable when it says something."""
        return self._socket.fileno()

    def hear(self) -> None:
        """Take what it says."""
        words = self._socket.recv(_PIECE).decode(errors="replace").split("\n")
        if "READY=1" in words:
            self.is_told = True
            self._signal.give()

    def wait(self, limit_s: float) -> Steps[bool]:
        """Wait for the word; returns whether it came in time, and before its init ended."""
        if not self.is_told and not self._is_over:
            yield from self._signal.wait(limit_s)
        return self.is_told

    def close(self) -> None:
        """Its init has ended: whoever waits is told so."""
        self._is_over = True
        self._socket.close()
        self._signal.give()
