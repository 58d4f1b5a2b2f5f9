"""An agent on a port, as in a virtual machine: it, its deputy and the bytes between may go wrong.

A terminal stands for the port: one end is the agent's, and what comes out of the other is carried
to a socket, as QEMU does.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.channels.far.deputy import deputy_by_stream
from pytest_carthage.channels.far.program import agent_program
from pytest_carthage.errors import FabricError
from tests.channels.alone import ME
from tests.channels.conftest import Bench, served_by, settled


class Port:
    """A port, with an agent on it."""

    def __init__(self, folder: Path) -> None:
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
        command = [sys.executable, "-I", "-S", "-c", agent_program(), self._name]
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
        self.kill()
        os.close(self._stop)
        self._thread.join(5)
        self._listener.close()
        for fd in (self._master, self._slave, self._stopping):
            os.close(fd)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    made = Port(tmp_path)
    yield made
    made.close()


@contextlib.contextmanager
def deputy(port: Port, *, status: int = 0) -> Iterator[Bench]:
    with served_by(deputy_by_stream(unix=port.path), status=status) as bench:
        yield bench


def _running(mark: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes().split(b"\0"):
                return True
    return False


def _begin(bench: Bench, *argv: str) -> int:
    null = os.open(os.devnull, os.O_RDWR)
    try:
        reply, _ = bench.ask("run", argv=list(argv), user=ME, env={}, fds=(null, null, null))
        return int(reply["job"])
    finally:
        os.close(null)


def test_deputy_that_is_killed_is_succeeded_and_what_it_began_ends(port: Port) -> None:
    with deputy(port, status=-9) as first:
        assert first.run("echo", "on")[1] == b"on\n"
        _begin(first, "sleep", "71.25")
        assert _running("71.25")
        os.kill(first.process, signal.SIGKILL)
    with deputy(port) as second:
        assert second.run("echo", "again")[1] == b"again\n"
        assert not _running("71.25")


def test_deputy_that_is_killed_in_mid_frame_is_succeeded(port: Port, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(64 << 20))
    with deputy(port, status=-9) as first:
        path = str(tmp_path / "there")
        reply, (fd,) = first.ask("open", path=path, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(fd, (tmp_path / "large").read_bytes())
        os.close(fd)
        threading.Timer(0.2, os.kill, (first.process, signal.SIGKILL)).start()
        with pytest.raises(FabricError):
            first.ask("commit", number=reply["commit"])
    with deputy(port) as second:
        for number in range(5):
            assert second.run("echo", str(number))[1] == b"%d\n" % number


def test_agent_that_is_killed_in_mid_command_is_told_and_succeeded(port: Port) -> None:
    with deputy(port) as bench:
        job = _begin(bench, "sleep", "71.5")
        threading.Timer(0.2, port.kill).start()
        threading.Timer(0.6, port.start).start()
        with pytest.raises(FabricError, match="machine 'web'"):
            bench.ask("wait", job=job)
        bench.forget()
        assert bench.run("echo", "again")[1] == b"again\n"


def test_agent_that_is_killed_in_mid_flood_is_succeeded(port: Port) -> None:
    with deputy(port) as bench:
        assert bench.run("echo", "on")[1] == b"on\n"
        threading.Timer(0.3, port.kill).start()
        threading.Timer(0.6, port.start).start()
        with pytest.raises(FabricError, match="machine 'web'"):
            bench.run("yes", most_output_bytes=None)
        for number in range(5):
            assert bench.run("echo", str(number))[1] == b"%d\n" % number


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"{}\n", os.urandom(300)])
def test_garbage_is_survived_whoever_is_sent_it(port: Port, garbage: bytes) -> None:
    with deputy(port) as bench:
        for name in ("to_host", "to_agent"):
            assert bench.run("echo", "on")[1] == b"on\n"
            setattr(port, name, garbage)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                with contextlib.suppress(FabricError):
                    assert bench.run("sleep", "0.1")[0] == 0
                    if not getattr(port, name):
                        break
            bench.forget()
            assert settled(lambda: bench.run("echo", "again")[1], b"again\n") == b"again\n"


def test_request_waits_for_an_agent_that_is_late(port: Port) -> None:
    port.kill()
    threading.Timer(1.0, port.start).start()
    with deputy(port) as bench:
        assert bench.run("echo", "late")[1] == b"late\n"
