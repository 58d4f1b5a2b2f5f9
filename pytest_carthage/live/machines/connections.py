"""Sockets in a live machine's network."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket as sockets
from typing import TYPE_CHECKING, Any, Literal

from pytest_carthage import clock
from pytest_carthage.bridge import block, operation
from pytest_carthage.channels.hosts import ask_about_host
from pytest_carthage.errors import CarthageError, FabricError
from pytest_carthage.live.machines.circumstances import CircumstanceOperations
from pytest_carthage.live.machines.echo import echo, wanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["ConnectionOperations"]


class ConnectionOperations(CircumstanceOperations):
    """Connections from inside the machine, and forwards into it."""

    @operation
    async def socket(
        self, family: int = sockets.AF_INET, type: int = sockets.SOCK_STREAM, proto: int = 0
    ) -> sockets.socket:
        """A socket that lives in the machine's network, for the caller to use here.

        :raises UnsupportedError: its target gives none; :meth:`connect` may still do.
        """
        self.require("socket", "socket()")
        _, fds = await self.channel.request(
            "socket", family=int(family), type=int(type), proto=proto
        )
        return sockets.socket(fileno=fds[0])

    @operation
    async def connect(
        self,
        port: int,
        host: str | None = None,
        *,
        protocol: Literal["tcp", "udp"] = "tcp",
        timeout_s: float = 10.0,
    ) -> sockets.socket:
        """Connect from inside the machine; returns the blocking socket.

        :param host: an address, or a name, which the machine itself looks up (``/etc/hosts``,
            then its DNS server); the machine itself by default.
        :param protocol: ``"udp"``: a datagram socket that sends there, and hears from there only.
        :raises UnsupportedError: its target reaches nobody, or has no datagrams.
        :raises OSError: nobody answers there, as for any connect. That nobody takes datagrams is
            told by a later ``send`` or ``recv``, if at all (udp(7)).
        """
        begin_s = clock.unix_s()
        if protocol not in ("tcp", "udp"):
            raise ValueError(f"{self._who}: protocol {protocol!r}; try: 'tcp' or 'udp'")
        given: object = port
        if not isinstance(given, int) or not 0 < given < 65536:
            raise ValueError(f"{self._who}: port {port!r} is no number from 1 to 65535")
        if not self.can("socket"):
            return await self._connect_there(port, host or "127.0.0.1", protocol, timeout_s)
        kind = sockets.SOCK_STREAM if protocol == "tcp" else sockets.SOCK_DGRAM
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                # the name is looked up and the socket made in one go: each costs a way there and
                # back
                reply, fds = await self._about_host(host or "127.0.0.1", "socket", type=int(kind))
        except TimeoutError:
            raise await self._no_answer(f"connect({port})", timeout_s) from None
        target, sock = reply["address"], sockets.socket(fileno=fds[0])
        try:
            sock.setblocking(False)
            async with asyncio.timeout_at(deadline):
                await asyncio.get_running_loop().sock_connect(sock, (target, port))
        except TimeoutError:
            sock.close()
            raise TimeoutError(
                f"{self._who}: no answer from {target}:{port} after {timeout_s:g} s"
                f"{await self._meanwhile(begin_s)}"
            ) from None
        except OSError as error:
            sock.close()
            text = f"{self._who}: {target}:{port}: {_reason(error)}{await self._meanwhile(begin_s)}"
            raise type(error)(error.errno, text) from error
        except BaseException:
            sock.close()
            raise
        sock.setblocking(True)
        return sock

    async def _connect_there(
        self, port: int, host: str, protocol: str, timeout_s: float
    ) -> sockets.socket:
        """Have the machine's endpoint connect, which carries what is sent."""
        self.require("connect", "connect()")
        op = "connect" if protocol == "tcp" else "datagrams"
        operations = getattr(self.channel, "operations", None)
        if op not in (operations or (op,)):  # what is carried is a stream
            self.require("socket", "connect(protocol='udp')")
        begin_s = clock.unix_s()
        try:
            _, fds = await self._about_host(
                host, op, port=port, protocol=protocol, timeout_s=timeout_s
            )
        except FabricError as error:
            if error.errno is None:
                raise
            meanwhile = await self._meanwhile(begin_s)
            if error.errno == errno.ETIMEDOUT:
                raise TimeoutError(
                    f"{self._who}: no answer from {host}:{port} after {timeout_s:g} s{meanwhile}"
                ) from error
            text = f"{self._who}: {host}:{port}: {os.strerror(error.errno)}"
            raise OSError(error.errno, text + meanwhile) from error
        sock = sockets.socket(fileno=fds[0])
        sock.setblocking(True)
        return sock

    @operation
    async def ping(self, host: str, *, timeout_s: float = 5.0) -> float:
        """Send one ICMP echo from inside the machine; returns the seconds until the answer.

        :param host: an address, or a name, which the machine itself looks up.
        :raises OSError: there is no way there; TimeoutError, one of them: no answer in time.
        """
        if not self.can("socket"):
            return await self._ping_there(host, timeout_s)
        begin_s = clock.unix_s()
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                target = await self._resolve(host)
                sock = await self.socket(*wanted(target))
        except TimeoutError:
            raise await self._no_answer(f"ping({host!r})", timeout_s) from None
        try:
            with sock:
                async with asyncio.timeout_at(deadline):
                    return await echo(sock, target)
        except TimeoutError:
            raise TimeoutError(
                f"{self._who}: no echo from {target} after {timeout_s:g} s"
                f"{await self._meanwhile(begin_s)}"
            ) from None
        except OSError as error:
            text = f"{self._who}: {target}: {error.strerror}{await self._meanwhile(begin_s)}"
            raise type(error)(error.errno, text) from error

    async def _ping_there(self, host: str, timeout_s: float) -> float:
        """Have the machine's endpoint send the echo; the seconds are those that it measured."""
        self.require("echo", "ping()")
        begin_s = clock.unix_s()
        try:
            reply, _ = await self._about_host(host, "echo", timeout_s=timeout_s)
        except FabricError as error:
            if error.errno is None:
                raise
            meanwhile = await self._meanwhile(begin_s)
            if error.errno == errno.ETIMEDOUT:
                raise TimeoutError(
                    f"{self._who}: no echo from {host} after {timeout_s:g} s{meanwhile}"
                ) from error
            text = f"{self._who}: {host}: {os.strerror(error.errno)}{meanwhile}"
            raise OSError(error.errno, text) from error
        return float(reply["seconds"])

    async def _no_answer(self, asked: str, timeout_s: float) -> TimeoutError:
        """The error of what the machine itself has not answered in time."""
        return TimeoutError(
            f"{self._who}: {asked}: the machine itself has not answered within {timeout_s:g} s: it "
            f"was stopped, or this host has no time for it{await self._last_words()}"
        )

    async def _resolve(self, host: str) -> str:
        reply, _ = await self._about_host(host, "lookup")
        return str(reply["address"])

    async def _about_host(
        self, host: str, op: str, **fields: Any
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask the agent for something that begins with a host's address."""
        begin_s = clock.unix_s()
        try:
            return await ask_about_host(self.channel, self._who, host, op, **fields)
        except FileNotFoundError as error:
            text = f"{error.strerror}{await self._meanwhile(begin_s)}"
            raise FileNotFoundError(error.errno, text) from None

    @block
    @contextlib.asynccontextmanager
    async def forward(self, port: int, host: str | None = None) -> AsyncIterator[int]:
        """A port on the host's loopback that leads into the machine while the block runs."""
        server = await self._open_forward(port, host)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            await self._close_forward(server)

    async def _open_forward(self, port: int, host: str | None) -> asyncio.Server:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # kept here: the event loop itself forgets who waits for the far end alone
            task = asyncio.create_task(self._relay(reader, writer, port, host))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._forwards[server] = tasks
        return server

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        port: int,
        host: str | None,
    ) -> None:
        """Carry one connection to a port that this machine reaches."""
        try:
            sock = await self.connect(port, host)
        except (OSError, CarthageError):
            writer.transport.abort()
            return
        sock.setblocking(False)
        far_reader, far_writer = await asyncio.open_connection(sock=sock)
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            for one in (writer, far_writer):
                one.close()

    async def _close_forward(self, server: asyncio.Server) -> None:
        server.close()
        for task in self._forwards.pop(server, ()):
            task.cancel()


def _reason(error: OSError) -> str:
    """The kernel's words: asyncio replaces them by its own."""
    return os.strerror(error.errno) if error.errno else str(error)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
