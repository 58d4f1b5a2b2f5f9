"""Who answers ssh for all machines of an environment: a process that its supervisor starts.

It takes over a socket that listens in the environment's folder, and ends with the environment. A
client says first, in a line of JSON, which machine it wants; the answer is an empty line, or one
that says why there is no way in. What follows is ssh.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from functools import partial
from pathlib import Path

import asyncssh

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire import channel as wire
from pytest_carthage.ssh.keys import Keys
from pytest_carthage.ssh.server import Server

__all__ = ["serve"]

#: how long an init that starts may take until its machine is worked in all the same
_BOOT_S = 60.0
_LONGEST_LINE = 4096
#: bytes that a client may send unasked; less than the pipe between us holds, see :mod:`.knock`
_WINDOW = 1 << 19


def serve(listener: socket.socket, folder: str) -> None:
    """Answer whoever comes, until somebody ends this process.

    :param folder: ``ssh`` of an environment's folder.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_Porter(Keys(folder=Path(folder))).serve(listener))


class _Porter:
    def __init__(self, keys: Keys) -> None:
        self._fabric = str(keys.folder.parent / "fabric.sock")
        self._name = keys.folder.parent.name
        self._options = asyncssh.SSHServerConnectionOptions(
            server_host_keys=[str(keys.host_key)],
            compression_algs=["none"],
            encoding=None,
            window=_WINDOW,
            line_editor=False,
            agent_forwarding=False,
            x11_forwarding=False,
            gss_host=None,
            server_version="pytest_carthage",
        )
        self._identity = asyncssh.read_public_key(keys.identity.with_suffix(".pub"))
        #: kept here: the event loop itself forgets those that wait
        self._visits: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket) -> None:
        """Answer whoever comes."""
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            visit = asyncio.create_task(self._receive(sock))
            self._visits.add(visit)
            visit.add_done_callback(self._visits.discard)

    async def _receive(self, sock: socket.socket) -> None:
        with sock:
            try:
                sock.setblocking(False)
                wanted = json.loads(await _line(sock))
                await self._lead(sock, str(wanted["machine"]))
            except (OSError, ValueError, KeyError, asyncssh.Error) as error:
                logging.debug("a visitor has left: %s", error)

    async def _lead(self, sock: socket.socket, machine: str) -> None:
        """Speak ssh with somebody who wants a machine, or say why not."""
        loop = asyncio.get_running_loop()
        who = f"machine {machine!r} of environment {self._name!r}"
        try:
            channel = await wire.connect(self._fabric, who, machine)
        except FabricError as error:
            hint = f"try: pytest-carthage logs {self._name}/{machine}"
            return await loop.sock_sendall(sock, f"{error}; {hint}\n".encode())
        try:
            # as no sshd takes anybody before its machine has been set up
            fabric = await wire.connect(self._fabric, who)
            try:
                await fabric.request("booted", machine=machine, timeout_s=_BOOT_S)
            finally:
                fabric.close()
            await loop.sock_sendall(sock, b"\n")
            server = Server(channel, who, self._identity)
            connection = await asyncssh.run_server(
                sock, options=self._options, server_factory=partial(_same, server)
            )
            await connection.wait_closed()
            await server.end()
        finally:
            with contextlib.suppress(OSError):
                channel.close()
        return None


def _same(server: Server) -> Server:
    return server


async def _line(sock: socket.socket) -> bytes:
    """A line; nothing comes behind it before it was answered.

    :raises ValueError: it is too long, or the other end has gone in its middle.
    """
    loop = asyncio.get_running_loop()
    data = b""
    while not data.endswith(b"\n"):
        piece = await loop.sock_recv(sock, _LONGEST_LINE)
        data += piece
        if not piece or len(data) > _LONGEST_LINE:
            raise ValueError("no line")
    return data
