"""A call to a service on the system's message bus, as D-Bus does it; no program is run for that.

Source: the D-Bus specification, "Message Protocol" and "Authentication Protocol".
"""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.channels.far.inside.loop import Loop

__all__ = ["Bus"]

_BUS = "/run/dbus/system_bus_socket"
_LIMIT_S = 10
_BUS_CALL = 1
#: fields of a header: path, interface, method, destination
_BUS_PATH, _BUS_INTERFACE, _BUS_METHOD, _BUS_TO = 1, 2, 3, 6
#: of the call; and that field of an answer's header which says to what it is one
_NUMBER = 2
_ANSWERED = b"\5\1u\0" + struct.pack("=I", _NUMBER)


class Bus:
    """A connection to the message bus.

    :raises OSError: the bus does not take it.
    """

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        try:
            self._sock.settimeout(_LIMIT_S)
            self._sock.connect(_BUS)
            who = "".join(f"{ord(digit):02x}" for digit in str(os.getuid()))
            self._sock.sendall(b"\0AUTH EXTERNAL " + who.encode() + b"\r\nBEGIN\r\n")
            name = "org.freedesktop.DBus"
            self._sock.sendall(_bus_message(1, name, "/org/freedesktop/DBus", name + ".Hello"))
        except BaseException:
            self._sock.close()
            raise

    def tell(self, loop: Loop, service: str, path: str, method: str) -> None:
        """Have a service carry out a method without arguments; nobody waits until it has.

        :param loop: where it is seen that it has, and then hung up: who has hung up before may
            nothing.
        :param method: with its interface.
        :raises OSError: the bus does not take it.
        """
        self._sock.sendall(_bus_message(_NUMBER, service, path, method))
        self._sock.setblocking(False)
        said = bytearray()

        def hear() -> None:
            try:
                piece = self._sock.recv(4096)
            except OSError:
                piece = b""
            said.extend(piece)
            if not piece or _ANSWERED in said:
                loop.unwatch(self._sock.fileno())
                self._sock.close()

        loop.watch(self._sock.fileno(), select.POLLIN, hear)


def _bus_message(serial: int, service: str, path: str, method: str) -> bytes:
    interface, _, name = method.rpartition(".")
    fields = b""
    for code, kind, value in (
        (_BUS_PATH, b"o", path),
        (_BUS_TO, b"s", service),
        (_BUS_INTERFACE, b"s", interface),
        (_BUS_METHOD, b"s", name),
    ):
        fields += bytes(-len(fields) % 8)
        fields += bytes([code, 1]) + kind + b"\0" + struct.pack("<I", len(value))
        fields += value.encode() + b"\0"
    head = struct.pack("<cBBBIII", b"l", _BUS_CALL, 0, 1, 0, serial, len(fields)) + fields
    return head + bytes(-len(head) % 8)
