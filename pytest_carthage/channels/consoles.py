"""The serial consoles of an environment's machines, as who creates machines, or attaches, has them.

A target whose machines have serial ports asks for a console before it switches a machine on::

    consoles = Consoles(context.fabric, context.folder)
    await consoles.record(planned.name, socket, context.logs / f"{planned.name}.log")

and has the port connect to that UNIX socket, again and again. See :mod:`.recorder` for what becomes
of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from pathlib import Path

from pytest_carthage import clock
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.host.programs import PATH
from pytest_carthage.fabric.wire import channel, client, frames
from pytest_carthage.handles.channel import Channel

__all__ = ["LINES", "SOCKET", "Attached", "Consoles", "attach", "forget", "settle"]

#: of the folder of an environment: where its recorder answers
SOCKET = "consoles.sock"
#: lines that who attaches is shown first
LINES = 24
_START_S, _POLL_S = 20.0, 0.01


class Consoles:
    """The recorder of an environment, which is started when it is asked for something first.

    :param folder: of the environment.
    """

    def __init__(self, fabric: Channel, folder: Path) -> None:
        self._fabric = fabric
        self._folder = folder
        self._starting = asyncio.Lock()

    async def record(self, machine: str, path: Path, log: Path) -> None:
        """Have what a machine's serial port prints recorded; done when the port can connect.

        To ask for it again is no error: its recorder may have been killed meanwhile.

        :param path: of the UNIX socket that the port connects to.
        :param log: is written as text, and does not grow without bounds.
        :raises FabricError: the recorder does not answer.
        """
        async with self._starting, contextlib.AsyncExitStack() as closing:
            asked = await self._reach(closing)
            await asked.request("record", machine=machine, path=str(path), log=str(log))

    async def _reach(self, closing: contextlib.AsyncExitStack) -> channel.AsyncChannel:
        """Connect to the recorder, which is started where it is not there."""
        try:
            asked = await _connect(self._folder)
        except FabricError:
            await self._start()
            asked = await self._when_it_listens()
        closing.callback(asked.close)
        return asked

    async def _start(self) -> None:
        await self._fabric.request(
            "spawn",
            argv=_command(self._folder / SOCKET),
            env={"PATH": PATH, "LANG": "C.UTF-8"},
            log=str(self._folder / "consoles.log"),
        )

    async def _when_it_listens(self) -> channel.AsyncChannel:
        deadline = clock.monotonic_s() + _START_S
        while True:
            try:
                return await _connect(self._folder)
            except FabricError as error:
                if clock.monotonic_s() > deadline:
                    log = self._folder / "consoles.log"
                    raise FabricError(
                        f"the recorder of consoles has not answered for {_START_S:g} s: {error}; "
                        f"log: {log}"
                    ) from error
            # a socket tells nobody that it begins to listen
            await asyncio.sleep(_POLL_S)


async def forget(folder: Path, machine: str) -> None:
    """A machine is gone: let go of its console; one without any is not an error.

    :param folder: of the environment.
    """
    await _ask(folder, "forget", machine)


async def settle(folder: Path, machine: str) -> None:
    """Return when the log of a machine has all that was printed on its console by now.

    :param folder: of the environment.
    """
    await _ask(folder, "settle", machine)


async def _ask(folder: Path, op: str, machine: str) -> None:
    """Ask a recorder, if there is one."""
    with contextlib.suppress(FabricError):
        asked = await _connect(folder)
        try:
            await asked.request(op, machine=machine)
        finally:
            asked.close()


def _command(path: Path) -> list[str]:
    """The command of a recorder that serves there."""
    code = (
        "import json, sys; sys.path[:], path = json.loads(sys.argv[1])\n"
        "from pytest_carthage.channels.recorder import serve; serve(path)"
    )
    found_at = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100  '' is this folder
    return [sys.executable, "-I", "-c", code, json.dumps([found_at, str(path)])]


async def _connect(folder: Path) -> channel.AsyncChannel:
    return await channel.connect(str(folder / SOCKET), "the recorder of consoles")


class Attached:
    """Somebody's end of a console: what the machine prints is read, what is written is typed."""

    def __init__(self, sock: socket.socket, *, is_connected: bool, others: int) -> None:
        self.socket = sock
        #: whether the machine is there; it may come
        self.is_connected = is_connected
        #: how many are attached, too
        self.others = others


def attach(folder: Path, machine: str, *, lines: int = LINES) -> Attached:
    """Attach to the console of a machine of a live environment; others may be, too.

    :param folder: of the environment.
    :param lines: of what was printed last, which come first.
    :raises FabricError: it has none.
    """
    try:
        with client.connect(str(folder / SOCKET), limit_s=_START_S) as recorder:
            reply, (fd,) = recorder.request("console", machine=machine, lines=lines)
    except FileNotFoundError:
        raise FabricError(f"machine {machine!r} has no serial console") from None
    except (OSError, client.Refused, frames.Closed) as error:
        raise FabricError(f"the console of machine {machine!r}: {error}") from error
    return Attached(
        socket.socket(fileno=fd), is_connected=reply["is_connected"], others=reply["others"]
    )
