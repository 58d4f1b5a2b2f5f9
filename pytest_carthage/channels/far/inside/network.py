"""Connections that begin here, and what the kernel says of its network."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pytest_carthage.channels.far.inside.streams import Streams

_NLMSG_DONE, _NLMSG_ERROR = 3, 2
_NLM_F_MULTI = 2


class Connecting:
    """A socket that is about to be connected."""

    def __init__(
        self,
        streams: Streams,
        message: Mapping[str, Any],
        done: Callable[[dict[str, Any] | BaseException], None],
    ) -> None:
        self._streams = streams
        self._ids = message["streams"]
        self._done = done
        kind = socket.SOCK_DGRAM if message.get("protocol") == "udp" else socket.SOCK_STREAM
        self._is_stream = kind == socket.SOCK_STREAM
        if message.get("protocol") == "unix":
            self._address: Any = message["host"]
            family = socket.AF_UNIX
        else:
            found = socket.getaddrinfo(
                message["host"], message["port"], 0, kind, 0, socket.AI_NUMERICHOST
            )
            family, self._address = socket.AddressFamily(found[0][0]), found[0][4]
        self._sock = socket.socket(family, kind)
        self.is_over = False
        self._sock.setblocking(False)
        number = self._sock.connect_ex(self._address)
        if number == errno.EINPROGRESS:
            streams.loop.watch(self._sock.fileno(), select.POLLOUT, self._decided)
            streams.loop.later(message["timeout_s"], self._expire)
        else:
            self._finish(number)

    def _decided(self) -> None:
        self._streams.loop.unwatch(self._sock.fileno())
        self._finish(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _expire(self) -> None:
        if not self.is_over:
            self._streams.loop.unwatch(self._sock.fileno())
            self._finish(errno.ETIMEDOUT)

    def _finish(self, number: int) -> None:
        self.is_over = True
        if number:
            self._sock.close()
            self._done(OSError(number, os.strerror(number)))
            return
        if self._is_stream and self._sock.family != socket.AF_UNIX:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._done({})  # first: what is sent at once comes behind it
        fd = self._sock.detach()
        kind = "stream" if self._is_stream else "datagrams"
        self._streams.sink(self._ids[0], os.dup(fd), kind)
        self._streams.source(self._ids[1], fd, kind)

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        if not self.is_over:
            self.is_over = True
            self._streams.loop.unwatch(self._sock.fileno())
            self._sock.close()


def netlink(message: Mapping[str, Any]) -> dict[str, Any]:
    """Ask the kernel over netlink(7), question by question; returns what it has answered to each.

    Bytes are characters of Latin-1 here.

    :raises OSError: it has refused one.
    """
    answers = []
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, message["protocol"])
    with sock:
        sock.settimeout(10)
        sock.bind((0, 0))
        for number, question in enumerate(message["questions"], 1):
            data = bytearray(question.encode("latin-1"))
            struct.pack_into("=I", data, 8, number)
            sock.sendall(data)
            answers.append(_answer(sock, number).decode("latin-1"))
    return {"answers": answers}


def _answer(sock: socket.socket, number: int) -> bytes:
    """All messages that answer a question, up to its end."""
    parts: list[bytes] = []
    while True:
        data = sock.recv(1 << 18)
        at = 0
        while at + 16 <= len(data):
            length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, at)
            if sequence == number:
                if kind == _NLMSG_DONE:
                    return b"".join(parts)
                if kind == _NLMSG_ERROR:
                    (error,) = struct.unpack_from("=i", data, at + 16)
                    if error:
                        raise OSError(-error, os.strerror(-error))
                    return b"".join(parts)
                parts.append(data[at : at + length])
            at += (length + 3) & ~3
