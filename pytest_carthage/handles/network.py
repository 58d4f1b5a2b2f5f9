"""What the kernel of a live machine says of its network: addresses, routes, neighbours, counts."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

__all__ = ["Counters", "InterfaceAddress", "InterfaceState", "Neighbour", "NextHop", "Route"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceState:
    """A network interface, as it is now."""

    name: str
    index: int
    #: hardware address; None: it has none, as a tunnel
    mac: str | None
    mtu: int
    #: whether it has been set up
    is_up: bool
    #: whether it is up, and the other end of its cable is there
    has_carrier: bool
    #: as ``ip link`` has it: ``"veth"``, ``"vlan"``, ``"bond"``, ``"dummy"``; empty: of no kind
    kind: str
    #: name of the bridge, bond or VRF that it is in
    master: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceAddress:
    """An address that an interface has."""

    interface: str
    address: IPv4Interface | IPv6Interface
    #: ``"global"``, ``"link"``, ``"host"``, or a number
    scope: str
    #: far end of a point-to-point address
    peer: IPv4Address | IPv6Address | None
    #: not yet usable: the kernel still looks whether anybody else has it (RFC 4862)
    is_tentative: bool

    @property
    def ip(self) -> IPv4Address | IPv6Address:
        """It without its prefix length."""
        return self.address.ip

    @property
    def is_link_local(self) -> bool:
        """Whether it means something on its own link only."""
        return self.ip.is_link_local


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHop:
    """Where a route leads."""

    #: None: whom it leads to is on the link itself
    via: IPv4Address | IPv6Address | None
    #: None: it leads nowhere, as a blackhole
    interface: str | None
    #: share among several, from 1
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of one of the kernel's tables."""

    #: the default route's is ``0.0.0.0/0`` or ``::/0``
    destination: IPv4Network | IPv6Network
    #: where it leads: more than one for routes of equal cost, none for a blackhole
    hops: tuple[NextHop, ...]
    #: who made it: ``"kernel"``, ``"static"``, ``"ospf"``, ``"bgp"``, ``"bird"``, ... or a number
    protocol: str
    #: the lower, the better
    metric: int
    #: ``"unicast"``, ``"local"``, ``"blackhole"``, ``"unreachable"``, ``"prohibit"``, ...
    kind: str
    #: number of the table; 254 is ``main``
    table: int
    #: address that the machine speaks from by it
    source: IPv4Address | IPv6Address | None

    @property
    def via(self) -> IPv4Address | IPv6Address | None:
        """The first next hop's address."""
        return self.hops[0].via if self.hops else None

    @property
    def interface(self) -> str | None:
        """The first next hop's interface."""
        return self.hops[0].interface if self.hops else None

    @property
    def is_default(self) -> bool:
        """Whether it leads to all that no other route leads to."""
        return self.destination.prefixlen == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Whom the kernel knows on a link, by ARP or neighbour discovery."""

    address: IPv4Address | IPv6Address
    interface: str
    #: hardware address; None: nobody has answered
    mac: str | None
    #: ``"reachable"``, ``"stale"``, ``"delay"``, ``"probe"``, ``"incomplete"``, ``"failed"``,
    #: ``"permanent"``
    state: str
    #: whether it says that it is a router (IPv6)
    is_router: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What has passed an interface since it was made."""

    interface: str
    received_bytes: int
    received_packets: int
    received_errors: int
    received_dropped: int
    sent_bytes: int
    sent_packets: int
    sent_errors: int
    sent_dropped: int
