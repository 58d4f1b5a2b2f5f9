"""The fabric's contact with a machine's agent, or with the deputy that answers in its place."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric.wire.control import Control

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_carthage.fabric.wire import frames
    from pytest_carthage.fabric.wire.server import Server


class Contact:
    """The fabric's end of one machine's control, while there is one."""

    def __init__(self, machine: str, server: Server) -> None:
        #: name of the machine
        self._machine = machine
        self._server = server
        self._control: Control | None = None
        #: whether it is listened to what that says
        self._is_heard = False

    @property
    def is_open(self) -> bool:
        """Whether there is somebody to talk to, as far as is known."""
        return self._control is not None

    def begin(self) -> Control:
        """Open it anew; returns the other end, which the agent is born with."""
        self.close()
        self._control, theirs = Control.pair()
        return theirs

    def appoint(self, control: int) -> None:
        """Have a deputy behind the other end of this descriptor, which stays yours."""
        self.close()  # which ends the deputy that there was
        self._control = Control(socket.socket(fileno=os.dup(control)))

    def fileno(self) -> int:
        """Its descriptor, to wait for a word."""
        assert self._control is not None
        return self._control.fileno()

    def receive(self) -> tuple[frames.Message, list[int]]:
        """The word that is there.

        :raises BlockingIOError: there is none.
        :raises frames.Closed: the agent is gone.
        """
        assert self._control is not None
        return self._control.receive()

    def listen(self, hear: Callable[[], None]) -> None:
        """Have ``hear`` called whenever there is a word."""
        self._server.watch(self.fileno(), hear)
        self._is_heard = True

    def tell(self, message: dict[str, Any]) -> None:
        """Tell the agent something.

        :raises OSError: it is gone, or takes nothing any more.
        """
        if self._control is None:
            raise BrokenPipeError(f"machine {self._machine!r} has no agent")
        self._control.send(message)

    def hand_over(self, connection: int, request: int | None) -> None:
        """Give a client's connection to the agent.

        :param request: that with which it came, to be answered; None: it is.
        :raises OSError: it takes none.
        :raises LookupError: there is no agent.
        """
        if self._control is None:
            raise LookupError(f"machine {self._machine!r} is stopped")
        try:
            self._control.send({"id": request}, (connection,))
        except BlockingIOError as error:
            text = f"machine {self._machine!r}: its agent takes no more connections, nor answers"
            raise OSError(error.errno, text) from error

    def close(self) -> None:
        """Let go of it."""
        if self._control is not None:
            if self._is_heard:
                self._server.unwatch(self._control.fileno())
                self._is_heard = False
            self._control.close()
            self._control = None
