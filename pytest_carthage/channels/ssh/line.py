"""The connection that a deputy keeps: it lives in a thread of its own, with an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from pytest_carthage.channels.ssh.connection import connect
from pytest_carthage.channels.ssh.way import Secrets, Way
from pytest_carthage.errors import FabricError
from pytest_carthage.portal import Portal

if TYPE_CHECKING:
    import asyncssh

    from pytest_carthage.fabric.wire.server import Server

__all__ = ["Line"]


class Line:
    """A connection to a host, opened when it is first needed, and anew where it was lost.

    Its coroutines run on a loop of their own; what comes of them is told in the server's thread.
    """

    def __init__(self, way: Way, server: Server) -> None:
        self.way = way
        #: what is answered to who asks for a password
        self.secrets = Secrets()
        self._server = server
        #: is called with a connection that comes after one that was lost, before it is used
        self.on_reopened: Callable[[asyncssh.SSHClientConnection], Awaitable[None]] | None = None
        self._portal = Portal()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._opening = self._on_loop(_lock)
        self._done: deque[Callable[[], None]] = deque()
        self._told, self._telling = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        server.watch(self._told, self._take_in)

    def _on_loop(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return self._portal.call(function)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None and not self._connection.is_closed()

    async def connection(self) -> asyncssh.SSHClientConnection:
        """The connection, opened if there is none; on the line's own loop.

        :raises FabricError: see :func:`~pytest_carthage.channels.ssh.connection.connect`; or the
            host is another's by now.
        """
        async with self._opening:
            if self._connection is None or self._connection.is_closed():
                connection = await connect(self.way, self.secrets)
                if self._connection is not None and self.on_reopened is not None:
                    try:
                        await self.on_reopened(connection)
                    except BaseException:
                        connection.abort()
                        raise
                self._connection = connection
            return self._connection

    def begin(
        self,
        work: Coroutine[Any, Any, Any],
        done: Callable[[Any, BaseException | None], None],
    ) -> Callable[[], None]:
        """Do work on the line's loop.

        :param done: is called with its result, or its error, in the server's thread.
        :return: cancels it.
        """
        loop = self._portal.loop
        future = asyncio.run_coroutine_threadsafe(work, loop)

        def ended(ended: Any) -> None:
            if ended.cancelled():
                self.tell(lambda: done(None, FabricError("nobody waits for it any more")))
            elif (error := ended.exception()) is not None:
                self.tell(lambda: done(None, self._mapped(error)))
            else:
                self.tell(lambda: done(ended.result(), None))

        future.add_done_callback(ended)
        return future.cancel  # type: ignore[return-value]

    def tell(self, call: Callable[[], None]) -> None:
        """Have a function called in the server's thread."""
        self._done.append(call)
        with contextlib.suppress(BlockingIOError):  # it is about to look anyway
            os.write(self._telling, b"\0")

    def soon(self, call: Callable[[], None]) -> None:
        """Have a function called on the line's loop."""
        self._portal.loop.call_soon_threadsafe(call)

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Have a function called after some time; on the line's loop."""
        self._portal.loop.call_later(seconds, call)

    def _take_in(self) -> None:
        os.read(self._told, 1 << 16)
        while self._done:
            self._server.soon(self._done.popleft())

    def _mapped(self, error: BaseException) -> BaseException:
        """What a client is told of an error of the connection's."""
        import asyncssh

        if isinstance(error, asyncssh.ChannelOpenError):
            return OSError(None, f"ssh {self.way}: it opens no channel: {error.reason}")
        if isinstance(error, asyncssh.Error | ConnectionError) and not self.is_open:
            return self.lost(error)
        return error

    def lost(self, error: BaseException | None = None) -> FabricError:
        """What is told of a connection that has ended in the middle of something."""
        why = f": {error}" if error is not None and str(error) else ""
        return FabricError(
            f"ssh {self.way}: the connection was lost{why}; what ran there is ended by the host "
            f"once it notices; try: again, or ssh {self.way.host} to see whether it is up"
        )


async def _lock() -> asyncio.Lock:
    return asyncio.Lock()
