"""An agent on a port, as in a virtual machine: all of it may go wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.errors import FabricError
from tests.channels.alone import ME
from tests.channels.conftest import Bench, settled
from tests.channels.far.ports import Port, deputy


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    made = Port(tmp_path)
    yield made
    made.close()


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
