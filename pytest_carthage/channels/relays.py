"""Connections from inside a machine that are carried: a program there relays each one."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from pytest_carthage.channels import scripts
from pytest_carthage.channels.questions import Questions, content
from pytest_carthage.fabric import observe
from pytest_carthage.fabric.agent import address_of
from pytest_carthage.fabric.wire.frames import Message
from pytest_carthage.fabric.wire.server import Connection, Handler, Reply, Server

__all__ = ["Relays"]

_CONNECT_S = 10.0


class Relays:
    """Answers what is asked of a machine's network."""

    def __init__(self, questions: Questions, server: Server) -> None:
        self._questions = questions
        self._server = server

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The operations that it answers."""
        return {"connect": self._connect, "lookup": self._lookup, "listening": self._listening}

    def _lookup(self, connection: Connection, message: Message, fds: list[int]) -> None:
        def told(status: int, out: bytes, err: bytes) -> Reply:
            scripts.check(status, err, "/etc/hosts")
            return Reply(address=address_of(message["host"], out.decode(errors="replace")))

        self._questions.ask(connection, message, told, scripts.READ, "/etc/hosts")

    def _listening(self, connection: Connection, message: Message, fds: list[int]) -> None:
        rows: list[dict[str, Any]] = []
        left = list(observe.LISTS)

        def told(status: int, out: bytes, err: bytes) -> Reply | None:
            protocol = left.pop(0)
            if not status:  # a kernel without IPv6 has no such file
                rows.extend(observe.waiting(protocol, out.decode(errors="replace")))
            if not left:
                return Reply(listening=rows)
            self._questions.ask(connection, message, told, scripts.PROC, left[0])
            return None

        self._questions.ask(connection, message, told, scripts.PROC, left[0])

    def _connect(self, connection: Connection, message: Message, fds: list[int]) -> None:
        if (protocol := message.get("protocol") or "tcp") != "tcp":
            raise ValueError(
                f"protocol {protocol!r}: this machine's deputy carries streams alone; "
                "try: protocol='tcp', or a target that gives sockets of a machine's network"
            )

        def told(status: int, out: bytes, err: bytes) -> None:
            scripts.check(status, err, "/etc/hosts")
            address = address_of(message["host"], out.decode(errors="replace"))
            self._relay(connection, message, address)

        self._questions.ask(connection, message, told, scripts.READ, "/etc/hosts")

    def _relay(self, connection: Connection, message: Message, address: str) -> None:
        """Have a program of the machine connect, and answer when it has."""
        port, timeout_s = str(message["port"]), str(message.get("timeout_s") or _CONNECT_S)
        ours, theirs = socket.socketpair()
        err = os.memfd_create("err", os.MFD_CLOEXEC)
        try:
            with theirs:
                process = self._questions.popen(
                    ["python3", "-c", scripts.CONNECT, address, port, timeout_s],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=err,
                )
        except BaseException:
            ours.close()
            os.close(err)
            raise

        def connected(fd: int) -> None:
            self._questions.keep(process.pid)  # it lasts as long as the socket
            connection.answer(message["id"], Reply((fd,), address=address))

        def refused(error: OSError) -> None:
            connection.refuse(message["id"], error)

        relay = _Relay(ours, err, self._server, connected, refused)
        client = (connection, message["id"])
        self._questions.when_ended(process.pid, client, relay.ended, relay.given_up)


class _Relay:
    """A program that is to connect, and says so with its first byte."""

    def __init__(
        self,
        ours: socket.socket,
        err: int,
        server: Server,
        connected: Callable[[int], None],
        refused: Callable[[OSError], None],
    ) -> None:
        self._ours = ours
        self._err = err
        self._server = server
        self._connected = connected
        self._refused = refused
        self._is_heard = self._is_connected = False
        server.watch(ours.fileno(), self.heard)

    def heard(self) -> None:
        """It has connected, or closed its end."""
        self._server.unwatch(self._ours.fileno())
        self._is_heard = True
        self._is_connected = self._ours.recv(1) == b"+"
        if self._is_connected:
            self._connected(self._ours.detach())
        else:
            self._ours.close()

    def given_up(self) -> None:
        """It was killed, since nobody waits for it any more."""
        if not self._is_heard:
            self._server.unwatch(self._ours.fileno())
            self._ours.close()
        os.close(self._err)

    def ended(self, status: int) -> None:
        """It has ended: if it never connected, it says why."""
        if not self._is_heard:
            self.heard()
        said = scripts.last_line(content(self._err))
        os.close(self._err)
        if not self._is_connected:
            number = scripts.number_of(said)
            words = said if number is None else os.strerror(number)
            self._refused(OSError(number or errno.EIO, words or f"it ended with status {status}"))
