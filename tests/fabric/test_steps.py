"""Work that waits without keeping others waiting, in a server and without one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from pytest_carthage.fabric.container.voice import Voice
from pytest_carthage.fabric.wire.server import Server
from pytest_carthage.fabric.wire.steps import (
    Signal,
    Steps,
    Turn,
    child_end,
    finish,
    gone,
    pause,
    readable,
)


def served(work: Callable[[Server, list[object]], None], limit_s: float = 20.0) -> list[object]:
    """What work notes until it has stopped the server."""
    server, notes = Server(), list[object]()
    server.later(limit_s, server.stop)
    work(server, notes)
    server.run()
    return notes


def test_work_of_several_is_done_at_the_same_time_and_each_in_its_order() -> None:
    def work(server: Server, notes: list[object]) -> None:
        def steps(name: str, seconds: float) -> Steps[str]:
            for number in range(3):
                notes.append(f"{name}{number}")
                yield from pause(seconds)
            return name

        def done(name: str | None, error: Exception | None) -> None:
            notes.append(name)
            if notes.count("a") + notes.count("b") == 2:
                server.stop()

        server.work(steps("a", 0.2), done)
        server.work(steps("b", 0.05), done)

    notes = served(work)
    assert notes[:2] == ["a0", "b0"]  # the first step is done at once
    assert [note for note in notes if str(note)[0] == "a"] == ["a0", "a1", "a2", "a"]
    assert notes.index("b") < notes.index("a2")


def test_turns_are_had_one_at_a_time_in_the_order_of_their_coming() -> None:
    def work(server: Server, notes: list[object]) -> None:
        turn = Turn()

        def steps(name: str) -> Steps[None]:
            notes.append(f"{name} in")
            yield from pause(0.01)
            notes.append(f"{name} out")
            if name == "b":
                raise ValueError("b fails, and c has its turn all the same")

        def done(result: None, error: Exception | None) -> None:
            if error is not None:
                notes.append(str(error)[:1])
            if "c out" in notes:
                server.stop()

        for name in "abc":
            server.work(turn.hold(steps(name)), done)

    assert served(work) == ["a in", "a out", "b in", "b out", "b", "c in", "c out"]


def test_signal_lets_all_go_on_who_wait_for_it_and_nobody_waits_longer_than_his_time() -> None:
    def work(server: Server, notes: list[object]) -> None:
        signal = Signal()

        def steps(name: str, limit_s: float) -> Steps[None]:
            yield from signal.wait(limit_s)
            notes.append(name)
            if "patient" in notes and "other" in notes:
                server.stop()

        server.work(steps("hasty", 0.01))
        server.work(steps("patient", 20.0))
        server.work(steps("other", 20.0))
        server.later(0.1, signal.give)

    assert served(work) == ["hasty", "patient", "other"]


@pytest.mark.parametrize("is_ready", [True, False])
def test_all_who_wait_for_an_init_hear_that_it_is_ready_or_has_ended(is_ready: bool) -> None:
    def work(server: Server, notes: list[object]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        voice = Voice("/dev/null", server)
        voice.take("notify", ours.detach())

        def steps() -> Steps[None]:
            notes.append((yield from voice.booted(20.0)))
            if len(notes) == 2:
                voice.close()
                server.stop()

        def go_on() -> None:
            theirs.send(b"STATUS=half of it")
            if is_ready:
                theirs.send(b"READY=1\nSTATUS=all of it")
            else:
                voice.close()
            theirs.close()

        server.work(steps())
        server.work(steps())
        server.later(0.05, go_on)

    assert served(work) == [is_ready] * 2


def test_descriptor_is_waited_for_until_it_is_readable_or_the_time_is_over() -> None:
    reading, writing = os.pipe()

    def write() -> None:
        os.write(writing, b"x")

    def work(server: Server, notes: list[object]) -> None:
        def steps() -> Steps[None]:
            notes.append((yield from readable(reading, 0.05)))
            server.later(0.05, write)
            notes.append((yield from readable(reading, 20.0)))
            notes.append((yield from readable(reading, 0.0)))
            server.stop()

        server.work(steps())

    begin = time.monotonic()
    assert served(work) == [False, True, True]
    assert time.monotonic() - begin < 10
    os.close(reading)
    os.close(writing)


def test_child_is_waited_for_with_its_status_or_killed_at_the_time_limit() -> None:
    def work(server: Server, notes: list[object]) -> None:
        def steps() -> Steps[None]:
            for argv in (["sh", "-c", "exit 7"], ["sh", "-c", "kill -TERM $$"]):
                child = subprocess.Popen(argv)
                child.returncode = 0
                notes.append((yield from child_end(child.pid, 20.0)))
            child = subprocess.Popen(["sleep", "100"])
            child.returncode = 0
            process = os.pidfd_open(child.pid)
            try:
                yield from child_end(child.pid, 0.05)
            except OSError as error:
                notes.append(str(error).partition(" ")[2].partition(" ")[2])
            notes.append((yield from gone(process, 20.0)))
            server.stop()

        server.work(steps())

    assert served(work) == [7, -15, "did not end within 0.05 s, and was killed", True]


def test_error_of_work_without_an_audience_is_printed_and_the_server_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(server: Server, notes: list[object]) -> None:
        def steps() -> Steps[None]:
            yield from pause(0.0)
            raise ValueError("nobody listens")

        server.work(steps())
        server.later(0.05, server.stop)

    served(work)
    assert "ValueError: nobody listens" in capsys.readouterr().err


def test_work_is_finished_here_and_now_without_a_server() -> None:
    reading, writing = os.pipe()

    def steps() -> Steps[list[object]]:
        yield from pause(0.01)
        notes: list[object] = [(yield from readable(reading, 0.01))]
        os.write(writing, b"x")
        notes.append((yield from readable(reading, 1.0)))
        child = subprocess.Popen(["sh", "-c", "exit 3"])
        child.returncode = 0
        notes.append((yield from child_end(child.pid, 20.0)))
        turn = Turn()
        notes.append((yield from turn.hold(_nine())))
        return notes

    assert finish(steps()) == [False, True, 3, 9]
    turn = Turn()
    finish(turn.take())
    with pytest.raises(RuntimeError, match="nobody's turn"):
        finish(turn.take())
    os.close(reading)
    os.close(writing)


def _nine() -> Steps[int]:
    yield from ()
    return 9


def test_lean_modules_load_no_heavy_ones() -> None:
    """A hundred machines are a hundred processes."""
    code = (
        "import sys; import pytest_carthage.fabric.init, pytest_carthage.fabric.disturb; "
        "print(sorted({'asyncio', 'pathlib', 'logging', 'pytest'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr
