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

#: number of the kernel's main table, rtnetlink(7)
_MAIN = 254


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
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

    def __repr__(self) -> str:
        """As in ``<InterfaceState eth0: up, no carrier, mtu 1500, veth, 02:..., in br0>``."""
        parts = ["up" if self.is_up else "down"]
        parts += [] if self.has_carrier else ["no carrier"]
        parts += [f"mtu {self.mtu}", *filter(None, (self.kind, self.mac))]
        parts += [f"in {self.master}"] if self.master is not None else []
        return f"<InterfaceState {self.name}: {', '.join(parts)}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
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

    def __repr__(self) -> str:
        """As in ``<InterfaceAddress 10.0.0.1/24 on eth0, global>``."""
        peer = f" peer {self.peer}" if self.peer is not None else ""
        tentative = ", tentative" if self.is_tentative else ""
        return (
            f"<InterfaceAddress {self.address}{peer} on {self.interface}, {self.scope}{tentative}>"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NextHop:
    """Where a route leads."""

    #: None: whom it leads to is on the link itself
    via: IPv4Address | IPv6Address | None
    #: None: it leads nowhere, as a blackhole
    interface: str | None
    #: share among several, from 1
    weight: int = 1

    def __str__(self) -> str:
        """As ip-route(8) has it: ``via 10.0.0.1 dev eth0``."""
        parts = [f"via {self.via}"] if self.via is not None else []
        parts += [f"dev {self.interface}"] if self.interface is not None else []
        parts += [f"weight {self.weight}"] if self.weight != 1 else []
        return " ".join(parts) or "nowhere"

    def __repr__(self) -> str:
        return f"<NextHop {self}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
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

    def __repr__(self) -> str:
        """As ip-route(8) has it: ``<Route 10.1.0.0/16 via 10.0.0.1 dev eth0 proto static>``."""
        parts = [] if self.kind == "unicast" else [self.kind]
        parts += [str(self.destination), *map(str, self.hops), f"proto {self.protocol}"]
        parts += [f"metric {self.metric}"] if self.metric else []
        parts += [f"table {self.table}"] if self.table != _MAIN else []
        parts += [f"src {self.source}"] if self.source is not None else []
        return f"<Route {' '.join(parts)}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
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

    def __repr__(self) -> str:
        """As in ``<Neighbour 10.0.0.1 on eth0: 02:..., reachable>``."""
        router = ", a router" if self.is_router else ""
        return (
            f"<Neighbour {self.address} on {self.interface}: {self.mac or 'no address'}, "
            f"{self.state}{router}>"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
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

    def __repr__(self) -> str:
        """As in ``<Counters of eth0: received 12 packets, 840 bytes; sent 3 packets, 126 bytes>``.

        Errors and what was dropped are told where there are any.
        """
        received = _way(
            self.received_packets, self.received_bytes, self.received_errors, self.received_dropped
        )
        sent = _way(self.sent_packets, self.sent_bytes, self.sent_errors, self.sent_dropped)
        return f"<Counters of {self.interface}: received {received}; sent {sent}>"


def _way(packets: int, data_bytes: int, errors: int, dropped: int) -> str:
    losses = f", {errors} errors" if errors else ""
    losses += f", {dropped} dropped" if dropped else ""
    return f"{packets} packets, {data_bytes} bytes{losses}"
