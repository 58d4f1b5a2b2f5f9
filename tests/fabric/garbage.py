"""What is no request: whoever sends it is dropped, and nobody else notices.

Run by :mod:`.test_garbage` as an ordinary user: nothing is made up for processes of root.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from pytest_carthage.fabric.wire import client, frames
from tests.fabric.conftest import Bench

#: what may come where a frame should
GARBAGE = {
    "a list": struct.pack("!I", 2) + b"[]",
    "a number": struct.pack("!I", 1) + b"7",
    "nothing": struct.pack("!I", 0),
    "null": struct.pack("!I", 4) + b"null",
    "no JSON": struct.pack("!I", 4) + b"\xff\xfe{}",
    "not a number": struct.pack("!I", 3) + b"NaN",
    "deep": struct.pack("!I", 200_000) + b"[" * 200_000,
    "4 GiB": b"\xff\xff\xff\xff" + b"x" * 100_000,
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "no id": struct.pack("!I", 13) + b'{"op":"hello"',
    "a text as id": struct.pack("!I", 21) + b'{"id":"1","op":"list"}'[:21],
    "an object without an id": struct.pack("!I", 14) + b'{"op":"hello"}',
}


@pytest.fixture
def doors(bench: Bench) -> dict[str, Callable[[], socket.socket]]:
    """Every socket of an environment that reads frames, by name."""
    assert os.geteuid(), "this is not for root"
    assert bench.machine("m") == {}

    def agent() -> socket.socket:
        through = client.connect(str(bench.folder / "fabric.sock"), "m")
        sock = through._sock
        sock.settimeout(None)
        return sock

    return {
        "supervisor": lambda: frames.connect(str(bench.run.folder / "supervisor.sock")),
        "fabric": lambda: frames.connect(str(bench.folder / "fabric.sock")),
        "agent": agent,
    }


@contextlib.contextmanager
def all_is_well(bench: Bench) -> Iterator[None]:
    """Others are served while the block runs, and after it."""
    _use(bench)
    yield
    _use(bench)


def _use(bench: Bench) -> None:
    began = time.monotonic()
    with client.connect(str(bench.run.folder / "supervisor.sock"), limit_s=10) as supervisor:
        reply, _ = supervisor.request("list")
        assert len(reply["environments"]) == 1
    assert bench.run_in("m", "echo here") == "here\n"
    assert time.monotonic() - began < 10, "somebody was blocked"


def _is_dropped(sock: socket.socket) -> bool:
    sock.settimeout(10)
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("door", ["supervisor", "fabric", "agent"])
def test_what_is_no_frame_ends_its_own_connection_alone(
    bench: Bench, doors: dict[str, Callable[[], socket.socket]], door: str
) -> None:
    with all_is_well(bench):
        for name, garbage in GARBAGE.items():
            with doors[door]() as sock:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    sock.sendall(garbage)
                if name != "no id":  # half a frame, whose end may still come
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_WR)
                    assert _is_dropped(sock), name


def test_half_a_frame_blocks_nobody(
    bench: Bench, doors: dict[str, Callable[[], socket.socket]]
) -> None:
    with contextlib.ExitStack() as stack:
        with all_is_well(bench):
            for connect in doors.values():
                for half in (b"\0\0", struct.pack("!I", 1000), struct.pack("!I", 1000) + b'{"id"'):
                    sock = stack.enter_context(connect())
                    sock.sendall(half)
        sock.sendall(b"}" * 995)
        assert _is_dropped(sock)  # it was no JSON in the end
