"""Commands through a real agent: none is left behind, whatever happens to who asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.channels.agent import Interrupted, Overflowed, execute
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire import channel, client, frames
from pytest_carthage.fabric.wire.channel import AsyncChannel
from tests.fabric import endpoint
from tests.fabric.peer import descriptors
from tests.fabric.processes import begins, ends, marker
from tests.support.unprivileged import REPOSITORY

PLAIN: dict[str, Any] = {"user": None, "cwd": "/", "env": {}, "input": None, "timeout_s": None}


class Endpoint:
    """An agent in a process of its own."""

    def __init__(self, path: Path, process: subprocess.Popen[str]) -> None:
        self.path = str(path)
        self.process = process

    def use(self, work: Callable[[AsyncChannel], Coroutine[Any, Any, None]]) -> None:
        """Do something with a channel to it; no descriptor is left open."""

        async def main() -> None:
            opened = await channel.connect(self.path, "machine 'web'", "web")
            try:
                async with asyncio.timeout(60):
                    await work(opened)
            finally:
                opened.close()

        before = descriptors()
        asyncio.run(main())
        assert descriptors() <= before

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Have it answer nothing while the block runs."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Endpoint]:
    """An agent on the host."""
    path = tmp_path / "agent.sock"
    process = subprocess.Popen(
        [sys.executable, str(Path(endpoint.__file__)), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            assert process.stdout.readline() == "listening\n"
            yield Endpoint(path, process)
        finally:
            process.send_signal(signal.SIGCONT)
            process.stdin.close()


@pytest.mark.parametrize("turns", [*range(12), None])
def test_command_cancelled_at_any_turn_is_not_left_running(
    agent: Endpoint, turns: int | None
) -> None:
    mark = marker()

    async def work(opened: AsyncChannel) -> None:
        task = asyncio.create_task(
            execute(opened, ["sleep", mark], **{**PLAIN, "input": b"x" * 1_000_000})
        )
        if turns is None:
            assert await asyncio.to_thread(begins, mark)
        for _ in range(turns or 0):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        status, out, _ = await execute(opened, ["echo", "next"], **PLAIN)
        assert (status, out) == (0, b"next\n")
        assert ends(mark)

    agent.use(work)


def test_two_hundred_commands_cancelled_before_their_start_is_answered_all_end(
    agent: Endpoint,
) -> None:
    mark = marker()

    async def work(opened: AsyncChannel) -> None:
        for _ in range(200):
            task = asyncio.create_task(execute(opened, ["sleep", mark], **PLAIN))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await opened.request("ping")
        assert ends(mark)

    agent.use(work)


def test_command_of_a_frozen_machine_is_given_up_in_time_and_ends_when_it_thaws(
    agent: Endpoint,
) -> None:
    mark = marker()

    async def work(opened: AsyncChannel) -> None:
        begin = time.monotonic()
        with agent.silent():
            with pytest.raises(Interrupted):
                await execute(opened, ["sleep", mark], **{**PLAIN, "timeout_s": 0.05})
            task = asyncio.create_task(execute(opened, ["sleep", mark], **PLAIN))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - begin < 15
        await opened.request("ping")
        assert ends(mark)

    agent.use(work)


def test_command_at_its_time_limit_is_killed_with_what_it_printed(agent: Endpoint) -> None:
    mark = marker()
    script = f"echo out; echo err >&2; sleep {mark} & sleep {mark}"

    async def work(opened: AsyncChannel) -> None:
        with pytest.raises(Interrupted, match="time limit") as caught:
            await execute(opened, ["sh", "-c", script], **{**PLAIN, "timeout_s": 0.5})
        assert (caught.value.stdout, caught.value.stderr) == (b"out\n", b"err\n")
        assert not isinstance(caught.value, Overflowed)
        assert ends(mark)

    agent.use(work)


def test_command_that_prints_without_end_is_stopped_at_its_limit(agent: Endpoint) -> None:
    mark = marker()

    async def work(opened: AsyncChannel) -> None:
        begin = time.monotonic()
        with pytest.raises(Overflowed, match="output limit") as caught:
            await execute(opened, ["yes", mark], **PLAIN, most_output_bytes=1_000_000)
        assert 1_000_000 < len(caught.value.stdout) <= 1_000_000 + (1 << 16)
        assert caught.value.stderr == b""
        assert time.monotonic() - begin < 10
        assert ends(mark)

    agent.use(work)


def test_limit_counts_both_outputs_and_lets_pass_what_is_just_as_large(agent: Endpoint) -> None:
    script = "head -c 600000 /dev/zero; head -c 400000 /dev/zero >&2"

    async def work(opened: AsyncChannel) -> None:
        status, out, err = await execute(
            opened, ["sh", "-c", script], **PLAIN, most_output_bytes=1_000_000
        )
        assert (status, len(out), len(err)) == (0, 600_000, 400_000)
        with pytest.raises(Overflowed):
            await execute(opened, ["sh", "-c", script], **PLAIN, most_output_bytes=999_999)
        status, out, err = await execute(
            opened, ["head", "-c", "70000000", "/dev/zero"], **PLAIN, most_output_bytes=None
        )
        assert len(out) == 70_000_000

    agent.use(work)


def test_input_reaches_a_command_whole_and_one_that_wants_none_is_no_error(
    agent: Endpoint,
) -> None:
    data = os.urandom(1_000_000)

    async def work(opened: AsyncChannel) -> None:
        status, out, _ = await execute(opened, ["cat"], **{**PLAIN, "input": data})
        assert (status, out) == (0, data)
        status, out, _ = await execute(opened, ["true"], **{**PLAIN, "input": data})
        assert (status, out) == (0, b"")

    agent.use(work)


def test_program_that_is_not_there_is_refused_with_its_number(agent: Endpoint) -> None:
    async def work(opened: AsyncChannel) -> None:
        with pytest.raises(FabricError, match=r"machine 'web': .*no-such") as caught:
            await execute(opened, ["/no-such"], **PLAIN)
        assert caught.value.errno == 2

    agent.use(work)


def test_agent_says_at_the_start_what_it_can_do(agent: Endpoint) -> None:
    async def work(opened: AsyncChannel) -> None:
        assert opened.operations is not None
        assert {"run", "wait", "cancel", "open", "socket", "ping"} <= opened.operations
        assert "machines" not in opened.operations

    agent.use(work)


# one client's trouble is no other's


def test_client_in_the_middle_of_its_request_keeps_nobody_waiting(agent: Endpoint) -> None:
    with frames.connect(agent.path) as slow, client.connect(agent.path) as other:
        body = json.dumps({"id": 1, "op": "ping"}).encode()
        slow.sendall(struct.pack("!I", len(body)) + body[:5])
        begin = time.monotonic()
        other.request("ping")
        assert time.monotonic() - begin < 5
        slow.sendall(body[5:])
        assert frames.receive(slow)[0] == {"id": 1, "ok": True}


def test_client_that_takes_no_answers_keeps_nobody_waiting(agent: Endpoint, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{'long' * 30}{number}").touch()
    with frames.connect(agent.path) as lazy, client.connect(agent.path) as other:
        lazy.settimeout(0.2)
        asked = 0
        with contextlib.suppress(TimeoutError):  # it takes no more requests than answers go out
            while asked < 20_000:
                frames.send(lazy, {"id": asked, "op": "listdir", "path": str(tmp_path)})
                asked += 1
        begin = time.monotonic()
        other.request("ping")
        assert time.monotonic() - begin < 5
        assert 0 < asked < 20_000
        lazy.settimeout(30)
        for number in range(asked):
            reply, _ = frames.receive(lazy)
            assert reply["id"] == number
            assert len(reply["names"]) >= 300


def test_client_that_sends_what_is_no_request_is_hung_up_and_the_others_are_not(
    agent: Endpoint,
) -> None:
    with client.connect(agent.path) as other:
        for data in (
            b"\xff\xff\xff\xff",
            struct.pack("!I", 1) + b"[",
            struct.pack("!I", 2) + b"[]",
        ):
            with frames.connect(agent.path) as wrong:
                wrong.sendall(data)
                assert wrong.recv(1) == b""
        other.request("ping")


@pytest.mark.parametrize(
    "request_",
    [
        {"id": 1},
        {"id": 1, "op": None},
        {"id": 1, "op": ["run"]},
        {"id": 1, "op": "stat"},
        {"id": 1, "op": "stat", "path": 5.5},
        {"id": 1, "op": "run", "argv": []},
        {"id": 1, "op": "wait", "job": "x"},
        {"id": 1, "op": "cancel"},
    ],
)
def test_request_that_makes_no_sense_is_refused_and_the_next_one_answered(
    agent: Endpoint, request_: dict[str, Any]
) -> None:
    with frames.connect(agent.path) as sock:
        frames.send(sock, request_)
        reply, _ = frames.receive(sock)
        assert (reply["id"], reply["ok"]) == (1, False)
        assert reply["error"]
        frames.send(sock, {"id": 2, "op": "ping"})
        assert frames.receive(sock)[0] == {"id": 2, "ok": True}


def test_more_clients_than_descriptors_are_hung_up_and_the_first_ones_served(
    agent: Endpoint,
) -> None:
    import resource

    resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (20, 20))
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(client.connect(agent.path))
        first.request("ping")
        many = [stack.enter_context(frames.connect(agent.path)) for _ in range(30)]
        first.request("ping")
        many[-1].settimeout(20)
        assert many[-1].recv(1) == b""
        first.request("ping")
        del many
    time.sleep(0.05)
    with client.connect(agent.path) as again:
        again.request("ping")


# the blocking client


def test_blocking_client_at_its_time_limit_leaves_its_connection_in_step(agent: Endpoint) -> None:
    mark = marker()
    with client.connect(agent.path, "web") as blocking:
        with pytest.raises(TimeoutError, match=r"no end after 0\.05 s"):
            blocking.run(["sleep", mark], timeout_s=0.05)
        assert blocking.run(["echo", "next"])[:2] == (0, b"next\n")
        assert blocking.request("stat", path="/")[0]["uid"] == 0
    assert ends(mark)


class _Alarm(Exception):
    pass


def test_blocking_client_interrupted_in_the_middle_of_a_frame_is_closed(agent: Endpoint) -> None:
    def ring(number: int, frame: object) -> None:
        raise _Alarm

    previous = signal.signal(signal.SIGALRM, ring)
    try:
        with client.connect(agent.path, "web") as blocking, agent.silent():
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(_Alarm):
                blocking.request("open", path="x" * 3_000_000)
            with pytest.raises(OSError):
                blocking.request("ping")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("answer", [{"id": 2, "ok": True}, {"id": 1}, {"id": 1, "ok": True}, [5]])
def test_blocking_client_refuses_what_is_no_answer(answer: Any) -> None:
    near, far = socket.socketpair()
    with far, client.Client(near) as blocking:
        frames.send(far, answer)
        with pytest.raises(frames.Malformed):
            blocking.request("stat", path="/")
        with pytest.raises(OSError):
            blocking.request("stat", path="/")
