"""A connection that an ssh client asks for, made from inside the machine."""

from __future__ import annotations

import asyncio
import os
import socket

import asyncssh

from pytest_carthage.channels.hosts import ask_about_host
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire.channel import AsyncChannel

__all__ = ["forward"]

#: as long as the kernel may try by itself is too long for a person
_CONNECT_S = 30.0


async def forward(channel: AsyncChannel, who: str, host: str, port: int) -> Forward:
    """Connect a machine with a port that it reaches.

    :param host: an address, or a name, which the machine itself looks up.
    :raises asyncssh.ChannelOpenError: nobody answers there.
    """
    try:
        sock = await _connected(channel, who, host, port)
    except (OSError, FabricError) as error:
        words = os.strerror(error.errno) if error.errno else str(error)
        raise asyncssh.ChannelOpenError(
            asyncssh.OPEN_CONNECT_FAILED, f"{host}:{port}: {words}"
        ) from error
    return await Forward.begin(sock)


async def _connected(channel: AsyncChannel, who: str, host: str, port: int) -> socket.socket:
    operations = channel.operations or ()
    if "socket" not in operations:  # a deputy, which carries what is sent
        _, fds = await ask_about_host(
            channel, who, host, "connect", port=port, protocol="tcp", timeout_s=_CONNECT_S
        )
        return _unblocked(fds[0])
    reply, fds = await ask_about_host(channel, who, host, "socket", type=int(socket.SOCK_STREAM))
    sock = _unblocked(fds[0])
    try:
        async with asyncio.timeout(_CONNECT_S):
            await asyncio.get_running_loop().sock_connect(sock, (reply["address"], port))
    except BaseException:
        sock.close()
        raise
    return sock


def _unblocked(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


class Forward(asyncssh.SSHTCPSession[bytes]):
    """Carries both ways between a channel of ssh and a connected socket."""

    def __init__(self, far: _Far, transport: asyncio.Transport) -> None:
        self._far = far
        self._transport = transport

    @classmethod
    async def begin(cls, sock: socket.socket) -> Forward:
        """Take a connected socket over."""
        transport, far = await asyncio.get_running_loop().create_connection(_Far, sock=sock)
        transport.pause_reading()  # there is nobody yet to carry it to
        return cls(far, transport)

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        """Take in to whom it is carried."""
        self._far.near = chan

    def session_started(self) -> None:
        """Begin."""
        self._transport.resume_reading()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Carry on what the client sent."""
        self._transport.write(data)

    def eof_received(self) -> bool:
        """The client sends no more; it may still be sent to."""
        self._far.is_near_over = True
        if self._far.is_over or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._transport.write_eof()
        return True

    def pause_writing(self) -> None:
        """The client takes no more for now."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client takes more."""
        self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._transport.close()


class _Far(asyncio.Protocol):
    """The socket's side."""

    def __init__(self) -> None:
        self.near: asyncssh.SSHTCPChannel[bytes] | None = None
        #: whether no more comes from the socket, and from the client
        self.is_over = self.is_near_over = False

    def data_received(self, data: bytes) -> None:
        if self.near is not None:
            self.near.write(data)

    def eof_received(self) -> bool:
        self.is_over = True
        if self.near is not None:
            self.near.write_eof()
        return not self.is_near_over  # else it closes, see asyncio.Protocol

    def pause_writing(self) -> None:
        if self.near is not None:
            self.near.pause_reading()

    def resume_writing(self) -> None:
        if self.near is not None:
            self.near.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.near is not None:
            self.near.close()
