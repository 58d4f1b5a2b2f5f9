"""An asyncio client of a fabric or an agent: many requests under way on one connection."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric import wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence


class AsyncChannel:
    """One connection, used from one event loop."""

    def __init__(self, sock: socket.socket, who: str) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._who = who
        self._loop = asyncio.get_running_loop()
        self._next = 0
        self._decoder = wire.Decoder()
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._closed: str | None = None
        self._sending = asyncio.Lock()
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        """Whether the other end is gone."""
        return self._closed is not None

    def close(self, reason: str = "closed") -> None:
        """Close the connection; requests under way fail."""
        if self._closed is not None:
            return
        self._closed = reason
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        self._decoder.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(FabricError(f"{self._who}: {reason}"))
        self._waiting.clear()

    def _readable(self) -> None:
        try:
            frames = self._decoder.read(self._sock)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            self.close("it is gone")
            return
        for message, fds in frames:
            future = self._waiting.pop(message["id"], None)
            if future is None or future.done():
                for fd in fds:
                    os.close(fd)
            elif message["ok"]:
                future.set_result((message, fds))
            else:
                error = FabricError(f"{self._who}: {message['error']}")
                error.errno = message.get("errno")
                future.set_exception(error)

    async def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: object
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask and wait for the answer; the caller closes the descriptors that come with it.

        :raises FabricError: refused, with the reason and maybe ``errno``; or the other end
            is gone.
        """
        if self._closed is not None:
            raise FabricError(f"{self._who}: {self._closed}")
        self._next += 1
        number = self._next
        future: asyncio.Future[tuple[dict[str, Any], list[int]]] = self._loop.create_future()
        self._waiting[number] = future
        try:
            async with self._sending:
                await self._send(wire.pack({"id": number, "op": op, **fields}, fds), fds)
        except OSError as error:
            self._waiting.pop(number, None)
            self.close("it is gone")
            raise FabricError(f"{self._who}: it is gone ({error})") from error
        return await future

    async def _send(self, data: bytes, fds: Sequence[int]) -> None:
        while True:
            try:
                rest = wire.begin(self._sock, data, fds)
                break
            except BlockingIOError:
                await self._writable()
        if rest:
            await self._loop.sock_sendall(self._sock, rest)

    async def _writable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(self._sock.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_writer(self._sock.fileno())


async def connect(path: str, who: str, machine: str | None = None) -> AsyncChannel:
    """Connect to a fabric or supervisor, or through a fabric to a machine's agent.

    :raises FabricError: nobody answers there, or there is no such machine.
    """
    try:
        channel = AsyncChannel(wire.connect(path), who)
    except OSError as error:
        raise FabricError(f"{who}: no answer on its socket ({error.strerror})") from error
    if machine is not None:
        try:
            await channel.request("channel", machine=machine)
        except BaseException:
            channel.close()
            raise
    return channel
