"""Who answers for a fake machine: as an agent would, to the letter of its refusals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from pytest_carthage.channels.agent import execute
from pytest_carthage.errors import FabricError
from pytest_carthage.handles.capability import CAPABILITIES, lacking
from pytest_carthage.testing import Call, FakeEndpoint, FakeMachine, Output
from tests.fabric.peer import descriptors


def talk(
    conversation: Callable[[FakeEndpoint], Awaitable[Any]],
    machine: FakeMachine | None = None,
    **more: Any,
) -> Any:
    """Have a conversation; no descriptor is left open."""
    before = descriptors()
    made = machine or FakeMachine("web", files={"/etc/hosts": "10.0.0.2 db\n"})

    async def main() -> Any:
        endpoint = FakeEndpoint(made, **more)
        try:
            async with asyncio.timeout(20):
                return await conversation(endpoint)
        finally:
            endpoint.close()
            await asyncio.sleep(0)

    try:
        return asyncio.run(main())
    finally:
        made.files.close()
        assert machine is not None or descriptors() <= before


def ask(op: str, machine: FakeMachine | None = None, **fields: Any) -> dict[str, Any]:
    async def conversation(endpoint: FakeEndpoint) -> Any:
        reply, fds = await endpoint.request(op, **fields)
        assert fds == []
        return reply

    reply: dict[str, Any] = talk(conversation, machine)
    return reply


@pytest.fixture
def null() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


async def forever(call: Call) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def busy() -> Iterator[FakeMachine]:
    """A machine with a command that never ends."""
    machine = FakeMachine("web", answers={"forever": forever, "nothing": ""})
    yield machine
    machine.files.close()


# refusals


@pytest.mark.parametrize(
    ("op", "fields", "words", "number"),
    [
        ("fly", {}, "unknown operation 'fly'", None),
        ("stat", {"path": "/none"}, "No such file or directory", errno.ENOENT),
        ("stat", {"path": "here"}, "'here' is no absolute path", None),
        ("stat", {}, "missing 1 required", None),
        ("stat", {"path": "/etc", "more": 1}, "unexpected keyword", None),
        ("wait", {"job": 9}, "no job 9", None),
        ("kill", {"job": 9, "signal": 999}, "999 is not a valid Signals", None),
        ("kill", {"job": 9}, "missing 1 required", None),
        ("lookup", {"host": "nobody"}, "no host 'nobody' in /etc/hosts", errno.ENOENT),
        ("connect", {"host": "127.0.0.1", "port": 9}, "refused", errno.ECONNREFUSED),
        ("connect", {"host": "10.9.9.9", "port": 9}, "No route", errno.EHOSTUNREACH),
        ("connect", {"host": "db", "port": 9, "protocol": "udp"}, "no datagrams", None),
        ("run", {"argv": ["x"], "tty": True}, "no terminals", None),
        ("run", {"argv": ["x"]}, "no terminals", None),
    ],
)
def test_refusal_names_the_machine_and_has_its_number(
    op: str, fields: dict[str, Any], words: str, number: int | None
) -> None:
    with pytest.raises(FabricError, match=r"^fake machine 'web': ") as caught:
        ask(op, **fields)
    assert words in str(caught.value)
    assert caught.value.errno == number


def test_machine_that_is_off_and_endpoint_that_is_closed_answer_nothing() -> None:
    machine = FakeMachine("web")
    machine.power = "off"
    with pytest.raises(FabricError, match="fake machine 'web': it is off"):
        ask("ping", machine)

    async def conversation(endpoint: FakeEndpoint) -> None:
        endpoint.close()
        with pytest.raises(FabricError, match="fake machine 'web': closed"):
            await endpoint.request("ping")

    talk(conversation)


def test_endpoint_says_what_it_has_and_what_is_left_out() -> None:
    async def conversation(endpoint: FakeEndpoint) -> frozenset[str]:
        return endpoint.operations

    whole = talk(conversation)
    assert lacking(whole) == {"echo", "socket"}
    part = talk(conversation, lacks=["wait", "observe"])
    assert whole - part == {"wait", "observe"}
    assert lacking(part) == {"run", "observe", "echo", "socket"}
    assert lacking(part) <= set(CAPABILITIES)


# files and looking


def test_files_are_those_of_the_machine() -> None:
    machine = FakeMachine("web", files={"/etc/motd": "hello"})
    assert ask("listdir", machine, path="/etc")["names"] == ["motd"]
    machine = FakeMachine("web")

    async def conversation(endpoint: FakeEndpoint) -> None:
        flags = os.O_WRONLY | os.O_CREAT
        _, (fd,) = await endpoint.request("open", path="/srv/x", flags=flags, mode=0o600)
        os.write(fd, b"written")
        os.close(fd)
        await endpoint.request("mkdirs", path="/srv/a/b", mode=0o700, user="shop")
        await endpoint.request("symlink", path="/srv/link", target="x")
        await endpoint.request("chmod", path="/srv/x", mode=0o640)
        await endpoint.request("chown", path="/srv/x", user="shop")
        assert machine.files["/srv/link"] == "written"
        assert machine.files.owner("/srv/x") == machine.files.owner("/srv/a/b") == "shop"
        reply, _ = await endpoint.request("stat", path="/srv/x")
        assert (reply["mode"] & 0o777, reply["size"]) == (0o640, 7)

    talk(conversation, machine)


def test_names_are_looked_up_and_addresses_stand_for_themselves() -> None:
    assert ask("lookup", host="db")["address"] == "10.0.0.2"
    assert ask("lookup", host="10.0.0.9")["address"] == "10.0.0.9"
    assert ask("lookup", host="fd00::1")["address"] == "fd00::1"


def test_services_are_what_is_seen() -> None:
    machine = FakeMachine("web", hostname="web.example")
    machine.serve(443)
    machine.serve(80)
    listening = ask("listening", machine)["listening"]
    assert [row["port"] for row in listening] == [80, 443]
    seen = ask("observe", machine)
    assert (seen["hostname"], seen["listening"]) == ("web.example", listening)
    assert ask("ping", machine) == {}


def test_connection_leads_to_the_machine_that_has_the_address() -> None:
    db = FakeMachine("db")
    db.serve(5432, lambda far: far.sendall(b"db says " + far.recv(5)))
    asked: list[str] = []

    def peers(address: str) -> FakeMachine | None:
        asked.append(address)
        return db if address == "10.0.0.2" else None

    async def conversation(endpoint: FakeEndpoint) -> None:
        reply, (fd,) = await endpoint.request("connect", host="db", port=5432)
        assert reply == {"address": "10.0.0.2"}
        with socket.socket(fileno=fd) as near:
            near.settimeout(10)
            near.sendall(b"hello")
            assert near.recv(100) == b"db says hello"
        with pytest.raises(FabricError, match="refused"):
            await endpoint.request("connect", host="::1", port=5432)  # that is itself

    talk(conversation, peers=peers)
    assert asked == ["10.0.0.2"]
    db.files.close()


# commands


def test_command_is_given_what_it_was_asked_with(null: int) -> None:
    calls: list[Call] = []

    def it(call: Call) -> str:
        calls.append(call)
        return ""

    machine = FakeMachine(
        "web",
        answers={"it": it},
        env={"SHOP": "corner", "LANG": "de"},
    )

    async def conversation(endpoint: FakeEndpoint) -> None:
        fields: dict[str, Any] = {"argv": ["it"], "user": "till", "env": {"MORE": "1"}}
        reply, _ = await endpoint.request("run", fds=(null,) * 3, **fields)
        assert (await endpoint.request("wait", job=reply["job"]))[0] == {"status": 0}
        with pytest.raises(FabricError, match="no job 1"):
            await endpoint.request("wait", job=reply["job"])

    talk(conversation, machine)
    (call,) = calls
    assert (call.machine, call.user, call.cwd, call.argv) == (machine, "till", None, ("it",))
    assert call.env == {
        "HOME": "/home/till",
        "USER": "till",
        "LOGNAME": "till",
        "LANG": "de",
        "SHOP": "corner",
        "MORE": "1",
    }


def test_user_may_be_a_number() -> None:
    async def conversation(endpoint: FakeEndpoint) -> list[bytes]:
        plain: dict[str, Any] = {"cwd": None, "env": {}, "input": None, "timeout_s": 5}
        asked = [execute(endpoint, ["id", "-un"], user=user, **plain) for user in ("0", "1001")]
        return [(await each)[1] for each in asked]

    assert talk(conversation) == [b"root\n", b"1001\n"]


def test_commands_run_side_by_side_and_end_by_themselves(busy: FakeMachine, null: int) -> None:
    async def conversation(endpoint: FakeEndpoint) -> None:
        long, _ = await endpoint.request("run", fds=(null,) * 3, argv=["forever"])
        short, _ = await endpoint.request("run", fds=(null,) * 3, argv=["nothing"])
        assert short["pid"] != long["pid"]
        assert (await endpoint.request("wait", job=short["job"]))[0]["status"] == 0
        await endpoint.request("kill", job=long["job"], signal=int(signal.SIGTERM))
        assert (await endpoint.request("wait", job=long["job"]))[0]["status"] == -15

    talk(conversation, busy)


@pytest.mark.parametrize("number", [0, signal.SIGCONT, signal.SIGWINCH])
def test_signal_that_ends_nothing_ends_nothing(busy: FakeMachine, null: int, number: int) -> None:
    async def conversation(endpoint: FakeEndpoint) -> None:
        job = (await endpoint.request("run", fds=(null,) * 3, argv=["forever"]))[0]["job"]
        await endpoint.request("kill", job=job, signal=int(number))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await asyncio.shield(endpoint.request("wait", job=job))

    talk(conversation, busy)


def test_signal_after_the_end_changes_no_status(busy: FakeMachine, null: int) -> None:
    async def conversation(endpoint: FakeEndpoint) -> None:
        job = (await endpoint.request("run", fds=(null,) * 3, argv=["nothing"]))[0]["job"]
        await asyncio.sleep(0.02)
        await endpoint.request("kill", job=job, signal=9)
        assert (await endpoint.request("wait", job=job))[0]["status"] == 0

    talk(conversation, busy)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_command_ends_when_the_last_who_waited_has_left(null: int) -> None:
    ended = asyncio.Event()

    async def noted(call: Call) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    machine = FakeMachine("web", answers={"noted": noted})

    async def conversation(endpoint: FakeEndpoint) -> None:
        job = (await endpoint.request("run", fds=(null,) * 3, argv=["noted"]))[0]["job"]
        waits = [asyncio.create_task(endpoint.request("wait", job=job)) for _ in range(2)]
        await asyncio.sleep(0.01)
        await cancelled(waits[0])
        await asyncio.sleep(0.01)
        assert not ended.is_set()
        await cancelled(waits[1])
        await asyncio.sleep(0.01)
        assert ended.is_set()
        with pytest.raises(FabricError, match=f"no job {job}"):
            await endpoint.request("wait", job=job)

    talk(conversation, machine)


@pytest.mark.parametrize("end", ["hang_up", "close"])
def test_commands_end_with_the_power_and_with_the_connection(
    busy: FakeMachine, null: int, end: str
) -> None:
    async def conversation(endpoint: FakeEndpoint) -> None:
        job = (await endpoint.request("run", fds=(null,) * 3, argv=["forever"]))[0]["job"]
        waiting = asyncio.create_task(endpoint.request("wait", job=job))
        await asyncio.sleep(0)
        getattr(endpoint, end)()
        assert (await waiting)[0]["status"] == -signal.SIGKILL

    talk(conversation, busy)


def test_pipes_of_a_command_are_closed_when_it_ends_and_when_it_is_killed_at_once(
    busy: FakeMachine,
) -> None:
    async def conversation(endpoint: FakeEndpoint) -> None:
        for argv in (["nothing"], ["forever"]):
            reading, writing = os.pipe()
            null = os.open(os.devnull, os.O_RDWR)
            reply, _ = await endpoint.request("run", fds=(null, writing, null), argv=argv)
            os.close(writing)
            os.close(null)
            await endpoint.request("kill", job=reply["job"], signal=9)
            await asyncio.sleep(0.02)
            os.set_blocking(reading, False)
            assert os.read(reading, 1) == b""
            os.close(reading)

    talk(conversation, busy)


def test_output_that_nobody_reads_any_more_is_no_error(null: int) -> None:
    machine = FakeMachine("web", answers={"large": Output(stdout=bytes(1 << 20), status=3)})

    async def conversation(endpoint: FakeEndpoint) -> None:
        reading, writing = os.pipe()
        job = (await endpoint.request("run", fds=(null, writing, null), argv=["large"]))[0]["job"]
        os.close(writing)
        await asyncio.sleep(0.01)
        os.close(reading)
        assert (await endpoint.request("wait", job=job))[0]["status"] == 3

    talk(conversation, machine)


def test_answer_in_a_thread_does_not_keep_the_others_waiting(null: int) -> None:
    may_end = threading.Event()
    machine = FakeMachine("web", answers={"slow": lambda call: may_end.wait(10)})

    async def conversation(endpoint: FakeEndpoint) -> None:
        job = (await endpoint.request("run", fds=(null,) * 3, argv=["slow"]))[0]["job"]
        assert (await endpoint.request("ping"))[0] == {}
        may_end.set()
        assert (await endpoint.request("wait", job=job))[0]["status"] == 0

    talk(conversation, machine)


def test_failing_answer_is_told_to_who_waits(null: int) -> None:
    def fails(call: Call) -> str:
        raise RuntimeError("mine")

    machine = FakeMachine("web", answers={"it": fails})

    async def conversation(endpoint: FakeEndpoint) -> None:
        job = (await endpoint.request("run", fds=(null,) * 3, argv=["it"]))[0]["job"]
        with pytest.raises(FabricError, match=r"the answer to 'it' failed: RuntimeError: mine"):
            await endpoint.request("wait", job=job)

    talk(conversation, machine)
