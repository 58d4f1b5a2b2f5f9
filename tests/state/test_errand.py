"""Work that a child does while a lean process serves."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_carthage.fabric.wire.server import Server
from pytest_carthage.state import errand


@pytest.fixture
def server() -> Iterator[Server]:
    """A server in this process; signals are as before afterwards."""
    before = signal.getsignal(signal.SIGCHLD)
    server = Server()
    yield server
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, before)
    theirs = server.own_descriptors()
    server.selector.close()  # by itself: what it closed by its number, it would close once more
    for fd in theirs:
        with contextlib.suppress(OSError):
            os.close(fd)


def answer(server: Server, work: Callable[[], Any], close: tuple[int, ...] = ()) -> Any:
    answers: list[Any] = []

    def done(result: Any) -> None:
        answers.append(result)
        server.stop()

    server.running = True
    errand.send(server, work, done, close=close)
    server.run()
    return answers


def test_result_of_the_work_comes_back(server: Server) -> None:
    assert answer(server, lambda: [["a", 1], {"b": None}]) == [[["a", 1], {"b": None}]]


def test_result_larger_than_a_pipe_comes_whole(server: Server) -> None:
    assert answer(server, lambda: "x" * 300_000) == ["x" * 300_000]


def test_work_is_done_by_another_process(server: Server) -> None:
    assert answer(server, os.getppid) == [os.getpid()]


def test_work_that_fails_gives_nothing_and_is_printed(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise RuntimeError("no luck")

    assert answer(server, fail) == [None]
    assert "RuntimeError: no luck" in capfd.readouterr().err


def test_worker_that_is_killed_gives_nothing(server: Server) -> None:
    assert answer(server, lambda: os.kill(os.getpid(), signal.SIGKILL)) == [None]


def test_server_goes_on_while_the_work_is_done(server: Server) -> None:
    ticks: list[float] = []
    server.tick_s = 0.02
    server.on_idle = lambda: ticks.append(time.monotonic())
    assert answer(server, lambda: time.sleep(0.3)) == [None]
    assert len(ticks) >= 5


def test_worker_does_not_hold_what_is_private(server: Server) -> None:
    reading, writing = os.pipe()

    def is_open() -> bool:
        try:
            os.fstat(writing)
        except OSError:
            return False
        return True

    try:
        assert answer(server, is_open, (writing,)) == [False]
        assert answer(server, is_open) == [True]
    finally:
        os.close(reading)
        os.close(writing)
