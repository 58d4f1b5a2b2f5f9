"""Packets as values: what was seen on a network, taken apart, and which machines it belongs to."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pytest_carthage.planning.plan import Plan, PlannedLink

__all__ = ["Arp", "Owners", "Packet", "dissect"]

AnyAddress: TypeAlias = IPv4Address | IPv6Address

#: IEEE 802 numbers, IANA's ethertypes
_IPV4, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD
_TAGS = (0x8100, 0x88A8)
_ETHERTYPES = {_ARP: "arp", 0x88CC: "lldp", 0x8847: "mpls", 0x888E: "eapol", 0x8808: "pause"}
_FIRST_ETHERTYPE = 0x0600  # below: the length of an IEEE 802.3 frame
#: IANA's protocol numbers
_TCP, _UDP, _ICMP, _ICMP6, _FRAGMENT, _AUTHENTICATION = 6, 17, 1, 58, 44, 51
_PROTOCOLS = {
    _ICMP: "icmp",
    2: "igmp",
    4: "ipip",
    _TCP: "tcp",
    _UDP: "udp",
    41: "ipv6",
    47: "gre",
    50: "esp",
    _AUTHENTICATION: "ah",
    _ICMP6: "icmp6",
    89: "ospf",
    112: "vrrp",
    132: "sctp",
}
#: IPv6 extension headers whose length is counted in units of 8 bytes (RFC 8200, section 4)
_EXTENSIONS = (0, 43, 60, 135, 139, 140)
_FLAGS = "FSRPAUEC"  # bit 0 first (RFC 9293, section 3.1)
_OPERATIONS = {1: "who has", 2: "is at"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arp:
    """An ARP message (RFC 826)."""

    #: 1: who has ``target``? 2: ``sender`` is at ``sender_mac``
    operation: int
    sender_mac: str
    sender: IPv4Address
    target_mac: str
    target: IPv4Address


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Packet:
    """One frame that was seen on a network; what it does not have is None, or empty."""

    #: nanoseconds since the epoch, by the host's clock
    time_ns: int
    #: name of the network
    network: str
    #: machines that the packet comes from and goes to, by its addresses; by the frame's where it
    #: has no others that the plan knows. None: no machine of the layout, or everybody.
    source: str | None
    destination: str | None
    #: machines that put the frame on this network and take it from there: routers, too
    sender: str | None
    receiver: str | None
    source_mac: str
    destination_mac: str
    #: IEEE 802; of what is inside an 802.1Q tag
    ethertype: int
    vlan: int | None
    arp: Arp | None
    #: of IP: 4 or 6
    version: int | None
    source_address: AnyAddress | None
    destination_address: AnyAddress | None
    #: time to live, hop limit
    hops_left: int | None
    #: ``tcp``, ``udp``, ``icmp``, ``icmp6``, ``arp``, ``ospf``...; a number that has no name here
    #: is given as one
    protocol: str
    source_port: int | None
    destination_port: int | None
    #: of TCP, as letters out of ``FSRPAUEC``: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR
    flags: str
    icmp_type: int | None
    icmp_code: int | None
    #: what the innermost known header carries
    payload: bytes
    #: the whole frame
    raw: bytes

    @property
    def time_s(self) -> float:
        """Seconds since the epoch."""
        return self.time_ns / 1e9

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        clock = datetime.fromtimestamp(self.time_ns // 10**9).strftime("%H:%M:%S")
        head = f"{clock}.{self.time_ns % 10**9 // 1000:06d} {self.network}:"
        if self.arp is not None:
            said = _OPERATIONS.get(self.arp.operation, f"operation {self.arp.operation}")
            sender = self.source or self.source_mac
            content = (
                f"{said} {self.arp.target}"
                if self.arp.operation == 1
                else f"{self.arp.sender} {said} {self.arp.sender_mac}"
            )
            return f"{head} {sender} arp {content}"
        ends = [
            _end(self.source, self.source_address, self.source_port, self.source_mac),
            _end(
                self.destination,
                self.destination_address,
                self.destination_port,
                self.destination_mac,
            ),
        ]
        detail = f" [{self.flags}]" if self.flags else ""
        if self.icmp_type is not None:
            detail = f" type {self.icmp_type}"
        tag = f" vlan {self.vlan}" if self.vlan is not None else ""
        return f"{head} {' > '.join(ends)} {self.protocol}{detail}{tag}, {len(self.payload)} bytes"


def _end(machine: str | None, address: AnyAddress | None, port: int | None, mac: str) -> str:
    where = str(address) if address is not None else mac
    if port is not None:
        where = f"[{where}]:{port}" if ":" in where else f"{where}:{port}"
    return f"{machine} {where}" if machine is not None else where


class Owners:
    """Who has which address in a layout: as it is planned, several may have the same."""

    def __init__(self, plan: Plan | None = None) -> None:
        #: hardware address to machine and interface
        self.macs: dict[str, tuple[str, str]] = {}
        #: address to machines and networks
        self.addresses: dict[AnyAddress, list[tuple[str, str]]] = {}
        self._subnets: dict[str, list[IPv4Network | IPv6Network]] = {}
        if plan is None:
            return
        for machine, link in _links(plan):
            self.macs.setdefault(link.mac.lower(), (machine, link.interface))
            for address in link.addresses:
                self.addresses.setdefault(address.ip, []).append((machine, link.network))
        for name, planned in plan.machines.items():
            for own in planned.loopback:
                self.addresses.setdefault(own, []).append((name, ""))
        self._subnets = {
            network.name: [subnet.network for subnet in network.subnets]
            for network in plan.networks.values()
        }

    def of_mac(self, mac: str) -> str | None:
        """The machine that has a hardware address."""
        name = self.macs.get(mac)
        return name[0] if name is not None else None

    def of_address(self, address: AnyAddress, mac: str, network: str) -> str | None:
        """The machine that a packet's address stands for, seen beside ``mac`` on a network."""
        having = self.addresses.get(address, [])
        names = {machine for machine, _ in having}
        if len(names) == 1:
            return next(iter(names))
        if having:
            near = {machine for machine, at in having if at == network}
            return next(iter(near)) if len(near) == 1 else self._among(mac, names)
        # nobody planned it: an address that was given at run time, or one from outside
        is_near = address.is_unspecified or address.is_link_local
        is_near = is_near or any(address in subnet for subnet in self._subnets.get(network, ()))
        return self.of_mac(mac) if is_near else None

    def _among(self, mac: str, names: set[str]) -> str | None:
        owner = self.of_mac(mac)
        return owner if owner in names else None

    def names(self) -> Mapping[AnyAddress | str, str]:
        """A name for each address, IP and hardware (``machine.interface``)."""
        names: dict[AnyAddress | str, str] = {
            address: "_or_".join(dict.fromkeys(machine for machine, _ in having))
            for address, having in self.addresses.items()
        }
        names |= {mac: f"{machine}.{interface}" for mac, (machine, interface) in self.macs.items()}
        return names

    def remark(self, packet: Packet) -> str:
        """Machines of a frame, where its IP addresses do not name them; else nothing."""
        ends = (packet.source_address, packet.destination_address)
        if all(end is not None and len(self.addresses.get(end, [])) == 1 for end in ends):
            return ""
        if packet.source_address is None:
            return f"{packet.sender or '?'} > {_taker(packet)}"
        return f"{packet.source or '?'} > {packet.destination or '?'}, on its way from " + (
            f"{packet.sender or '?'} to {_taker(packet)}"
        )


def _taker(packet: Packet) -> str:
    if packet.raw[:1] and packet.raw[0] & 1:  # group bit: broadcast, multicast
        return "all"
    return packet.receiver or "?"


def _links(plan: Plan) -> Iterator[tuple[str, PlannedLink]]:
    for machine in plan.machines.values():
        for link in machine.links:
            if link.kind != "external":  # its packets are not the layout's
                yield machine.name, link
    for link in plan.stations.values():
        yield "host", link


@dataclass(slots=True)
class _Seen:
    """What a dissection has found so far."""

    ethertype: int = 0
    vlan: int | None = None
    arp: Arp | None = None
    version: int | None = None
    source: AnyAddress | None = None
    destination: AnyAddress | None = None
    hops_left: int | None = None
    protocol: str = ""
    ports: tuple[int, int] | None = None
    flags: str = ""
    icmp: tuple[int, int] | None = None
    payload: bytes = b""


def dissect(
    raw: bytes, *, time_ns: int = 0, network: str = "", owners: Owners | None = None
) -> Packet:
    """Take an Ethernet frame apart, as far as it can be understood; never raises."""
    layers = _Seen()
    if len(raw) >= 14:
        source_mac, destination_mac = raw[6:12].hex(":"), raw[:6].hex(":")
        _ethernet(layers, raw)
    else:
        source_mac = destination_mac = ""
        layers.payload = raw
    owners = owners if owners is not None else _NO_OWNERS
    sender, receiver = owners.of_mac(source_mac), owners.of_mac(destination_mac)
    source, destination = sender, receiver
    if layers.source is not None and layers.destination is not None:
        source = owners.of_address(layers.source, source_mac, network)
        destination = owners.of_address(layers.destination, destination_mac, network)
    return Packet(
        time_ns=time_ns,
        network=network,
        source=source,
        destination=destination,
        sender=sender,
        receiver=receiver,
        source_mac=source_mac,
        destination_mac=destination_mac,
        ethertype=layers.ethertype,
        vlan=layers.vlan,
        arp=layers.arp,
        version=layers.version,
        source_address=layers.source,
        destination_address=layers.destination,
        hops_left=layers.hops_left,
        protocol=layers.protocol,
        source_port=layers.ports[0] if layers.ports is not None else None,
        destination_port=layers.ports[1] if layers.ports is not None else None,
        flags=layers.flags,
        icmp_type=layers.icmp[0] if layers.icmp is not None else None,
        icmp_code=layers.icmp[1] if layers.icmp is not None else None,
        payload=layers.payload,
        raw=raw,
    )


def _ethernet(seen: _Seen, raw: bytes) -> None:
    (ethertype,) = struct.unpack_from("!H", raw, 12)
    offset = 14
    while ethertype in _TAGS and len(raw) >= offset + 4:
        tag, ethertype = struct.unpack_from("!HH", raw, offset)
        if seen.vlan is None:
            seen.vlan = tag & 0x0FFF
        offset += 4
    seen.ethertype = ethertype
    seen.payload = raw[offset:]
    if ethertype == _IPV4:
        seen.protocol = "ip"
        _ipv4(seen, raw[offset:])
    elif ethertype == _IPV6:
        seen.protocol = "ip"
        _ipv6(seen, raw[offset:])
    else:
        unknown = "llc" if ethertype < _FIRST_ETHERTYPE else f"0x{ethertype:04x}"
        seen.protocol = _ETHERTYPES.get(ethertype, unknown)
        if ethertype == _ARP:
            _arp(seen, raw[offset:])


def _arp(seen: _Seen, data: bytes) -> None:
    # Ethernet and IPv4: hardware and protocol addresses of 6 and 4 bytes
    if len(data) < 28 or data[:6] != b"\x00\x01\x08\x00\x06\x04":
        return
    seen.arp = Arp(
        operation=int.from_bytes(data[6:8], "big"),
        sender_mac=data[8:14].hex(":"),
        sender=IPv4Address(data[14:18]),
        target_mac=data[18:24].hex(":"),
        target=IPv4Address(data[24:28]),
    )
    seen.payload = b""


def _ipv4(seen: _Seen, data: bytes) -> None:
    size = (data[0] & 0x0F) * 4 if data else 0
    if size < 20 or len(data) < size or data[0] >> 4 != 4:
        return
    length, fragment = struct.unpack_from("!H2xH", data, 2)
    seen.version = 4
    seen.hops_left = data[8]
    seen.source, seen.destination = IPv4Address(data[12:16]), IPv4Address(data[16:20])
    # a length of 0: segments that the kernel has not yet split
    body = data[size : length if length >= size else len(data)]
    _transport(seen, data[9], body, is_first=not fragment & 0x1FFF)


def _ipv6(seen: _Seen, data: bytes) -> None:
    if len(data) < 40 or data[0] >> 4 != 6:
        return
    (length,) = struct.unpack_from("!H", data, 4)
    seen.version = 6
    seen.hops_left = data[7]
    seen.source, seen.destination = IPv6Address(data[8:24]), IPv6Address(data[24:40])
    following, body = data[6], data[40 : 40 + length] if length else data[40:]
    is_first = True
    while len(body) >= 8 and is_first:
        if following in _EXTENSIONS:
            size = (body[1] + 1) * 8
        elif following == _FRAGMENT:
            size, is_first = 8, not int.from_bytes(body[2:4], "big") & 0xFFF8
        elif following == _AUTHENTICATION:
            size = (body[1] + 2) * 4
        else:
            break
        following, body = body[0], body[size:]
    _transport(seen, following, body, is_first=is_first)


def _transport(seen: _Seen, number: int, body: bytes, *, is_first: bool) -> None:
    seen.protocol = _PROTOCOLS.get(number, str(number))
    seen.payload = body
    if not is_first:
        return
    if number in (_ICMP, _ICMP6) and len(body) >= 4:
        seen.icmp = body[0], body[1]
        seen.payload = body[8:]
    elif number == _UDP and len(body) >= 8:
        seen.ports = struct.unpack_from("!HH", body)
        (length,) = struct.unpack_from("!H", body, 4)
        seen.payload = body[8 : length if length >= 8 else len(body)]
    elif number == _TCP and len(body) >= 20:
        seen.ports = struct.unpack_from("!HH", body)
        seen.flags = "".join(letter for bit, letter in enumerate(_FLAGS) if body[13] >> bit & 1)
        seen.payload = body[max(20, (body[12] >> 4) * 4) :]


_NO_OWNERS = Owners()
