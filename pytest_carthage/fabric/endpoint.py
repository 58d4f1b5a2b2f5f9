"""Who answers for one machine: an agent inside of it, or a deputy in its place.

Clients come through the fabric, which hands each one's connection over by a control socket. Each
is told at once which operations there are.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from pytest_carthage.fabric.jobs import Jobs
from pytest_carthage.fabric.wire.control import Control
from pytest_carthage.fabric.wire.server import Reply, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_carthage.fabric.wire import frames
    from pytest_carthage.fabric.wire.server import Connection, Handler

__all__ = ["Endpoint"]


class Endpoint:
    """A loop that answers what :mod:`pytest_carthage.fabric.wire.frames` lists for machines."""

    def __init__(self, server: Server | None = None, jobs: Jobs | None = None) -> None:
        self.jobs = jobs or Jobs()
        #: called with (pid, wait status) of children that are not jobs
        self.on_other_child: Callable[[int, int], None] = lambda pid, status: None
        self.server = server or Server()
        self.server.on_child = self._ended
        #: clients that are there
        self.connections: set[Connection] = set()

    def offer(self, handlers: Mapping[str, Handler]) -> None:
        """Answer operations, in addition to those that are answered already."""
        self.server.handlers = {**self.server.handlers, **handlers}

    def greeting(self) -> Reply:
        """The answer to who has come: what there is to be asked for."""
        return Reply(operations=sorted(self.server.handlers))

    def serve(
        self,
        control: socket.socket,
        on_message: Callable[[frames.Message], None] = lambda message: None,
    ) -> None:
        """Serve until ``control`` closes, which brings clients (a descriptor each); then exit."""
        messages = Control(control)

        def readable() -> None:
            try:
                message, fds = messages.receive()
            except BlockingIOError:
                return
            except OSError:
                os._exit(0)
            for fd in fds:
                self._welcome(socket.socket(fileno=fd), message["id"])
            if not fds:
                on_message(message)

        self.server.watch(control.fileno(), readable)
        self.server.run()

    def _welcome(self, sock: socket.socket, request: int | None) -> None:
        connection = self.server.adopt(sock)
        self.connections.add(connection)
        connection.on_close.append(lambda: self._hang_up(connection))
        if request is not None:  # else the fabric has answered for us
            connection.answer(request, self.greeting())

    def _hang_up(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.jobs.hang_up(connection)

    def _ended(self, pid: int, status: int) -> None:
        if not self.jobs.ended(pid, status):
            self.on_other_child(pid, status)
