"""Who answers for a virtual machine, and who does in his place: nobody is started here."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire.channel import AsyncChannel
from pytest_carthage.images.seeds.units import AGENT_ENDED
from pytest_carthage.provider import End
from pytest_carthage.providers.libvirt.answering import Answering
from pytest_carthage.providers.libvirt.domain import Places
from pytest_carthage.providers.libvirt.machine import LibvirtMachine
from pytest_carthage.providers.libvirt.ways import Entry

pytestmark = pytest.mark.asyncio


class Environment:
    """Gives channels as a context does, to a deputy that is there or not."""

    def __init__(self) -> None:
        self.is_there = True
        self.deputies: list[str] = []
        self.plan: Any = None
        self.folder = Path()
        self.notes: list[str] = []
        self.appointed = asyncio.Event()
        self._ends: list[socket.socket | AsyncChannel] = []
        self.fabric = self.opened()

    def close(self) -> None:
        for end in self._ends:
            end.close()

    def opened(self, operations: frozenset[str] = frozenset()) -> AsyncChannel:
        ours, theirs = socket.socketpair()
        channel = AsyncChannel(ours, "machine 'vm'")
        self._ends += [channel, theirs]
        channel.operations = operations
        return channel

    def note(self, who: str, text: str) -> None:
        self.notes.append(text)

    async def channel(self, machine: str) -> AsyncChannel:
        if not self.is_there:
            raise FabricError("its deputy is gone")
        return self.opened()

    async def deputy(self, machine: str, argv: list[str]) -> AsyncChannel:
        self.is_there = True
        self.deputies.append(argv[0])
        self.appointed.set()
        return self.opened()


@pytest_asyncio.fixture
async def environment() -> AsyncIterator[Environment]:
    with contextlib.closing(Environment()) as environment:
        yield environment


class Named(Entry):
    """Ways whose commands are their names."""

    def command(self, kind: str, places: Places) -> list[str]:
        return [kind]


def answering(environment: Environment, *kinds: str) -> Answering:
    context: Any = environment
    planned: Any = SimpleNamespace(name="vm")
    places: Any = None
    return Answering(context, planned, Named(kinds=kinds or ("agent",)), places)


async def test_channel_that_is_closed_is_opened_anew_to_the_deputy_that_is_there(
    environment: Environment,
) -> None:
    answers = answering(environment)
    await answers.appoint()
    first: Any = answers.channel
    first.close()
    assert not answers.is_open
    assert await answers.open() is answers.channel is not first
    assert environment.deputies == ["agent"]


async def test_deputy_that_is_gone_has_a_successor(environment: Environment) -> None:
    answers = answering(environment)
    await answers.appoint()
    waiting = asyncio.ensure_future(answers.until_closed())
    await asyncio.sleep(0)
    assert await answers.is_served()
    environment.is_there = False
    gone: Any = answers.channel
    gone.close("it is gone")
    assert await asyncio.wait_for(waiting, 1) is gone
    assert not await answers.is_served()
    await answers.open()
    assert environment.deputies == ["agent", "agent"]


async def test_channel_that_somebody_has_replaced_is_not_told_as_closed(
    environment: Environment,
) -> None:
    answers = answering(environment)
    waiting = asyncio.ensure_future(answers.until_closed())  # also before there is one
    await asyncio.sleep(0)
    await answers.appoint()
    first: Any = answers.channel
    await asyncio.sleep(0)
    await answers.appoint()
    first.close()
    await asyncio.sleep(0.01)
    assert not waiting.done()
    waiting.cancel()


async def test_next_way_is_taken_where_there_is_one(environment: Environment) -> None:
    answers = answering(environment, "agent", "ssh")
    assert str(answers) == "its agent"
    assert answers.fall_back()
    assert (answers.kind, str(answers)) == ("ssh", "its sshd")
    assert not answers.fall_back()
    await answers.appoint()
    assert environment.deputies == ["ssh"]


async def test_deputy_that_has_to_come_in_does_so_once(environment: Environment) -> None:
    answers = answering(environment, "ssh")
    asked: list[str] = []

    class Asked:
        operations = frozenset({"enter", "facts"})
        facts: dict[str, str] = {}

        async def request(self, op: str, **fields: Any) -> tuple[dict[str, str], list[int]]:
            asked.append(op)
            if op == "enter":
                self.facts = {"user": "root"}
            return self.facts, []

    channel: Any = Asked()
    entered = await answers.entered(channel)
    assert entered is not channel, "what it can be asked for is known only then"
    assert await answers.entered(channel) is channel
    assert asked == ["facts", "enter", "facts"]


# a machine whose endpoint ends


class Booted(LibvirtMachine):
    """One that is on, and is asked what its boot is called without a command."""

    boot = "first"

    async def boot_id_by(self, channel: Any) -> str:
        if channel.closed:
            raise FabricError("it is gone")
        return self.boot


@pytest_asyncio.fixture
async def machine(environment: Environment, tmp_path: Path) -> AsyncIterator[Booted]:
    context: Any = environment
    environment.plan = SimpleNamespace(layout="Lab")
    environment.folder = tmp_path
    (tmp_path / "vm.log").write_text("")
    planned: Any = SimpleNamespace(name="vm", ready_timeout_s=5, init=None)
    service: Any = SimpleNamespace(connection=SimpleNamespace(listen=lambda name, hear: None))
    places = Places(folder=tmp_path, short="/run/vm", log=tmp_path / "vm.log")
    identity: Any = None
    made = Booted(
        identity=identity,
        planned=planned,
        context=context,
        service=service,
        places=places,
        entry=Named(kinds=("agent",)),
        is_emulated=False,
        has_screen=False,
    )
    made._life.is_found_on()
    made._boot.id = "first"
    made._boot._id_by = made.boot_id_by  # type: ignore[method-assign]
    made._settle = nothing  # type: ignore[method-assign]
    made._life._settle = None
    await made._answering.appoint()
    yield made


async def nothing() -> None:
    pass


async def ending(machine: Booted) -> asyncio.Future[End]:
    waiting = asyncio.ensure_future(machine.ended())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    return waiting


async def test_end_of_a_deputy_is_told_before_its_successor_is_there(
    environment: Environment, machine: Booted
) -> None:
    waiting = await ending(machine)
    environment.is_there = False
    gone: Any = machine.channel
    gone.close("it is gone")
    end = await asyncio.wait_for(waiting, 1)
    assert end.how == "deputy"
    assert "its deputy, the process of this host that answers for it, ended at" in str(end)
    assert machine.channel is gone
    assert environment.deputies == ["agent"]
    await machine.back()
    assert environment.deputies == ["agent", "agent"]
    assert machine.channel is not gone
    await _cancelled(await ending(machine))


async def test_machine_whose_agent_cannot_run_is_asked_by_its_next_way(
    environment: Environment, machine: Booted, tmp_path: Path
) -> None:
    machine._answering._kinds.append("ssh")
    environment.appointed.clear()
    waiting = asyncio.ensure_future(machine._boot._until_it_cannot_answer())
    await asyncio.sleep(0.01)
    with (tmp_path / "vm.log").open("a") as log:
        log.write(f"{AGENT_ENDED}: ImportError: No module named 'resource'\n")
    await asyncio.wait_for(environment.appointed.wait(), 5)
    assert environment.deputies == ["agent", "ssh"]
    assert environment.notes == [
        "is asked by ssh: its agent cannot run: ImportError: No module named 'resource'"
    ]
    assert not waiting.done()
    waiting.cancel()


async def test_end_of_an_agent_is_told_when_another_one_answers(
    environment: Environment, machine: Booted
) -> None:
    waiting = await ending(machine)
    gone: Any = machine.channel
    gone.close("it is gone")
    assert (await asyncio.wait_for(waiting, 1)).how == "agent"
    assert machine.channel is not gone
    await machine.back()
    assert environment.deputies == ["agent"]


async def test_reboot_that_nobody_has_heard_of_is_told_as_one(
    environment: Environment, machine: Booted
) -> None:
    waiting = await ending(machine)
    machine.boot = "second"
    gone: Any = machine.channel
    gone.close("it is gone")
    assert (await asyncio.wait_for(waiting, 1)).how == "reboot"
    await machine.back()
    await _cancelled(await ending(machine))


async def test_channel_that_ends_with_a_machine_that_is_switched_is_nobodys_news(
    environment: Environment, machine: Booted
) -> None:
    waiting = await ending(machine)
    async with machine._switched():
        gone: Any = machine.channel
        gone.close("it is gone")
        await asyncio.sleep(0.01)
        machine._life.off.set()
    await asyncio.sleep(0.01)
    assert not waiting.done()
    machine._life.is_found_on()
    await machine._answering.appoint()
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await _cancelled(waiting)


async def _cancelled(waiting: asyncio.Future[End]) -> None:
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
