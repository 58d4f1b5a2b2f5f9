"""A port with an agent on it, as a virtual machine has.

A terminal stands for the port: one end is the agent's, and what comes out of the other is carried
to a socket, as QEMU does.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_carthage.channels.far.deputy import deputy_by_stream
from pytest_carthage.channels.far.program import agent_program
from tests.channels.conftest import Bench, served_by

__all__ = ["Port", "deputy"]


class Port:
    """A port, with an agent on it."""

    def __init__(self, folder: Path, program: str | None = None) -> None:
        """:param program: of the agent, if not as it is sent to a machine."""
        self._program = program or agent_program()
        self.path = folder / "agent.sock"
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self._name = os.ttyname(slave)
        self._slave = slave
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._stopping, self._stop = os.pipe()
        #: what is sent to the host, or to the agent, before anything else
        self.to_host = self.to_agent = b""
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()
        self.start()

    def start(self) -> None:
        """Start an agent."""
        command = [sys.executable, "-I", "-S", "-c", self._program, self._name]
        self.agent = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def kill(self) -> None:
        """End the agent, as by SIGKILL."""
        self.agent.kill()
        self.agent.wait()

    def _carry(self) -> None:
        near: socket.socket | None = None
        while True:
            waits: list[Any] = [self._stopping, self._master, near or self._listener]
            ready, _, _ = select.select(waits, [], [], 0.05)
            if self._stopping in ready:
                if near is not None:
                    near.close()
                return
            if self.to_agent:
                data, self.to_agent = self.to_agent, b""
                os.write(self._master, data)
            if near is not None and self.to_host:
                data, self.to_host = self.to_host, b""
                near.sendall(data)
            if self._listener in ready:
                near, _ = self._listener.accept()
            if self._master in ready:
                data = os.read(self._master, 4096)
                if near is not None:  # else it is lost
                    with contextlib.suppress(OSError):
                        near.sendall(data)
            if near in ready and near is not None:
                with contextlib.suppress(OSError):
                    data = near.recv(4096)
                if not data:
                    near.close()
                    near = None
                while data:
                    data = data[os.write(self._master, data) :]

    def close(self) -> None:
        """End all of it."""
        self.kill()
        os.close(self._stop)
        self._thread.join(5)
        self._listener.close()
        for fd in (self._master, self._slave, self._stopping):
            os.close(fd)


@contextlib.contextmanager
def deputy(port: Port, *, status: int = 0, window: Path | None = None) -> Iterator[Bench]:
    """Who answers for the machine; it ends with a status."""
    with served_by(deputy_by_stream(unix=port.path, window=window), status=status) as bench:
        yield bench
