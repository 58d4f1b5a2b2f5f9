"""Connections that begin here, and what the kernel says of its network."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pytest_carthage.channels.far.inside.streams import Streams

_BACKLOG = 128
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


class Echoing:
    """One ICMP echo request, and the wait for its reply."""

    def __init__(
        self,
        streams: Streams,
        message: Mapping[str, Any],
        done: Callable[[dict[str, Any] | BaseException], None],
    ) -> None:
        self._loop = streams.loop
        self._done = done
        found = socket.getaddrinfo(message["host"], None, 0, 0, 0, socket.AI_NUMERICHOST)
        family, address = socket.AddressFamily(found[0][0]), found[0][4]
        is_six = family == socket.AF_INET6
        protocol = socket.IPPROTO_ICMPV6 if is_six else socket.IPPROTO_ICMP
        self._request, self._reply = (128, 129) if is_six else (8, 0)
        try:
            self._sock = socket.socket(family, socket.SOCK_RAW, protocol)
        except PermissionError:  # the kernel has such sockets for everybody, too: ping_group_range
            self._sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
        # the head of IPv4 is received, too: raw(7)
        self._has_head = self._sock.type == socket.SOCK_RAW and not is_six
        self._content = os.urandom(32)
        self.is_over = False
        self._sock.setblocking(False)
        try:
            self._sock.connect(address)
            self._begin = time.monotonic()
            self._sock.send(self._packet())
        except OSError:
            self._sock.close()
            raise
        self._loop.watch(self._sock.fileno(), select.POLLIN, self._hear)
        self._loop.later(message["timeout_s"], self._expire)

    def _packet(self) -> bytes:
        """The request; the kernel itself adds IPv6's checksum, and that of those for everybody."""
        identity = struct.pack("!HH", os.getpid() & 0xFFFF, 1)
        head = struct.pack("!BBH", self._request, 0, 0)
        data = head + identity + self._content
        total = sum(word for (word,) in struct.iter_unpack("!H", data))
        while total > 0xFFFF:
            total = (total & 0xFFFF) + (total >> 16)
        return struct.pack("!BBH", self._request, 0, ~total & 0xFFFF) + identity + self._content

    def _hear(self) -> None:
        while not self.is_over:
            try:
                data = self._sock.recv(2048)
            except BlockingIOError:
                return
            except OSError as error:
                self._finish(error)
                return
            if self._has_head:
                data = data[4 * (data[0] & 15) :]
            if data[:1] == bytes([self._reply]) and data[8:] == self._content:
                self._finish({"seconds": time.monotonic() - self._begin})

    def _expire(self) -> None:
        if not self.is_over:
            self._finish(OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))

    def _finish(self, outcome: dict[str, Any] | BaseException) -> None:
        self.cancel()
        self._done(outcome)

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        if not self.is_over:
            self.is_over = True
            self._loop.unwatch(self._sock.fileno())
            self._sock.close()


class Listener:
    """A port here: who connects to it is carried to the deputy."""

    def __init__(
        self,
        streams: Streams,
        message: Mapping[str, Any],
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self._streams = streams
        self._number = message["id"]
        self._tell = tell
        family = socket.AF_INET6 if ":" in message["address"] else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._sock.bind((message["address"], message["port"]))
            self._sock.listen(_BACKLOG)
            self._sock.setblocking(False)
            self.port = self._sock.getsockname()[1]
        except BaseException:
            self._sock.close()
            raise
        streams.loop.watch(self._sock.fileno(), select.POLLIN, self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return  # it has left again
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        to, back = self._streams.own_number(), self._streams.own_number()
        self._tell({"accepted": self._number, "streams": [to, back]})
        fd = sock.detach()
        self._streams.sink(to, os.dup(fd), "stream")
        self._streams.source(back, fd, "stream")

    def close(self) -> None:
        """Listen no more; what has connected stays."""
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
