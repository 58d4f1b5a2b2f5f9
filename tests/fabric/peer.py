"""The other end of a connection, as a test wants it, and what is looked at around it."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path

from pytest_carthage.fabric.wire import frames


def descriptors(*, collects: bool = True) -> int:
    """How many this process has open, without those that only garbage holds.

    There may be less later: what other tests have left to threads is closed at its time.

    :param collects: False: with those, which is found out in a thousandth of the time.
    """
    if collects:
        gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


class Peer:
    """The other end, which says what a test has it say."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._decoder = frames.Decoder()
        sock.setblocking(False)

    async def frame(self) -> tuple[frames.Message, list[int]]:
        """The next frame, with its descriptors."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.sock, ready.set)
        try:
            while (frame := self._decoder.read(self.sock)) is None:
                ready.clear()
                await ready.wait()
        finally:
            loop.remove_reader(self.sock)
        return frame

    async def receive(self) -> frames.Message:
        """The next frame's message; its descriptors are closed."""
        message, fds = await self.frame()
        frames.close_all(fds)
        return {key: value for key, value in message.items() if key != "fds"}

    def send(self, message: frames.Message, *fds: int) -> None:
        """Send a frame."""
        frames.send(self.sock, message, fds)

    async def is_silent(self) -> bool:
        """Whether nothing more has been sent."""
        await asyncio.sleep(0.01)
        return self._decoder.read(self.sock) is None
