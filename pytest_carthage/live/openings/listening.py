"""Ports of machines that are none of this kernel, whose connections are carried to sockets here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import FabricError

if TYPE_CHECKING:
    from pytest_carthage.handles.channel import Channel

__all__ = ["Listening", "listen_there"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A port there, until :meth:`end`."""

    channel: Channel
    number: int
    #: where it listens there
    address: str
    port: int
    #: takes here what connects there
    sock: socket.socket
    file: Path

    async def end(self) -> None:
        """Listen no more; a machine that is gone is no error."""
        with contextlib.suppress(FabricError):
            await self.channel.request("unlisten", listener=self.number)
        await asyncio.to_thread(self.file.unlink, missing_ok=True)


async def listen_there(
    channel: Channel, folder: Path, port: int, backlog: int, *, address: str | None = None
) -> Listening:
    """Have a machine listen.

    :param folder: of the environment's, which nobody but its owner can enter.
    :param address: where, if the machine has a choice; its loopback by default.
    :raises FabricError: it cannot.
    """
    file = folder / f"{os.urandom(8).hex()}.sock"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # the kernel takes no more than 108 bytes as the path of a socket
        own = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        try:
            sock.bind(f"/proc/self/fd/{own}/{file.name}")
        finally:
            os.close(own)
        sock.listen(backlog)
        reply, _ = await channel.request("listen", to=str(file), port=port, address=address)
    except BaseException:
        sock.close()
        file.unlink(missing_ok=True)
        raise
    return Listening(
        channel=channel,
        number=int(reply["listener"]),
        address=str(reply["address"]),
        port=int(reply["port"]),
        sock=sock,
        file=file,
    )
