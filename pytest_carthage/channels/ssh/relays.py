"""Connections from a host's own network, and to it, which the ssh connection carries."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_carthage.channels import scripts
from pytest_carthage.channels.relays import Relays
from pytest_carthage.fabric.wire.frames import Message
from pytest_carthage.fabric.wire.server import Connection, Handler, Reply

if TYPE_CHECKING:
    from pytest_carthage.channels.questions import Questions
    from pytest_carthage.channels.ssh.line import Line
    from pytest_carthage.fabric.wire.server import Server

__all__ = ["LineRelays"]

_PIECE = 1 << 16
_CONNECT_S = 10.0


class LineRelays(Relays):
    """Answers what is asked of a host's network, over a line."""

    def __init__(self, questions: Questions, server: Server, line: Line) -> None:
        super().__init__(questions, server)
        self._line = line
        self._last = 0
        #: number of what listens there to it, and to the client that it is for
        self._listeners: dict[int, tuple[Any, Connection]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The operations that it answers."""
        return {**super().handlers, "listen": self._listen, "unlisten": self._unlisten}

    def _relay(self, connection: Connection, message: Message, address: str) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        timeout_s = float(message.get("timeout_s") or _CONNECT_S)

        async def begin() -> None:
            async with asyncio.timeout(timeout_s):
                line = await self._line.connection()
                far = await line.open_connection(address, message["port"], encoding=None)
            near = await asyncio.open_connection(sock=ours)
            task = asyncio.create_task(_carry(near, far))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        def done(result: Any, error: BaseException | None) -> None:
            if error is None:
                connection.answer(message["id"], Reply((theirs.detach(),), address=address))
                return
            ours.close()
            theirs.close()
            connection.refuse(message["id"], _reason(error, timeout_s))

        self._line.begin(begin(), done)

    def _listen(self, connection: Connection, message: Message, fds: list[int]) -> None:
        """Have the host listen; each connection is carried to a socket of this host's files."""
        to, port = message["to"], message["port"]

        async def begin() -> tuple[int, int]:
            line = await self._line.connection()
            # sshd listens on the loopback alone, whatever it is asked for (GatewayPorts)
            listener = await line.start_server(
                lambda host, number: self._accepted(to), "127.0.0.1", port, encoding=None
            )
            self._last += 1
            self._listeners[self._last] = listener, connection
            return self._last, listener.get_port()

        def done(result: Any, error: BaseException | None) -> None:
            if error is not None:
                text = (
                    f"its sshd does not listen on 127.0.0.1:{port}: the port is taken there, or "
                    "AllowTcpForwarding is off"
                )
                connection.refuse(message["id"], OSError(errno.EADDRINUSE, text))
                return
            number, own = result
            connection.on_close.append(lambda: self._end(number))
            connection.answer(message["id"], Reply(listener=number, address="127.0.0.1", port=own))

        self._line.begin(begin(), done)

    def _accepted(self, to: str) -> Any:
        async def carry(reader: Any, writer: Any) -> None:
            try:
                near = await _reach_socket(to)
            except OSError as error:
                print(f"{to}: {error}", flush=True)
                writer.channel.abort()
                return
            await _carry(near, (reader, writer))

        return carry

    def _unlisten(self, connection: Connection, message: Message, fds: list[int]) -> Reply:
        self._end(message["listener"])
        return Reply()

    def _end(self, number: int) -> None:
        listener, _ = self._listeners.pop(number, (None, None))
        if listener is not None:
            self._line.soon(listener.close)


async def _reach_socket(path: str) -> tuple[Any, Any]:
    """Connect to a socket, whose path may be longer than the 108 bytes that the kernel takes."""
    folder, _, name = path.rpartition("/")
    own = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        return await asyncio.open_unix_connection(f"/proc/self/fd/{own}/{name}")
    finally:
        os.close(own)


async def _carry(near: tuple[Any, Any], far: tuple[Any, Any]) -> None:
    """Hand on both ways what comes, and the end of it."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(near[0], far[1]))
            group.create_task(_pump(far[0], near[1]))
    except* Exception:  # one side is gone, and so is the other
        near[1].transport.abort()
    finally:
        for _, writer in (near, far):
            with contextlib.suppress(OSError):
                writer.close()


async def _pump(reader: Any, writer: Any) -> None:
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


def _reason(error: BaseException, timeout_s: float) -> BaseException:
    if isinstance(error, TimeoutError):
        return OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    said = str(error).rpartition(": ")[2]
    number = scripts.number_of(said)
    if number is None and "open failed" in str(error).lower():
        number = errno.ECONNREFUSED
    return OSError(number, os.strerror(number)) if number is not None else error
