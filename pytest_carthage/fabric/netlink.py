"""Links, addresses and routes by raw, batched rtnetlink (rtnetlink(7), linux/if_link.h).

Numbers of attributes come from linux/if_link.h, linux/if_tunnel.h and linux/neighbour.h.

A batch is sent in a few system calls and acknowledged once: the kernel answers a failed
message even when no acknowledgement was asked for. A library is used where speed does not
matter; here a hundred machines are made in the time that a library takes to be imported.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    #: kind and body of a question to what the kernel answers
    Dump = Callable[[int, bytes], Iterator[bytes]]

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTM_NEWNEIGH = 28
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_REPLACE, _EXCL, _CREATE, _APPEND = 0x100, 0x200, 0x400, 0x800

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_OPERSTATE, _IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 16, 18, 26, 28
_IF_OPER_UP = 6
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA, _VETH_PEER = 1, 2, 4, 5, 1
_BR_AGEING_TIME, _BR_GROUP_FWD_MASK, _BR_MCAST_SNOOPING = 4, 9, 23
_BRPORT_LEARNING, _BRPORT_GROUP_FWD_MASK = 8, 31
_INET6_ADDR_GEN_MODE, _EUI64, _NONE = 8, 0, 1
_MACVLAN_MODE, _MACVLAN_MODE_BRIDGE = 1, 4
_VLAN_ID = 1
_VXLAN_ID, _VXLAN_GROUP, _VXLAN_LINK, _VXLAN_LOCAL, _VXLAN_TTL = 1, 2, 3, 4, 5
_VXLAN_PORT, _VXLAN_GROUP6, _VXLAN_LOCAL6 = 15, 16, 17
_GRE_LINK, _GRE_LOCAL, _GRE_REMOTE, _GRE_TTL = 1, 6, 7, 8
_BOND_MODE, _BOND_MIIMON, _BOND_ACTIVE_BACKUP = 1, 3, 1
_NDA_DST, _NDA_LLADDR, _NTF_SELF, _NUD_NOARP_PERMANENT = 1, 2, 0x02, 0xC0
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_RTMGRP_LINK = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD = 0x02
_RTNH_F_ONLINK = 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDR = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_CHUNK = 48 * 1024
_SOL_NETLINK, _NETLINK_EXT_ACK, _ACK_TEXT = 270, 11, 1
#: where VXLAN is spoken (RFC 7348)
VXLAN_PORT = 4789
#: link-local frames that a bridge may be told to pass (BR_GROUPFWD_RESTRICTED in net/bridge),
#: and those that one of its ports may be told to take (all but MAC pause)
_BRIDGE_PASSES, _PORT_PASSES = 0xFFF8, 0xFFFD
#: what the kernel means by errors whose own text does not tell (BR_MAX_PORTS)
_REASONS = {errno.EXFULL: "the network is full: a bridge has at most 1023 ports"}


def _attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + b"\0" * (-size % 4)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _byte(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=B", value))


def _short(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=H", value))


def _ip(kind: int, kind6: int, value: str) -> bytes:
    parsed = ip_address(value)
    return _attribute(kind if parsed.version == 4 else kind6, parsed.packed)


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


class _Requests:
    """What is asked of the kernel for the network namespace that the caller is in, together."""

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
            sock.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
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
                        said = kernels_words(body)
                        reason += f" ({said})" if said else ""
                        raise OSError(-number, f"{self._subjects[sequence]}: {reason}")
                    if sequence == len(messages) - 1:
                        return


class _Devices(_Requests):
    """Interfaces that come to be."""

    def _device(
        self,
        name: str,
        kind: str,
        data: bytes = b"",
        *,
        mac: str | None = None,
        mtu: int | None = None,
        parent_index: int = 0,
        master_index: int = 0,
        namespace_fd: int = -1,
        up: bool = False,
    ) -> None:
        flag = _IFF_UP if up else 0
        body = _LINK.pack(0, 0, 0, flag, flag) + _text(_IFLA_IFNAME, name)
        if mac is not None:
            body += _attribute(_IFLA_ADDRESS, _mac(mac))
        if mtu is not None:
            body += _number(_IFLA_MTU, mtu)
        if parent_index:
            body += _number(_IFLA_LINK, parent_index)
        if master_index:
            body += _number(_IFLA_MASTER, master_index)
        if namespace_fd >= 0:
            body += _number(_IFLA_NET_NS_FD, namespace_fd)
        info = _text(_INFO_KIND, kind)
        if data:
            info += _attribute(_INFO_DATA, data)
        body += _attribute(_IFLA_LINKINFO, info)
        self._add(f"{kind} {name}", _RTM_NEWLINK, _CREATE | _EXCL, body)

    def bridge(
        self, name: str, *, mtu: int | None = None, is_wire: bool = False, snoops: bool = False
    ) -> None:
        """Add a bridge, set up; as a wire, it learns nothing and passes what it can.

        A bridge never passes MAC pause frames; other link-local frames need :meth:`wire_port`
        at both ends, too.

        :param snoops: it looks at multicast, and says by IGMP and MLD that it does (RFC 4541); else
            it passes all of it, as it does anyhow where nobody asks. A kernel that never looks at
            it refuses to be told.
        """
        data = b"" if snoops else _byte(_BR_MCAST_SNOOPING, 0)
        if is_wire:
            data += _number(_BR_AGEING_TIME, 0)
            data += _short(_BR_GROUP_FWD_MASK, _BRIDGE_PASSES)
        self._device(name, "bridge", data, mtu=mtu, up=True)

    def wire_port(self, port: str) -> None:
        """Have a port of a bridge behave as the end of a wire."""
        data = _byte(_BRPORT_LEARNING, 0) + _short(_BRPORT_GROUP_FWD_MASK, _PORT_PASSES)
        info = _text(_INFO_SLAVE_KIND, "bridge") + _attribute(_INFO_SLAVE_DATA, data)
        body = _LINK.pack(0, 0, index_of(port), 0, 0) + _attribute(_IFLA_LINKINFO, info)
        self._add(f"wire at {port}", _RTM_NEWLINK, 0, body)

    def macvlan(
        self,
        name: str,
        *,
        parent_index: int,
        namespace_fd: int,
        mac: str | None,
        mtu: int | None,
    ) -> None:
        """Add a macvlan (mode bridge) of one of our interfaces, in another namespace."""
        self._device(
            name,
            "macvlan",
            _number(_MACVLAN_MODE, _MACVLAN_MODE_BRIDGE),
            mac=mac,
            mtu=mtu,
            parent_index=parent_index,
            namespace_fd=namespace_fd,
        )

    def vlan(
        self,
        name: str,
        *,
        parent_index: int,
        vlan_id: int,
        mac: str | None = None,
        mtu: int | None = None,
        bridge_index: int = 0,
    ) -> None:
        """Add an 802.1Q sub-interface; on a bridge, it is set up, too."""
        self._device(
            name,
            "vlan",
            _short(_VLAN_ID, vlan_id),
            mac=mac,
            mtu=mtu,
            parent_index=parent_index,
            master_index=bridge_index,
            up=bool(bridge_index),
        )

    def bond(self, name: str, *, mac: str | None, mtu: int | None) -> None:
        """Add a bond of which one member is active, looked after ten times a second."""
        data = _byte(_BOND_MODE, _BOND_ACTIVE_BACKUP) + _number(_BOND_MIIMON, 100)
        self._device(name, "bond", data, mac=mac, mtu=mtu)

    def enslave(self, interface: str, master: str) -> None:
        """Make an interface, which is down, a member of another one."""
        body = _LINK.pack(0, 0, index_of(interface), 0, 0)
        body += _number(_IFLA_MASTER, index_of(master))
        self._add(f"{interface} in {master}", _RTM_NEWLINK, 0, body)

    def vxlan(
        self,
        name: str,
        *,
        vni: int,
        local: str | None,
        over: str | None = None,
        remote: str | None = None,
        mac: str | None = None,
        mtu: int | None = None,
        bridge_index: int = 0,
        namespace_fd: int = -1,
    ) -> None:
        """Add a VXLAN tunnel end, whose packets travel in the namespace that the caller is in.

        :param remote: the only other end; see :meth:`flood` for several.
        :param bridge_index: in ``namespace_fd``; it is set up then.
        """
        data = _number(_VXLAN_ID, vni) + _byte(_VXLAN_TTL, 64)
        data += _attribute(_VXLAN_PORT, struct.pack("!H", VXLAN_PORT))
        if local is not None:
            data += _ip(_VXLAN_LOCAL, _VXLAN_LOCAL6, local)
        if remote is not None:
            data += _ip(_VXLAN_GROUP, _VXLAN_GROUP6, remote)
        if over is not None:
            data += _number(_VXLAN_LINK, index_of(over))
        self._device(
            name,
            "vxlan",
            data,
            mac=mac,
            mtu=mtu,
            master_index=bridge_index,
            namespace_fd=namespace_fd,
            up=bool(bridge_index),
        )

    def flood(self, interface: str, remote: str) -> None:
        """Have a VXLAN interface send to this other end, too, what it knows no better for."""
        body = _NEIGHBOUR.pack(socket.AF_BRIDGE, index_of(interface), _NUD_NOARP_PERMANENT, 2, 0)
        body += _attribute(_NDA_LLADDR, bytes(6)) + _ip(_NDA_DST, _NDA_DST, remote)
        self._add(f"{interface} to {remote}", _RTM_NEWNEIGH, _CREATE | _APPEND, body)

    def gre(self, name: str, *, local: str, remote: str, over: str | None, mtu: int | None) -> None:
        """Add a GRE tunnel end (RFC 2784) for IP packets."""
        data = _byte(_GRE_TTL, 64)
        data += _ip(_GRE_LOCAL, _GRE_LOCAL, local) + _ip(_GRE_REMOTE, _GRE_REMOTE, remote)
        if over is not None:
            data += _number(_GRE_LINK, index_of(over))
        kind = "gre" if ip_address(remote).version == 4 else "ip6gre"
        self._device(name, kind, data, mtu=mtu)

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
        """Add a veth pair, each end created where it stays; on no bridge with the index 0.

        This end is on the bridge and up before the other end can be set up: the other way
        round, the first packet waits for a second or two.
        """
        other = _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, peer)
        if peer_namespace_fd >= 0:
            other += _number(_IFLA_NET_NS_FD, peer_namespace_fd)
        if mac is not None:
            other += _attribute(_IFLA_ADDRESS, _mac(mac))
        ours = _LINK.pack(0, 0, 0, _IFF_UP, _IFF_UP) + _text(_IFLA_IFNAME, port)
        if bridge_index:
            ours += _number(_IFLA_MASTER, bridge_index)
        if mtu is not None:
            other += _number(_IFLA_MTU, mtu)
            ours += _number(_IFLA_MTU, mtu)
        info = _text(_INFO_KIND, "veth") + _attribute(_INFO_DATA, _attribute(_VETH_PEER, other))
        ours += _attribute(_IFLA_LINKINFO, info)
        self._add(f"link {port} to {peer}", _RTM_NEWLINK, _CREATE | _EXCL, ours)


class Batch(_Devices):
    """Changes to the network namespace that the caller is in, carried out together."""

    def link_local(self, interface: str, *, wanted: bool) -> None:
        """Tell whether an interface makes itself a link-local IPv6 address, from its MAC."""
        mode = _byte(_INET6_ADDR_GEN_MODE, _EUI64 if wanted else _NONE)
        body = _LINK.pack(0, 0, index_of(interface), 0, 0)
        body += _attribute(_IFLA_AF_SPEC, _attribute(socket.AF_INET6, mode))
        self._add(f"link-local address of {interface}", _RTM_NEWLINK, 0, body)

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

    def address(self, interface: str, value: str, *, again: bool = False) -> None:
        """Add an address such as ``10.0.0.1/24``; ``again``: it may be there."""
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
        flags = _CREATE | (_REPLACE if again else _EXCL)
        self._add(f"address {value} on {interface}", _RTM_NEWADDR, flags, body)

    def route(
        self,
        destination: str | None,
        via: str | None,
        interface: str | None = None,
        metric: int | None = None,
        *,
        again: bool = False,
        onlink: bool = False,
    ) -> None:
        """Add a route, the default route where ``destination`` is None.

        :param via: the next hop; None: whoever is at the other end of ``interface``.
        :param onlink: the next hop is on ``interface``, whatever addresses that has by now.
        """
        if via is not None:
            version = ip_address(via).version
        else:
            version = ip_network(destination or "0.0.0.0/0").version
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        prefix, attributes, scope = 0, b"", 0
        if destination is not None:
            network = ip_network(destination)
            prefix = network.prefixlen
            attributes += _attribute(_RTA_DST, network.network_address.packed)
        if via is not None:
            attributes += _attribute(_RTA_GATEWAY, ip_address(via).packed)
        elif version == 4:
            scope = 253  # link
        if interface is not None:
            attributes += _number(_RTA_OIF, index_of(interface))
        if metric is not None:
            attributes += _number(_RTA_PRIORITY, metric)
        # main table, protocol boot, unicast
        flags = _RTNH_F_ONLINK if onlink else 0
        body = _ROUTE.pack(family, prefix, 0, 0, 254, 3, scope, 1, flags) + attributes
        self._add(
            f"route {destination or 'default'} via {via or interface}",
            _RTM_NEWROUTE,
            _CREATE | (_REPLACE if again else 0),
            body,
        )


def kernels_words(error: bytes) -> str:
    """What the kernel says beyond the number, in the body of an NLMSG_ERROR; may be empty."""
    (size,) = struct.unpack_from("=I", error, 4)  # our own message comes back before them
    text = dict(_attributes(error[4 + (size + 3 & ~3) :])).get(_ACK_TEXT, b"")
    return text.rstrip(b"\0").decode(errors="replace")


def not_yet_up(interfaces: Iterable[str]) -> list[str]:
    """Those of these interfaces that packets do not pass yet, although they are set up.

    The kernel learns of a carrier in the background, and of no more than a hundred per second
    (net/core/link_watch.c): until then a bridge drops what comes and goes there. To be asked
    about one interface makes it look at once (linkwatch_sync_dev in net/core/rtnetlink.c, since
    Linux 6.8); an older one has to be waited for.
    """
    with _open() as sock:
        return [name for name in interfaces if not _is_up(sock, name)]


def _is_up(sock: socket.socket, interface: str) -> bool:
    found = _look(sock, interface)
    return found is None or not found[0] & _IFF_LOWER_UP or found[1] == _IF_OPER_UP


def _look(sock: socket.socket, interface: str) -> tuple[int, int] | None:
    """Flags and operational state of an interface; None: there is none of this name."""
    body = _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, interface)
    sock.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETLINK, _REQUEST, 1, 0) + body)
    for kind, _, content in _split(sock.recv(1 << 16)):
        if kind == _RTM_NEWLINK:
            _, _, _, flags, _ = _LINK.unpack_from(content)
            state = dict(_attributes(content[_LINK.size :])).get(_IFLA_OPERSTATE, b"\0")
            return flags, state[0]
    return None


def is_alive(interface: str) -> bool | None:
    """Whether an interface is set up and has a carrier; None: there is none of this name."""
    with _open() as sock:
        found = _look(sock, interface)
    if found is None:
        return None
    return found[0] & (_IFF_UP | _IFF_LOWER_UP) == _IFF_UP | _IFF_LOWER_UP


class News:
    """Names of the interfaces of the caller's network namespace that change."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._sock.bind((0, _RTMGRP_LINK))
        self._sock.setblocking(False)

    def fileno(self) -> int:
        """The descriptor, to wait for news."""
        return self._sock.fileno()

    def read(self) -> list[str | None]:
        """Take what there is, without waiting; None stands for any: news were lost."""
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return []
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return [None]
            raise
        found: list[str | None] = []
        for kind, _, content in _split(data):
            if kind in (_RTM_NEWLINK, _RTM_DELLINK):
                name = dict(_attributes(content[_LINK.size :])).get(_IFLA_IFNAME, b"?\0")
                found.append(name[:-1].decode())
        return found or [""]


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
        sock.send(_question(kind, body))
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


def _question(kind: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | _DUMP, 1, 0) + body


#: what to ask the kernel of another machine, for :func:`given`
QUESTIONS = (
    _question(_RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0)),
    _question(_RTM_GETADDR, _ADDR.pack(0, 0, 0, 0, 0)),
    _question(_RTM_GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)),
)


def given(answers: Sequence[bytes]) -> Dump:
    """What another machine's kernel has answered to :data:`QUESTIONS`, for those that read it.

    :raises ValueError: there are fewer answers than questions.
    """
    kinds = (_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE)
    by_kind = dict(zip(kinds, answers, strict=True))
    return lambda kind, body: (content for _, _, content in _split(by_kind[kind]))


def _links(dump: Dump) -> dict[int, tuple[str, bool, str]]:
    """Index of an interface to its name, whether it is up, its hardware address."""
    links: dict[int, tuple[str, bool, str]] = {}
    for body in dump(_RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0)):
        _, _, index, flags, _ = _LINK.unpack_from(body)
        values = dict(_attributes(body[_LINK.size :]))
        name = values.get(_IFLA_IFNAME, b"?\0")[:-1].decode()
        links[index] = (name, bool(flags & _IFF_UP), values.get(_IFLA_ADDRESS, b"").hex(":"))
    return links


def addresses(ask: Dump = _dump) -> list[dict[str, Any]]:
    """Addresses of the caller's network namespace: interface, address, up, mac.

    :param ask: gives what the kernel answers; that of another machine: :func:`given`.
    """

    def dump() -> list[dict[str, Any]]:
        links = _links(ask)
        found: list[dict[str, Any]] = []
        seen: set[int] = set()
        for body in ask(_RTM_GETADDR, _ADDR.pack(0, 0, 0, 0, 0)):
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


def routes(ask: Dump = _dump) -> list[dict[str, Any]]:
    """Routes of the main table of the caller's network namespace: destination, via, interface.

    :param ask: as in :func:`addresses`.
    """

    def dump() -> list[dict[str, Any]]:
        found = []
        links = _links(ask)
        for body in ask(_RTM_GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
            _, prefix, _, _, table, _, _, _, _ = _ROUTE.unpack_from(body)
            values = dict(_attributes(body[_ROUTE.size :]))
            if table != 254:
                continue
            destination, via, out = (values.get(k) for k in (_RTA_DST, _RTA_GATEWAY, _RTA_OIF))
            interface = None
            if out is not None:
                interface = links.get(struct.unpack("=I", out)[0], ("?",))[0]
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


def _send_and_check(protocol: int, messages: bytes) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as sock:
        sock.bind((0, 0))
        sock.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        sock.settimeout(5.0)
        sock.send(messages)
        for kind, _, body in _split(sock.recv(1 << 16)):
            if kind == 2:
                (number,) = struct.unpack_from("=i", body)
                if number:
                    raise OSError(-number, kernels_words(body) or os.strerror(-number))
                return


def try_discipline(interface: str, kind: str) -> None:
    """Ask for a queueing discipline without its parameters.

    :raises OSError: the kernel does not know it; that it misses parameters is no error.
    """
    body = struct.pack("=BxxxiIII", 0, index_of(interface), 0x10000, 0xFFFFFFFF, 0)
    body += _text(1, kind)  # TCA_KIND
    header = _HEADER.pack(_HEADER.size + len(body), 36, _REQUEST | _ACK | _CREATE, 1, 0)
    try:
        _send_and_check(0, header + body)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def _change_tables(kind: int, flags: int, family: int, attributes: bytes) -> None:
    """Ask nftables for one change, see linux/netfilter/nf_tables.h."""

    def message(kind: int, flags: int, sequence: int, version: bytes, attributes: bytes) -> bytes:
        size = _HEADER.size + 4 + len(attributes)
        return _HEADER.pack(size, kind, _REQUEST | flags, sequence, 0) + version + attributes

    subsystem = 10  # NFNL_SUBSYS_NFTABLES
    edge = struct.pack("!BBH", 0, 0, subsystem)
    version = struct.pack("!BBH", family, 0, 0)
    _send_and_check(
        12,  # NETLINK_NETFILTER
        message(0x10, 0, 1, edge, b"")  # NFNL_MSG_BATCH_BEGIN
        + message(subsystem << 8 | kind, flags | _ACK, 2, version, attributes)
        + message(0x11, 0, 3, edge, b""),  # NFNL_MSG_BATCH_END
    )


def try_table(family: int) -> None:
    """Make an nftables table of an address family (linux/netfilter.h).

    :raises OSError: the kernel has no nftables, or not for this family.
    """
    _change_tables(0, _CREATE, family, _text(1, "carthage-try"))  # NFT_MSG_NEWTABLE


def flush_tables() -> None:
    """Remove all nftables of the network namespace that the caller is in, with what is in them."""
    try:
        _change_tables(2, 0, 0, b"")  # NFT_MSG_DELTABLE, of every family
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EINVAL):
            raise
