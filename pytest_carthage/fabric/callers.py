"""Clients of a machine whose agent is started when the first of them wants something.

Such a machine has all that others can see of it: its network answers by itself. Whoever connects
to its agent is told at once what agents can do, and its first request waits, unread, until the
agent is there to take it.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_carthage.fabric.wire.server import Connection

__all__ = ["Callers"]


class Callers:
    """Those of one machine."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """:param wake: is called when one of them wants something."""
        self._wake = wake
        #: clients that have not asked anything: they are watched
        self._idle: list[Connection] = []
        #: those whose first request is there, to be read by the agent
        self._asking: list[Connection] = []

    def add(self, connection: Connection) -> None:
        """Take a client, which has been answered; nothing of what it asks then is read.

        :raises ValueError: the answer is still on its way.
        """
        connection.server.release(connection)
        self._idle.append(connection)
        connection.server.watch(connection.sock.fileno(), lambda: self._look(connection))

    def _look(self, connection: Connection) -> None:
        try:
            is_asking = bool(connection.sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return
        except OSError:
            is_asking = False
        connection.server.unwatch(connection.sock.fileno())
        self._idle.remove(connection)
        if is_asking:
            self._asking.append(connection)
            self._wake()
        else:  # it has left again
            connection.close()

    def _all(self) -> list[Connection]:
        """Have all of them leave; nobody is watched any more."""
        for connection in self._idle:
            connection.server.unwatch(connection.sock.fileno())
        leaving = [*self._asking, *self._idle]
        self._asking, self._idle = [], []
        return leaving

    def hand_over(self, take: Callable[[int], None]) -> None:
        """Give all of them to the agent, one descriptor each.

        :raises OSError: it does not take one, which is hung up, as all others are.
        """
        leaving = self._all()
        try:
            for connection in leaving:
                take(connection.sock.fileno())
        finally:
            for connection in leaving:
                connection.close()

    def refuse(self, error: BaseException) -> None:
        """There will be no agent: whatever they ask is answered with this error."""
        for connection in self._all():
            connection.server.turn_down(connection, error)

    def hang_up(self) -> None:
        """The machine ends: they see the end of file, as an agent's clients do."""
        for connection in self._all():
            connection.close()
