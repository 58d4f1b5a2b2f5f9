"""Links, addresses and routes by raw, batched rtnetlink (rtnetlink(7), linux/if_link.h).

A batch is sent in a few system calls and acknowledged once: the kernel answers a failed
message even when no acknowledgement was asked for. A library is used where speed does not
matter; here a hundred machines are made in the time that a library takes to be imported.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_REQUEST, _ACK, _EXCL, _CREATE, _DUMP = 0x1, 0x4, 0x200, 0x400, 0x300

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER = 1, 3, 4, 10
_IFLA_OPERSTATE, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 16, 18, 28
_IF_OPER_UP = 6
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDR = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")
_CHUNK = 48 * 1024
#: what the kernel means by errors whose own text does not tell (BR_MAX_PORTS)
_REASONS = {errno.EXFULL: "the network is full: a bridge has at most 1023 ports"}


def _attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + b"\0" * (-size % 4)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, offset)
        if size < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + size]
        offset += size + 3 & ~3


def index_of(interface: str) -> int:
    """Index of an interface of the caller's network namespace.

    :raises OSError: there is none of this name.
    """
    return socket.if_nametoindex(interface)


class Batch:
    """Changes to the network namespace that the caller is in, carried out together."""

    def __init__(self) -> None:
        self._messages: list[bytes] = []
        #: what each message is about, for the error
        self._subjects: list[str] = []

    def __len__(self) -> int:
        return len(self._messages)

    def _add(self, subject: str, kind: int, flags: int, body: bytes) -> None:
        sequence = len(self._messages)
        size = _HEADER.size + len(body)
        header = _HEADER.pack(size, kind, _REQUEST | flags, sequence, 0)
        self._messages.append(header + body + b"\0" * (-size % 4))
        self._subjects.append(subject)

    def bridge(self, name: str, *, mtu: int | None = None) -> None:
        """Add a bridge, set up."""
        body = _LINK.pack(0, 0, 0, _IFF_UP, _IFF_UP) + _text(_IFLA_IFNAME, name)
        if mtu is not None:
            body += _number(_IFLA_MTU, mtu)
        body += _attribute(_IFLA_LINKINFO, _text(_INFO_KIND, "bridge"))
        self._add(f"bridge {name}", _RTM_NEWLINK, _CREATE | _EXCL, body)

    def veth(
        self,
        port: str,
        *,
        bridge_index: int,
        peer: str,
        peer_namespace_fd: int,
        mac: str | None,
        mtu: int | None,
    ) -> None:
        """Add a veth pair, each end created where it stays.

        This end is on the bridge and up before the other end can be set up: the other way
        round, the first packet waits for a second or two.
        """
        other = _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, peer)
        other += _number(_IFLA_NET_NS_FD, peer_namespace_fd)
        if mac is not None:
            other += _attribute(_IFLA_ADDRESS, _mac(mac))
        ours = _LINK.pack(0, 0, 0, _IFF_UP, _IFF_UP) + _text(_IFLA_IFNAME, port)
        ours += _number(_IFLA_MASTER, bridge_index)
        if mtu is not None:
            other += _number(_IFLA_MTU, mtu)
            ours += _number(_IFLA_MTU, mtu)
        info = _text(_INFO_KIND, "veth") + _attribute(_INFO_DATA, _attribute(_VETH_PEER, other))
        ours += _attribute(_IFLA_LINKINFO, info)
        self._add(f"link {port} to {peer}", _RTM_NEWLINK, _CREATE | _EXCL, ours)

    def up(self, interface: str) -> None:
        """Set an interface up."""
        body = _LINK.pack(0, 0, index_of(interface), _IFF_UP, _IFF_UP)
        self._add(f"set up {interface}", _RTM_NEWLINK, 0, body)

    def down(self, interface: str) -> None:
        """Take an interface out of service; whoever is at its other end loses the carrier."""
        body = _LINK.pack(0, 0, index_of(interface), 0, _IFF_UP)
        self._add(f"set down {interface}", _RTM_NEWLINK, 0, body)

    def delete(self, interface: str) -> None:
        """Remove an interface."""
        body = _LINK.pack(0, 0, index_of(interface), 0, 0)
        self._add(f"remove {interface}", _RTM_DELLINK, 0, body)

    def address(self, interface: str, value: str) -> None:
        """Add an address such as ``10.0.0.1/24``."""
        parsed = ip_interface(value)
        family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
        raw = parsed.ip.packed
        index = index_of(interface)
        body = _ADDR.pack(family, parsed.network.prefixlen, 0, 0, index)
        body += _attribute(_IFA_LOCAL, raw) + _attribute(_IFA_ADDRESS, raw)
        if parsed.version == 4 and parsed.network.prefixlen < 31:
            body += _attribute(_IFA_BROADCAST, parsed.network.broadcast_address.packed)
        if parsed.version == 6:
            body += _number(_IFA_FLAGS, _IFA_F_NODAD)
        self._add(f"address {value} on {interface}", _RTM_NEWADDR, _CREATE | _EXCL, body)

    def route(self, destination: str | None, via: str, interface: str | None = None) -> None:
        """Add a route, the default route where ``destination`` is None."""
        gateway = ip_address(via)
        family = socket.AF_INET if gateway.version == 4 else socket.AF_INET6
        prefix, attributes = 0, b""
        if destination is not None:
            network = ip_network(destination)
            prefix = network.prefixlen
            attributes += _attribute(_RTA_DST, network.network_address.packed)
        attributes += _attribute(_RTA_GATEWAY, gateway.packed)
        if interface is not None:
            attributes += _number(_RTA_OIF, index_of(interface))
        # main table, protocol boot, scope universe, unicast
        body = _ROUTE.pack(family, prefix, 0, 0, 254, 3, 0, 1, 0) + attributes
        self._add(f"route {destination or 'default'} via {via}", _RTM_NEWROUTE, _CREATE, body)

    def commit(self) -> None:
        """Carry everything out.

        :raises OSError: the first failure, naming what it was about.
        """
        if not self._messages:
            return
        last = bytearray(self._messages[-1])
        struct.pack_into("=H", last, 6, struct.unpack_from("=H", last, 6)[0] | _ACK)
        messages = [*self._messages[:-1], bytes(last)]
        with _open() as sock:
            chunk: list[bytes] = []
            size = 0
            for message in messages:
                if size + len(message) > _CHUNK:
                    sock.send(b"".join(chunk))
                    chunk, size = [], 0
                chunk.append(message)
                size += len(message)
            sock.send(b"".join(chunk))
            while True:
                data = sock.recv(1 << 16)
                for kind, sequence, body in _split(data):
                    if kind != 2:  # NLMSG_ERROR, which is also the acknowledgement
                        continue
                    (number,) = struct.unpack_from("=i", body)
                    if number:
                        reason = _REASONS.get(-number) or os.strerror(-number)
                        raise OSError(-number, f"{self._subjects[sequence]}: {reason}")
                    if sequence == len(messages) - 1:
                        return


def wait_until_up(interfaces: Sequence[str], timeout_s: float = 15.0) -> None:
    """Wait until packets pass these interfaces, whose other ends have been set up.

    The kernel learns of a carrier in the background, and of no more than a hundred per second
    (net/core/link_watch.c): until then a bridge drops what comes and goes there. To be asked
    about one interface makes it look at once (linkwatch_sync_dev in net/core/rtnetlink.c, since
    Linux 6.8); an older one has to be waited for.
    """
    deadline = time.monotonic() + timeout_s
    with _open() as sock:
        waiting = list(interfaces)
        while True:
            waiting = [name for name in waiting if not _is_up(sock, name)]
            if not waiting or time.monotonic() > deadline:
                return
            time.sleep(0.01)


def _is_up(sock: socket.socket, interface: str) -> bool:
    body = _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, interface)
    sock.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETLINK, _REQUEST, 1, 0) + body)
    for kind, _, content in _split(sock.recv(1 << 16)):
        if kind == _RTM_NEWLINK:
            _, _, _, flags, _ = _LINK.unpack_from(content)
            state = dict(_attributes(content[_LINK.size :])).get(_IFLA_OPERSTATE)
            return not flags & _IFF_LOWER_UP or state == bytes([_IF_OPER_UP])
    return True  # it is gone


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    sock.bind((0, 0))
    return sock


def _split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        size, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
        yield kind, sequence, data[offset + _HEADER.size : offset + size]
        offset += size + 3 & ~3


def _dump(kind: int, body: bytes) -> Iterator[bytes]:
    with _open() as sock:
        header = _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | _DUMP, 1, 0)
        sock.send(header + body)
        while True:
            for answer, _, content in _split(sock.recv(1 << 17)):
                if answer == 3:  # NLMSG_DONE
                    return
                if answer == 2:
                    (number,) = struct.unpack_from("=i", content)
                    raise OSError(-number, os.strerror(-number))
                yield content


def _named(dump: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    try:
        return dump()
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP):
            return []
        raise


def addresses() -> list[dict[str, Any]]:
    """Addresses of the caller's network namespace: interface, address, up, mac."""

    def dump() -> list[dict[str, Any]]:
        links: dict[int, tuple[str, bool, str]] = {}
        for body in _dump(_RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0)):
            _, _, index, flags, _ = _LINK.unpack_from(body)
            values = dict(_attributes(body[_LINK.size :]))
            name = values.get(_IFLA_IFNAME, b"?\0")[:-1].decode()
            links[index] = (name, bool(flags & _IFF_UP), values.get(_IFLA_ADDRESS, b"").hex(":"))
        found: list[dict[str, Any]] = []
        seen: set[int] = set()
        for body in _dump(_RTM_GETADDR, _ADDR.pack(0, 0, 0, 0, 0)):
            _, prefix, _, _, index = _ADDR.unpack_from(body)
            values = dict(_attributes(body[_ADDR.size :]))
            raw = values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS, b""))
            name, is_up, mac = links.get(index, ("?", False, ""))
            seen.add(index)
            found.append(
                {
                    "interface": name,
                    "address": f"{ip_address(raw)}/{prefix}",
                    "up": is_up,
                    "mac": mac,
                }
            )
        for index, (name, is_up, mac) in links.items():
            if index not in seen:
                found.append({"interface": name, "address": None, "up": is_up, "mac": mac})
        return found

    return _named(dump)


def routes() -> list[dict[str, Any]]:
    """Routes of the main table of the caller's network namespace: destination, via, interface."""

    def dump() -> list[dict[str, Any]]:
        found = []
        for body in _dump(_RTM_GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
            _, prefix, _, _, table, _, _, _, _ = _ROUTE.unpack_from(body)
            values = dict(_attributes(body[_ROUTE.size :]))
            if table != 254:
                continue
            destination, via, out = (values.get(k) for k in (_RTA_DST, _RTA_GATEWAY, _RTA_OIF))
            interface = None
            if out is not None:
                interface = socket.if_indextoname(struct.unpack("=I", out)[0])
            found.append(
                {
                    "destination": f"{ip_address(destination)}/{prefix}"
                    if destination
                    else "default",
                    "via": str(ip_address(via)) if via else None,
                    "interface": interface,
                }
            )
        return found

    return _named(dump)
