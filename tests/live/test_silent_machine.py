"""Machines that do not answer: all that is asked of them ends, and says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import CarthageError, FabricError, TimeLimitError
from pytest_carthage.fabric.wire import channel
from pytest_carthage.live.machines.machine import MachineHandle

from .conftest import Build

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    left = Machine(
        links={"eth0": lan.at(".1")}, command=["sh", "-c", "echo up and well; exec sleep 1000"]
    )
    right = Machine(links={"eth0": lan.at(".2")})


@pytest.fixture
def left(build: Build) -> MachineHandle:
    machine: MachineHandle = build(Pair)["left"]
    return machine


@pytest.fixture
def stopped(left: MachineHandle, monkeypatch: pytest.MonkeyPatch) -> Iterator[MachineHandle]:
    """Its agent is stopped, as it may be by a debugger, or by a host that has no time for it."""
    monkeypatch.setattr(channel, "SILENCE_S", 0.5)

    async def signal(op: str) -> object:
        fabric = left.aio.surroundings.fabric
        status, _ = await fabric.request("status")
        pid = status["machines"]["left"]["pid"]
        return await fabric.request(
            "inside",
            fds=(0, 1, 2),
            argv=["kill", f"-{op}", str(pid)],
            env={"PATH": "/bin:/usr/bin"},
        )

    left.aio.portal.call(signal, "STOP")
    yield left
    left.aio.portal.call(signal, "CONT")


def test_command_with_a_limit_ends_then(stopped: MachineHandle) -> None:
    begin = time.monotonic()
    with pytest.raises(TimeLimitError) as caught:
        stopped.run("true", timeout_s=0.3)
    assert time.monotonic() - begin < 15
    message = str(caught.value)
    assert message.startswith(
        "machine 'left' of layout 'Pair': 'true' did not end in 0.3 s, and the machine does not "
        "answer: it was stopped, or this host has no time for it; whether the command goes on is "
        "not known"
    )
    assert "it printed last:\n  up and well" in message


def test_each_operation_ends_and_says_that_there_is_no_answer(stopped: MachineHandle) -> None:
    operations: dict[str, Callable[[], object]] = {
        "run": lambda: stopped.run("true"),
        "stat": lambda: stopped.exists("/etc"),
        "open": lambda: stopped.read_text("/etc/hostname"),
        "mkdirs": lambda: stopped.put(__file__, "/tmp/here"),
        "observe": lambda: stopped.observe(),
    }
    for name, operation in operations.items():
        with pytest.raises(FabricError) as caught:
            operation()
        message = str(caught.value)
        assert message.startswith(
            "machine 'left' of layout 'Pair': it has answered nothing for 1 s, and was asked for "
            f"{name!r}: it was stopped, or this host has no time for it"
        )
        assert "it printed last:\n  up and well" in message


def test_why_it_stands_is_told_where_that_is_known(
    stopped: MachineHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "it stands since 14:03:01: no room on this host"
    monkeypatch.setattr(type(stopped.aio._means), "stalled", why, raising=False)
    with pytest.raises(FabricError, match=rf"answered nothing .*; {why}; it printed last:"):
        stopped.run("true")
    with pytest.raises(TimeLimitError, match=rf"does not answer.*(?s:.*)\(nothing\); {why}; it pr"):
        stopped.run("true", timeout_s=0.3)
    layout: Any = stopped.aio.surroundings
    assert stopped.aio.portal.call(lambda: layout.circumstances(0)) == [f"machine 'left': {why}"]


def test_connections_have_their_own_limits_from_the_call(stopped: MachineHandle) -> None:
    operations: dict[str, Callable[[], object]] = {
        "ping('10.0.0.2')": lambda: stopped.ping("10.0.0.2", timeout_s=0.2),
        "connect(80)": lambda: stopped.connect(80, "10.0.0.2", timeout_s=0.2),
    }
    for name, operation in operations.items():
        with pytest.raises(TimeoutError) as caught:
            operation()
        assert str(caught.value).startswith(
            f"machine 'left' of layout 'Pair': {name}: the machine itself has not answered within "
            "0.2 s: it was stopped, or this host has no time for it"
        )


def test_machine_that_goes_on_is_used_again(stopped: MachineHandle) -> None:
    with pytest.raises(FabricError, match="it has answered nothing for 1 s"):
        stopped.exists("/etc")
    stopped.aio.portal.call(_go_on, stopped)
    assert stopped.run("echo here").stdout == "here\n"


async def _go_on(machine: MachineHandle) -> None:
    fabric = machine.aio.surroundings.fabric
    status, _ = await fabric.request("status")
    pid = str(status["machines"]["left"]["pid"])
    await fabric.request(
        "inside", fds=(0, 1, 2), argv=["kill", "-CONT", pid], env={"PATH": "/bin:/usr/bin"}
    )


def test_command_that_takes_long_is_no_silence(
    left: MachineHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "SILENCE_S", 0.1)
    assert left.run("sleep 1; echo done").stdout == "done\n"


def test_command_waits_while_a_fault_has_the_machine_frozen(
    left: MachineHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "SILENCE_S", 0.1)

    async def go() -> str:
        running = asyncio.create_task(left.aio.run("sleep 0.3; echo done"))
        await asyncio.sleep(0.1)
        async with left.aio.freeze():
            await asyncio.sleep(1)
        return (await running).stdout

    assert left.aio.portal.call(go) == "done\n"


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/group", "/etc/hosts"])
def test_pipe_where_a_file_is_looked_for_is_told_at_once(left: MachineHandle, path: str) -> None:
    left.run(f"cp {path} /tmp/kept; rm {path}; mkfifo {path}")
    begin = time.monotonic()
    use = (
        (lambda: left.connect(80, "right", timeout_s=20))
        if path == "/etc/hosts"
        else (lambda: left.run("true", user="nobody", timeout_s=20))
    )
    with pytest.raises((CarthageError, OSError)) as caught:
        use()
    assert f"prw-r--r--, and no regular file: {path!r}" in str(caught.value)
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        ("ln -sf /dev/zero /etc/passwd", "no regular file: '/etc/passwd'"),
        ("truncate -s 10G /etc/passwd", "it is longer than 16777216 bytes: '/etc/passwd'"),
        ("rm /etc/passwd; mkdir /etc/passwd", "no regular file: '/etc/passwd'"),
    ],
)
def test_file_that_has_no_end_is_not_read(left: MachineHandle, make: str, seen: str) -> None:
    left.run(make)
    with pytest.raises(FabricError) as caught:
        left.run("true", user="nobody", timeout_s=20)
    assert seen in str(caught.value)
