"""A command whose standard streams lead to a host, as ProxyCommand of ssh_config(5)."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Proxy"]

#: $1: a process group, which ends when there is nothing more to read, as after our own end
_WATCH = """\
read -r line
kill -s TERM -- "-$1" && sleep 1 && kill -s KILL -- "-$1"
"""


class Proxy:
    """Such a command, which is gone with the connection over it, as is what it has started.

    One that does not notice that its streams are closed is ended by a process that watches over it,
    also if this process is killed.

    :param heard: descriptor of a file for what it says.
    """

    def __init__(self, command: str, heard: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=heard,
                start_new_session=True,
            )
        #: what leads to the host
        self.socket = ours
        reading, self._lifeline = os.pipe2(os.O_CLOEXEC)
        try:
            watch = subprocess.Popen(
                ["/bin/sh", "-c", _WATCH, "sh", str(self._process.pid)],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(reading)
        ends = (self._process, watch)
        threading.Thread(target=_reap, args=[ends], daemon=True, name="ssh-proxy").start()

    def until_ended(self, limit_s: float) -> None:
        """Wait until it has ended by itself, or no longer."""
        with contextlib.suppress(OSError):  # somebody has reaped it
            fd = os.pidfd_open(self._process.pid)
            try:
                select.select([fd], [], [], limit_s)
            finally:
                os.close(fd)

    def end(self) -> None:
        """End it, if it does not by itself; nothing is waited for."""
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            with contextlib.suppress(OSError):  # who watches is gone
                os.write(lifeline, b"\n")  # somebody who was forked may hold it, too
            os.close(lifeline)


def _reap(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.wait()
