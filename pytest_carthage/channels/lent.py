"""Copies of a machine's files that clients have, and give back by their numbers."""

from __future__ import annotations

import os

from pytest_carthage.fabric.wire.frames import Message
from pytest_carthage.fabric.wire.server import Connection

__all__ = ["Lent", "own_descriptor"]


class Lent:
    """Those of one machine; who goes keeps none."""

    def __init__(self) -> None:
        #: number of a copy to its descriptor, its path, and the connection that has it
        self._copies: dict[int, tuple[int, str, Connection]] = {}
        self._last = 0

    def lend(self, copy: int, path: str, connection: Connection) -> int:
        """Lend a copy, whose descriptor is this one's now; returns its number."""
        self._last += 1
        number = self._last
        self._copies[number] = copy, path, connection
        connection.on_close.append(lambda: self._drop(number))
        return number

    def _drop(self, number: int) -> None:
        copy = self._copies.pop(number, None)
        if copy is not None:
            os.close(copy[0])

    def given_back(self, connection: Connection, message: Message) -> tuple[int, str] | None:
        """Take a copy back that is asked to be committed.

        :returns: a descriptor of its own, which begins at the beginning, and the path; None: it is
            to be thrown away.
        :raises LookupError: this client has no such copy.
        """
        number = message["number"]
        copy, path, owner = self._copies.get(number, (-1, "", None))
        if owner is not connection:
            raise LookupError(f"no copy {number}")
        content = own_descriptor(copy, os.O_RDONLY) if message.get("keep", True) else -1
        self._drop(number)
        return None if content < 0 else (content, path)


def own_descriptor(copy: int, flags: int) -> int:
    """One more descriptor of a file of this process's, which begins at its beginning."""
    access = flags & (os.O_ACCMODE | os.O_APPEND)
    return os.open(f"/proc/self/fd/{copy}", access | os.O_CLOEXEC)
