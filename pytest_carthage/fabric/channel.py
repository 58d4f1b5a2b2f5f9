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
            self._sock.setblocking(True)
            try:
                wire.send(self._sock, {"id": number, "op": op, **fields}, fds)
            finally:
                self._sock.setblocking(False)
        except OSError as error:
            del self._waiting[number]
            self.close("it is gone")
            raise FabricError(f"{self._who}: it is gone ({error})") from error
        return await future


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
