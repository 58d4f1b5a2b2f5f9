"""The mirror of a live layout: a process of the environment that lives as long as that.

It is given a socket for each machine, which listens in there, and answers what comes. No route
leads out of the machine, and it reaches nothing else by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import sys
from collections.abc import Mapping
from typing import Any

from pytest_carthage.errors import CarthageError
from pytest_carthage.mirror.archives import Archives
from pytest_carthage.mirror.authority import Authority
from pytest_carthage.mirror.fetching import Fetching
from pytest_carthage.mirror.indexes import Indexes
from pytest_carthage.mirror.message import Answer, Request, read_request, write_answer
from pytest_carthage.mirror.repositories import Repositories
from pytest_carthage.mirror.settings import ADDRESS, Client, Settings

__all__ = ["LARGEST", "Mirror", "serve"]

#: bytes of a message from who owns it
LARGEST = 1 << 18
_BACKLOG = 128


class Mirror:
    """Serves the machines of one layout."""

    def __init__(self, settings: Settings, control: socket.socket) -> None:
        self._control: socket.socket | None = control
        fetching = Fetching(folder=settings.cache, offline=settings.offline)
        self._archives = Archives(settings, fetching)
        self._repositories = Repositories(settings, fetching)
        self._indexes = Indexes(settings)
        self._authority = Authority(folder=settings.cache / "authority")
        #: host to what answers in its place
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the environment's end, which kills this process."""
        assert self._control is not None
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._take)
        try:
            await asyncio.Event().wait()
        finally:
            for server in self._servers.values():
                server.close()

    def _take(self) -> None:
        """Take in what the owner says; when that is gone, machines are served all the same."""
        assert self._control is not None
        try:
            data, fds, _, _ = socket.recv_fds(self._control, LARGEST, 1)
        except OSError:
            data, fds = b"", []
        if not data:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
            return
        message = json.loads(data)
        if "allow" in message:
            self._archives.allow(message["allow"])
        if "leave" in message and (server := self._servers.pop(message["leave"], None)):
            server.close()
        if "client" in message:
            task = asyncio.create_task(self._listen(Client(**message["client"]), fds[0]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _listen(self, client: Client, fd: int) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._converse(client, reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass  # it has hung up
            finally:
                writer.close()

        self._servers[client.machine] = await asyncio.start_server(
            accept, sock=socket.socket(fileno=fd), backlog=_BACKLOG
        )

    async def _converse(
        self, client: Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        scheme, host = "http", ""
        while request := await read_request(reader, scheme, host):
            if request.method == "CONNECT":  # whom it wants to reach is answered for here
                name, _, port = request.url.rpartition(":")
                context = await asyncio.to_thread(self._context, name)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await writer.start_tls(context)
                scheme, host = "https", name if port == "443" else request.url
                continue
            try:
                answer = await self._answer(client, request)
            except (CarthageError, OSError) as error:
                answer = Answer.refused(str(error), status=500)
            self._record(client, request, answer)
            await write_answer(writer, request, answer)

    async def _answer(self, client: Client, request: Request) -> Answer:
        if request.method not in ("GET", "HEAD"):
            return Answer.refused(f"{request.method} {request.url}: this is a mirror", status=405)
        if request.host.partition(":")[0] == ADDRESS:
            return await self._indexes.answer(request)
        answer = await self._archives.answer(client, request)
        if answer is not None:
            return answer
        apt = await asyncio.to_thread(self._archives.cache_of, client)
        return await self._repositories.answer(apt, request)

    def _context(self, host: str) -> ssl.SSLContext:
        if host not in self._contexts:
            self._contexts[host] = self._authority.context(host)
        return self._contexts[host]

    def _record(self, client: Client, request: Request, answer: Answer) -> None:
        """Write down what was asked for; the owner is told what was refused."""
        line = f"{client.machine}: {request.method} {request.url}: {answer.status}"
        print(line, answer.reason, file=sys.stderr, flush=True)
        if answer.status in (403, 503) and self._control is not None:
            note: Mapping[str, Any] = {"machine": client.machine, "note": answer.reason}
            with contextlib.suppress(OSError):
                self._control.send(json.dumps(note).encode())


def serve(control: socket.socket, settings: Mapping[str, Any]) -> None:
    """Entry of the process, see :func:`pytest_carthage.channels.deputy.deputy_command`."""
    asyncio.run(Mirror(Settings(**settings), control).run())
