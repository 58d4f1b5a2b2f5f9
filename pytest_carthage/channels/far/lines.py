"""Ways to an agent far away: a socket's path, or a command of the host."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from functools import partial

from pytest_carthage.channels.far.program import agent_sent
from pytest_carthage.channels.questions import end_with
from pytest_carthage.fabric.wire import frames

__all__ = ["CommandLine", "SocketLine"]


class SocketLine:
    """A UNIX socket that leads to a virtual machine's port; one agent after another is there."""

    is_shared = True

    def __init__(self, path: str) -> None:
        self._path = path

    def open(self) -> socket.socket:
        """Connect; see :class:`.link.Line`."""
        return frames.connect(self._path)

    def why(self) -> str:
        """Nobody knows why it is gone."""
        return ""


class CommandLine:
    """A command whose standard input and output lead to a Python, which becomes the agent."""

    is_shared = False

    def __init__(self, command: Sequence[str]) -> None:
        """:param command: runs :data:`.program.BOOTSTRAP` somewhere."""
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._said = -1

    def open(self) -> socket.socket:
        """Start it; see :class:`.link.Line`."""
        self._end()
        if self._said >= 0:
            os.close(self._said)
        self._said = os.memfd_create("said", os.MFD_CLOEXEC)
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                self._command,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._said,
                start_new_session=True,
                preexec_fn=partial(end_with, os.getpid()),
            )
        self._process.returncode = 0  # the endpoint's loop reaps: Popen must not
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        ours.sendall(agent_sent())
        return ours

    def why(self) -> str:
        """What it has said last."""
        with contextlib.suppress(OSError):
            said = os.pread(self._said, 4096, max(0, os.fstat(self._said).st_size - 4096))
            lines = said.decode(errors="replace").strip().splitlines()
            return lines[-1] if lines else ""
        return ""

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
