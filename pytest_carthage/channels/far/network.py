"""Connections from inside a machine far away, and what is to be seen in it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_carthage.channels.far.carried import Inlet, Outlet
from pytest_carthage.channels.far.inside.wire import RESET
from pytest_carthage.fabric import netlink, observe
from pytest_carthage.fabric.agent import address_of
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.frames import Message
from pytest_carthage.fabric.wire.server import Connection, Handler, Reply

if TYPE_CHECKING:
    from pytest_carthage.channels.far.deputy import FarDeputy

__all__ = ["FarNetwork"]

_CONNECT_S = 10.0
_HOSTS = "/etc/hosts"
_PASSWD = "/etc/passwd"
_LISTS = [f"/proc/net/{protocol}" for protocol in observe.LISTS]


class FarNetwork:
    """Answers what is asked of a machine's network and processes."""

    def __init__(self, deputy: FarDeputy) -> None:
        self._deputy = deputy
        self._link = deputy.link
        #: the agent's number of what listens there to the path of the socket that takes it here
        self._listeners: dict[int, str] = {}

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The operations that it answers."""
        return {
            "connect": self._connect,
            "datagrams": lambda c, m, f: self._connect(c, {**m, "protocol": "udp"}, f),
            "echo": self._echo,
            "lookup": self._lookup,
            "listening": self._listening,
            "observe": self._observe,
            "listen": self._listen,
            "unlisten": self._unlisten,
        }

    def _lookup(self, connection: Connection, message: Message, fds: list[int]) -> None:
        def told(reply: Message) -> Reply:
            return Reply(address=address_of(message["host"], reply["contents"][0] or ""))

        self._deputy.ask(connection, message, "look", told, paths=[_HOSTS])

    def _listening(self, connection: Connection, message: Message, fds: list[int]) -> None:
        def told(reply: Message) -> Reply:
            return Reply(listening=_listening(reply["contents"]))

        self._deputy.ask(connection, message, "look", told, paths=_LISTS)

    def _observe(self, connection: Connection, message: Message, fds: list[int]) -> None:
        seen: dict[str, Any] = {}

        def looked(reply: Message) -> None:
            *lists, passwd = reply["contents"]
            seen["listening"] = _listening(lists)
            seen["users"] = _users(passwd or "")
            self._deputy.ask(connection, message, "processes", counted)

        def counted(reply: Message) -> None:
            seen["hostname"] = str(reply["hostname"])
            seen["processes"] = _processes(reply, seen.pop("users"))
            questions = [question.decode("latin-1") for question in netlink.QUESTIONS]
            self._deputy.ask(connection, message, "netlink", told, protocol=0, questions=questions)

        def told(reply: Message) -> Reply:
            ask = netlink.given([text.encode("latin-1") for text in reply["answers"]])
            return Reply(**seen, addresses=netlink.addresses(ask), routes=netlink.routes(ask))

        self._deputy.ask(connection, message, "look", looked, paths=[*_LISTS, _PASSWD])

    def _connect(self, connection: Connection, message: Message, fds: list[int]) -> None:
        protocol = message.get("protocol") or "tcp"
        if protocol not in ("tcp", "udp", "unix"):
            raise ValueError(f"protocol {protocol!r}; try: 'tcp', 'udp' or 'unix'")
        if protocol == "unix":
            self._reach(connection, message, message["host"])
            return

        def told(reply: Message) -> None:
            address = address_of(message["host"], reply["contents"][0] or "")
            self._reach(connection, message, address)

        self._deputy.ask(connection, message, "look", told, paths=[_HOSTS])

    def _echo(self, connection: Connection, message: Message, fds: list[int]) -> None:
        def told(reply: Message) -> None:
            address = address_of(message["host"], reply["contents"][0] or "")
            self._deputy.ask(
                connection,
                message,
                "echo",
                lambda reply: Reply(address=address, seconds=reply["seconds"]),
                host=address,
                timeout_s=message["timeout_s"],
            )

        self._deputy.ask(connection, message, "look", told, paths=[_HOSTS])

    def _carry(self, ours: socket.socket, streams: Sequence[int]) -> None:
        """Carry a connection, over a stream to the machine and one back."""
        fd, server = ours.detach(), self._deputy.server
        back = Outlet(self._link, server, streams[1], os.dup(fd))
        Inlet(self._link, server, streams[0], fd, back=back)

    def _listen(self, connection: Connection, message: Message, fds: list[int]) -> None:
        """Have the machine listen; each connection is carried to a socket of this host's files."""
        address = message.get("address") or "127.0.0.1"

        def listens(reply: Message) -> Reply:
            self._listeners[number] = message["to"]
            connection.on_close.append(lambda: self._end(number))
            return Reply(listener=number, address=address, port=int(reply["port"]))

        number = self._deputy.ask(
            connection, message, "listen", listens, address=address, port=message["port"]
        )

    def _unlisten(self, connection: Connection, message: Message, fds: list[int]) -> None:
        listener = message["listener"]
        self._listeners.pop(listener, None)
        self._deputy.ask(connection, message, "unlisten", lambda reply: Reply(), listener=listener)

    def _end(self, number: int) -> None:
        if self._listeners.pop(number, None) is not None:
            self._link.tell("unlisten", listener=number)

    def lost(self) -> None:
        """The agent is gone, and nothing listens any more."""
        self._listeners.clear()

    def accepted(self, news: Message) -> None:
        """Somebody has connected to a port there."""
        streams = [int(stream) for stream in news["streams"]]
        path = self._listeners.get(news["accepted"], "")
        try:
            self._carry(frames.connect(path), streams)
        except OSError:  # nobody takes it here any more
            for stream in streams:
                self._link.send_number(RESET, stream, errno.ECONNREFUSED)

    def _reach(self, connection: Connection, message: Message, address: str) -> None:
        streams = [self._link.new_stream(), self._link.new_stream()]
        protocol = message.get("protocol") or "tcp"

        def connected(reply: Message) -> Reply:
            kind = socket.SOCK_SEQPACKET if protocol == "udp" else socket.SOCK_STREAM
            ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
            self._carry(ours, streams)
            return Reply((theirs.detach(),), address=address)

        self._deputy.ask(
            connection,
            message,
            "connect",
            connected,
            host=address,
            port=message.get("port"),
            protocol=protocol,
            timeout_s=message.get("timeout_s") or _CONNECT_S,
            streams=streams,
        )


def _listening(contents: list[str | None]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for protocol, text in zip(observe.LISTS, contents, strict=True):
        if text is not None:  # a kernel without IPv6 has no such file
            rows.extend(observe.waiting(protocol, text))
    return rows


def _users(passwd: str) -> dict[int, str]:
    rows = (line.split(":") for line in passwd.splitlines())
    return {int(row[2]): row[0] for row in rows if len(row) > 2 and row[2].isdecimal()}


def _processes(reply: Message, users: Mapping[int, str]) -> list[dict[str, Any]]:
    rows = []
    for pid, uid, status, line in sorted(reply["rows"]):
        name, _, rest = str(status).rpartition(")")
        fields = rest.split()
        args = str(line).replace("\0", " ").strip() or f"[{name.partition('(')[2]}]"
        rows.append(
            {
                "pid": int(pid),
                "ppid": int(fields[1]),
                "user": users.get(int(uid), str(uid)),
                "state": fields[0],
                "rss_kib": int(fields[21]) * int(reply["page"]) // 1024,
                "args": args,
            }
        )
    return rows
