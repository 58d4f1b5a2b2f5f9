"""Who answers for a machine, over socket pairs: the machine is this host, in the test's folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pytest_carthage.channels.agent import execute
from pytest_carthage.channels.deputy import CONTROL, deputy_by_command, deputy_command
from pytest_carthage.channels.far.deputy import deputy_by_stream
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.channel import AsyncChannel
from pytest_carthage.fabric.wire.control import Control
from pytest_carthage.portal import Portal
from pytest_carthage.work.files.filesystem import AsyncFilesystem, Filesystem
from tests.channels.alone import ME

R = TypeVar("R")
WHO = "machine 'web'"


class Bench:
    """An endpoint, and connections to it as a fabric makes them."""

    def __init__(self, portal: Portal, control: socket.socket, process: int) -> None:
        self.portal = portal
        self.control = control
        #: its process id
        self.process = process
        #: how many descriptors it has open when nobody but :meth:`ask` is there
        self.at_rest = 0
        #: processes that it has all the time
        self.own: list[int] = []

    async def channel(self) -> AsyncChannel:
        ours, theirs = socket.socketpair()
        opened = AsyncChannel(ours, WHO)
        asked = asyncio.ensure_future(opened.hello("web"))
        await asyncio.sleep(0)
        message, _ = await asyncio.to_thread(frames.receive, theirs)
        Control(self.control).send({"id": message["id"]}, (theirs.fileno(),))
        theirs.close()
        await asked
        return opened

    def raw(self) -> socket.socket:
        """A connection of which every byte is the test's own; it is greeted."""
        ours, theirs = socket.socketpair()
        with theirs:
            Control(self.control).send({"id": 1}, (theirs.fileno(),))
        ours.settimeout(10)
        assert frames.receive(ours)[0]["ok"]
        return ours

    def talk(self, conversation: Callable[[AsyncChannel], Awaitable[R]]) -> R:
        """Have a conversation over a connection that is closed at its end."""

        async def go() -> R:
            opened = await self.channel()
            try:
                async with asyncio.timeout(20):
                    return await conversation(opened)
            finally:
                opened.close()

        return self.portal.call(go)

    def run(self, *argv: str, **more: Any) -> tuple[int, bytes, bytes]:
        """Run a command; returns status, output and errors."""
        plain: dict[str, Any] = {"cwd": None, "env": {}, "input": None, "timeout_s": 20}
        return self.talk(lambda opened: execute(opened, argv, **{"user": ME, **plain, **more}))

    def ask(self, op: str, **fields: Any) -> tuple[dict[str, Any], list[int]]:
        """Ask over a connection that stays open until the end of the test."""

        async def go() -> tuple[dict[str, Any], list[int]]:
            return await (await self._kept()).request(op, **fields)

        return self.portal.call(go)

    _channel: AsyncChannel | None = None

    async def _kept(self) -> AsyncChannel:
        if self._channel is None:
            self._channel = await self.channel()
        return self._channel

    def files(self) -> Filesystem:
        async def go() -> Filesystem:
            return Filesystem(
                AsyncFilesystem("web", who=WHO, portal=self.portal, channel=await self._kept())
            )

        return self.portal.call(go)

    def close(self) -> None:
        async def go() -> None:
            if self._channel is not None:
                self._channel.close()

        self.portal.call(go)

    def forget(self) -> None:
        """Have :meth:`ask` come anew."""
        self.close()
        self._channel = None

    @property
    def children(self) -> list[int]:
        """Processes that it has started for somebody, and that live."""
        there = [self.process, *self.own]
        paths = [Path(f"/proc/{pid}/task/{pid}/children") for pid in there]
        pids = [int(pid) for path in paths for pid in path.read_text().split()]
        return [pid for pid in pids if pid not in self.own]

    @property
    def descriptors(self) -> int:
        """How many it has open."""
        return len(list(Path(f"/proc/{self.process}/fd").iterdir()))

    def check_rest(self) -> None:
        """Nothing that was begun is left in it: no process, and no descriptor."""
        nobody: list[int] = []
        assert settled(lambda: self.children, nobody) == nobody
        assert settled(lambda: self.descriptors, self.at_rest) == self.at_rest


def settled(look: Callable[[], R], wanted: R, within_s: float = 5.0) -> R:
    """What is seen once it is as wanted, or at last."""
    deadline = time.monotonic() + within_s
    while (seen := look()) != wanted and time.monotonic() < deadline:
        time.sleep(0.005)
    return seen


@contextlib.contextmanager
def served_by(command: Sequence[str], *, status: int = 0) -> Iterator[Bench]:
    """An endpoint by its command; it ends, with this status, when nobody can come any more."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    env = {"PATH": os.environ["PATH"], CONTROL: str(theirs.fileno())}
    with theirs:
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), env=env, cwd="/")
    with contextlib.closing(Portal()) as portal:
        made = Bench(portal, ours, process.pid)
        try:
            yield made
        finally:
            made.close()
            ours.close()
            assert process.wait(10) == status


@contextlib.contextmanager
def serving(command: Sequence[str], *, status: int = 0) -> Iterator[Bench]:
    """The same; it is known what it has open when nobody is there."""
    with served_by(command, status=status) as made:
        made.ask("ping")
        with made.raw():
            made.at_rest = made.descriptors - 1
        made.own = made.children
        yield made


COMMANDS = {
    "agent": deputy_command("tests.channels.alone:agent"),
    "deputy": deputy_by_command(["env", "A_PREFIX=yes"], env={"SHOP": "1"}),
    "far": deputy_by_stream(command=["env"], env={"SHOP": "1"}),
}


@pytest.fixture(scope="module")
def endpoints() -> Iterator[Callable[[str], Bench]]:
    """Gives the endpoint of a kind, started when it is first asked for."""
    with contextlib.ExitStack() as stack:
        kept: dict[str, Bench] = {}

        def give(kind: str) -> Bench:
            if kind not in kept:
                kept[kind] = stack.enter_context(serving(COMMANDS[kind]))
            return kept[kind]

        yield give


@pytest.fixture
def by_command(endpoints: Callable[[str], Bench]) -> Iterator[Bench]:
    """A deputy that has commands alone; no test leaves anything in it."""
    made = endpoints("deputy")
    yield made
    made.check_rest()


@pytest.fixture(params=["deputy", "far"])
def bench(request: pytest.FixtureRequest, endpoints: Callable[[str], Bench]) -> Iterator[Bench]:
    """A deputy, behind a prefix that does nothing; no test leaves anything in it."""
    made = endpoints(request.param)
    yield made
    made.check_rest()


@pytest.fixture(params=["agent", "deputy", "far"])
def either(request: pytest.FixtureRequest, endpoints: Callable[[str], Bench]) -> Iterator[Bench]:
    """An agent, and a deputy; no test leaves anything in them."""
    made = endpoints(request.param)
    yield made
    made.check_rest()
