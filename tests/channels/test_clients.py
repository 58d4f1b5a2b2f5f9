"""Clients that send what is no request, take back what they asked, or leave: whoever answers."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.channels.agent import Interrupted, execute
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.channel import AsyncChannel
from tests.channels.alone import ME
from tests.channels.conftest import COMMANDS, Bench, serving, settled

NOBODY: list[int] = []
#: an account that is on every Debian, and that a deputy looks up first
OTHER = "nobody" if os.geteuid() == 0 else ME


@pytest.fixture
def null() -> Iterator[int]:
    """A descriptor."""
    fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def is_hung_up(sock: socket.socket) -> bool:
    """Whether the other end has closed, without a word."""
    sock.settimeout(10)
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:  # it had not read all of it
        return True


def frame(body: bytes) -> bytes:
    return struct.pack("!I", len(body)) + body


# what is no request


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!I", frames.MOST_BYTES + 1),
        frame(b"{"),
        frame(b"[1]"),
        frame(b'"run"'),
        frame(b"\xff\xfe"),
        frame(b'{"id":2,"op":"ping","fds":1}'),
        frame(b'{"op":"ping"}'),
        frame(b'{"id":null,"op":"ping"}'),
        frame(b'{"id":"2","op":"ping"}'),
        frame(b'{"id":true,"op":"ping"}'),
    ],
    ids=[
        *("too large", "no JSON", "a list", "a text", "no UTF-8", "without its descriptor"),
        *("without a number", "null", "text for a number", "true for a number"),
    ],
)
def test_client_that_sends_no_request_is_hung_up_and_no_other_is(
    either: Bench, data: bytes
) -> None:
    with either.raw() as bad, either.raw() as good:
        bad.sendall(data)
        assert is_hung_up(bad)
        frames.send(good, {"id": 2, "op": "ping"})
        assert frames.receive(good)[0] == {"id": 2, "ok": True}


def test_client_that_leaves_in_the_middle_of_a_frame_leaves_nothing(
    either: Bench, null: int
) -> None:
    for data in (b"\0\0", frame(b'{"id":2}')[:6]):
        with either.raw() as bad:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null, null]))
            bad.sendmsg([data], [rights])
    assert either.ask("ping")[0]["ok"]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_command_with_another_number_of_descriptors_is_refused_and_they_are_closed(
    either: Bench, null: int, count: int
) -> None:
    with either.raw() as client:
        message = {"id": 2, "op": "run", "argv": ["true"], "user": ME}
        frames.send(client, message, [null] * count)
        reply, _ = frames.receive(client)
        assert reply["error"] == f"run takes 3 descriptors, got {count}"


def test_more_descriptors_than_a_frame_takes_end_the_connection(either: Bench, null: int) -> None:
    with either.raw() as bad:
        rights = array.array("i", [null] * (frames.MOST_FDS + 1))
        bad.sendmsg(
            [frame(b'{"id":2,"op":"ping"}')], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        )
        assert is_hung_up(bad)


def test_descriptors_that_nobody_wants_are_closed(either: Bench, null: int) -> None:
    with either.raw() as client:
        frames.send(client, {"id": 2, "op": "ping"}, [null, null])
        assert frames.receive(client)[0]["ok"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"op": "fly"}, "unknown operation 'fly'"),
        ({}, "unknown operation None"),
        ({"op": ["run"]}, "TypeError"),
        ({"op": "stat"}, "'path'"),
        ({"op": "stat", "path": 5.5}, ""),
        ({"op": "open", "path": "/etc/hosts"}, "'flags'"),
        ({"op": "open", "path": "/etc/hosts", "flags": "r"}, "TypeError"),
        ({"op": "wait"}, "no job|'job'"),
        ({"op": "wait", "job": 99}, "no job 99"),
        ({"op": "wait", "job": []}, "TypeError"),
        ({"op": "chmod", "path": "/nowhere", "mode": "x"}, ""),
        ({"op": "lookup", "host": 5}, "TypeError"),
        ({"op": "lookup", "host": "nowhere-at-all"}, "no host 'nowhere-at-all' in /etc/hosts"),
    ],
)
def test_request_that_cannot_be_done_is_refused_and_the_next_one_is_answered(
    either: Bench, fields: dict[str, Any], words: str
) -> None:
    with either.raw() as client:
        frames.send(client, {"id": 7, **fields})
        reply, fds = frames.receive(client)
        assert (reply["id"], reply["ok"], fds) == (7, False, [])
        assert reply["error"]
        assert any(word in reply["error"] for word in words.split("|")), reply
        frames.send(client, {"id": 8, "op": "ping"})
        assert frames.receive(client)[0] == {"id": 8, "ok": True}


def test_signal_to_a_job_that_is_none_is_no_error(either: Bench) -> None:
    assert either.ask("kill", job=99, signal=int(signal.SIGTERM))[0]["ok"]


@pytest.mark.parametrize("kind", list(COMMANDS))
def test_endpoint_ends_when_what_brings_its_clients_is_no_message(kind: str) -> None:
    with serving(COMMANDS[kind]) as bench:
        bench.control.send(b"{")
        state = Path(f"/proc/{bench.process}/stat")
        assert settled(lambda: state.read_text().rpartition(")")[2].split()[0], "Z") == "Z"


# what is taken back


async def begun(opened: AsyncChannel, op: str, **fields: Any) -> asyncio.Task[Any]:
    """A request that is sent."""
    task = asyncio.create_task(opened.request(op, **fields))
    await asyncio.sleep(0)
    return task


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("user", [ME, OTHER])
@pytest.mark.parametrize("turns", [0, 1, 2, 5])
def test_command_that_is_taken_back_before_its_start_is_answered_ends(
    either: Bench, null: int, user: str, turns: int
) -> None:
    """Be it that the user is looked up first, in the machine."""

    async def conversation(opened: AsyncChannel) -> None:
        argv = ["sleep", "600"]
        task = await begun(opened, "run", fds=(null,) * 3, argv=argv, user=user, cwd="/")
        for _ in range(turns):
            await asyncio.sleep(0)
        await cancelled(task)
        await opened.request("ping")
        # while the connection is open: its end would end them in any case
        ended = await asyncio.to_thread(settled, lambda: either.children, [])
        assert ended == []

    either.talk(conversation)


@pytest.mark.parametrize("user", [ME, OTHER])
def test_command_of_a_client_that_has_left_ends(either: Bench, null: int, user: str) -> None:
    with either.raw() as client:
        message = {"id": 2, "op": "run", "argv": ["sleep", "600"], "user": user, "cwd": "/"}
        frames.send(client, message, [null] * 3)
    assert settled(lambda: either.children, NOBODY) == []


def test_command_is_killed_with_its_group_when_who_waits_for_it_leaves(
    either: Bench, tmp_path: Path
) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; wait"

    async def conversation(opened: AsyncChannel) -> None:
        plain: dict[str, Any] = {"cwd": None, "env": {}, "input": None, "timeout_s": None}
        task = asyncio.create_task(execute(opened, ["sh", "-c", script], user=ME, **plain))
        assert await asyncio.to_thread(settled, lambda: (tmp_path / "pid").exists(), True)
        await cancelled(task)
        await cancelled(task)  # again, which changes nothing
        assert (await opened.request("ping"))[0]["ok"]

    either.talk(conversation)
    pid = int((tmp_path / "pid").read_text())

    def state() -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return "gone"

    assert settled(lambda: state() in ("gone", "Z"), True)
    assert settled(lambda: either.children, NOBODY) == []


def test_cancel_of_what_has_ended_or_never_was_is_passed_over(either: Bench) -> None:
    with either.raw() as client:
        frames.send(client, {"id": 2, "op": "ping"})
        assert frames.receive(client)[0]["ok"]
        for number, request in enumerate((2, 99, -1, None, "x"), 3):
            frames.send(client, {"id": number, "op": "cancel", "request": request})
        frames.send(client, {"id": 9, "op": "ping"})
        assert frames.receive(client)[0] == {"id": 9, "ok": True}


def test_two_wait_for_one_command_and_it_ends_when_both_have_left(either: Bench, null: int) -> None:
    async def conversation(opened: AsyncChannel) -> None:
        run = {"argv": ["sleep", "600"], "user": ME, "cwd": "/"}
        reply, _ = await opened.request("run", fds=(null,) * 3, **run)
        waits = [await begun(opened, "wait", job=reply["job"]) for _ in range(2)]
        await cancelled(waits[0])
        await opened.request("ping")
        assert either.children == [reply["pid"]]
        await cancelled(waits[1])
        await opened.request("ping")
        assert await asyncio.to_thread(settled, lambda: either.children, []) == []

    either.talk(conversation)


def test_two_wait_for_one_command_and_both_get_its_status(either: Bench, null: int) -> None:
    async def conversation(opened: AsyncChannel) -> None:
        run = {"argv": ["sh", "-c", "sleep 0.1; exit 3"], "user": ME, "cwd": "/"}
        reply, _ = await opened.request("run", fds=(null,) * 3, **run)
        waits = [await begun(opened, "wait", job=reply["job"]) for _ in range(2)]
        assert [(await task)[0]["status"] for task in waits] == [3, 3]

    either.talk(conversation)


def test_time_limit_at_the_moment_of_the_end_leaves_the_connection_whole(either: Bench) -> None:
    """Whichever was first: the command is over, and the next one is as good as any."""

    async def conversation(opened: AsyncChannel) -> set[str]:
        seen = set()
        for turn in range(40):
            try:
                status, _, _ = await execute(
                    opened,
                    ["sleep", "0.02"],
                    user=ME,
                    cwd="/",
                    env={},
                    input=None,
                    timeout_s=0.01 + turn * 0.0006,
                )
            except Interrupted:
                seen.add("late")
            else:
                assert status == 0
                seen.add("in time")
        assert await asyncio.to_thread(settled, lambda: either.children, []) == []
        assert (await opened.request("ping"))[0]["ok"]
        return seen

    assert "late" in either.talk(conversation)


def test_pipe_that_nobody_writes_to_keeps_no_other_waiting(either: Bench, tmp_path: Path) -> None:
    """An agent opens it; a deputy refuses to read it."""
    os.mkfifo(tmp_path / "pipe")

    async def conversation(opened: AsyncChannel) -> None:
        begin = time.monotonic()
        task = await begun(opened, "open", path=str(tmp_path / "pipe"), flags=os.O_RDONLY)
        await opened.request("ping")
        assert time.monotonic() - begin < 10
        with contextlib.suppress(FabricError):  # a deputy reads no pipes
            if task.done():
                os.close((await task)[1][0])
            await cancelled(task)
        await opened.request("ping")
        assert await asyncio.to_thread(settled, lambda: either.children, []) == []

    either.talk(conversation)
