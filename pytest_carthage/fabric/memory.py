"""What the kernel remembers of a machine's peers: connections, and hardware addresses.

By raw netlink (sock_diag(7), rtnetlink(7)), in the network namespace of the caller.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

_SOCK_DESTROY, _SOCK_DIAG_BY_FAMILY, _NETLINK_SOCK_DIAG = 21, 20, 4
_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_INCOMPLETE, _NUD_STALE = 0x01, 0x04
_ERROR, _DONE = 2, 3
DUMP, CHANGE, _REPLACE = 0x301, 0x5, 0x105
_LISTENING = 10
_WAIT_S = 1.0

_HEADER = struct.Struct("=IHHII")
#: inet_diag_req_v2: family, protocol, extensions, states, inet_diag_sockid
_DIAG = struct.Struct("=BBBxI48s")
#: ndmsg: family, interface, state, flags, type
_NEIGHBOUR = struct.Struct("=BxxxiHBB")


def opened(protocol: int) -> socket.socket:
    """A netlink socket of the network namespace that the caller is in."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    sock.settimeout(_WAIT_S)
    return sock


def ask(sock: socket.socket, kind: int, flags: int, body: bytes) -> list[bytes]:
    """All answers to a dump, or none to a change, whose refusal is ignored."""
    sock.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
    found: list[bytes] = []
    while True:
        data, at = sock.recv(1 << 17), 0
        while at + _HEADER.size <= len(data):
            size, answer, _, _, _ = _HEADER.unpack_from(data, at)
            if answer in (_ERROR, _DONE):
                return found
            found.append(data[at + _HEADER.size : at + size])
            at += size + 3 & ~3


def forget_connections() -> None:
    """Destroy all TCP connections. Needs CONFIG_INET_DIAG_DESTROY.

    What the kernel would still say of those whose processes were killed, that they have ended,
    no crashed machine says.
    """
    with opened(_NETLINK_SOCK_DIAG) as sock:
        for family in (socket.AF_INET, socket.AF_INET6):
            wanted = _DIAG.pack(family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF, b"")
            for answer in ask(sock, _SOCK_DIAG_BY_FAMILY, DUMP, wanted):
                # inet_diag_msg: family, state, timer, retransmissions, inet_diag_sockid
                if answer[1] != _LISTENING:
                    one = _DIAG.pack(family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF, answer[4:52])
                    ask(sock, _SOCK_DESTROY, CHANGE, one)


def attributes(body: bytes, at: int = _NEIGHBOUR.size) -> Iterator[tuple[int, bytes]]:
    """Attributes of a message, kind and value; those of a neighbour, or from ``at`` on."""
    while at + 4 <= len(body):
        size, kind = struct.unpack_from("=HH", body, at)
        if size < 4:
            return
        yield kind, body[at + 4 : at + size]
        at += size + 3 & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute of a message."""
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def forget_neighbours() -> None:
    """Drop hardware addresses, and with them what waits to be sent to unknown ones.

    Else the last words of killed processes would be sent as soon as the links live again.
    """
    with opened(0) as sock:
        for body in ask(sock, _RTM_GETNEIGH, DUMP, bytes(_NEIGHBOUR.size)):
            destination = dict(attributes(body)).get(_NDA_DST)
            if destination is not None:
                request = body[: _NEIGHBOUR.size] + attribute(_NDA_DST, destination)
                ask(sock, _RTM_DELNEIGH, CHANGE, request)


def meet_again(known: Mapping[str, str]) -> None:
    """Have whoever asks for a hardware address now know it, instead of asking once a second.

    :param known: address to hardware address.
    """
    with opened(0) as sock:
        for body in ask(sock, _RTM_GETNEIGH, DUMP, bytes(_NEIGHBOUR.size)):
            family, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
            destination = dict(attributes(body)).get(_NDA_DST)
            if destination is None or not state & _NUD_INCOMPLETE:
                continue
            mac = known.get(str(ip_address(destination)))
            if mac is not None:
                request = _NEIGHBOUR.pack(family, index, _NUD_STALE, 0, 0)
                request += attribute(_NDA_DST, destination)
                request += attribute(_NDA_LLADDR, bytes.fromhex(mac.replace(":", "")))
                ask(sock, _RTM_NEWNEIGH, _REPLACE, request)
