"""The plan: everything about a layout that can be known before anything exists.

All values are frozen, made once by :func:`pytest_carthage.planning.make_plan`, and hold
no reference to the classes that the author wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import combinations
from types import MappingProxyType
from typing import Any, Literal

from pytest_carthage.model.addresses.resolution import (
    Interface,
    PlannedAddressing,
    PlannedSecondary,
    PlannedSubnet,
    PlannedUnderlay,
)
from pytest_carthage.model.image import Image
from pytest_carthage.model.machine import Condition, Limits, Privileges
from pytest_carthage.model.network import Address, AnyNetwork, LinkKind, NetworkKind
from pytest_carthage.model.on import On
from pytest_carthage.model.packages import Packages
from pytest_carthage.model.role import Role
from pytest_carthage.planning.traits import UNKNOWN, Traits

__all__ = [
    "Address",
    "AnyNetwork",
    "Interface",
    "Plan",
    "PlannedAddressing",
    "PlannedForward",
    "PlannedLink",
    "PlannedMachine",
    "PlannedNetwork",
    "PlannedRoute",
    "PlannedSecondary",
    "PlannedSubnet",
    "PlannedUnderlay",
    "PlannedVlan",
]


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedNetwork:
    """One network: a bridge in the fabric."""

    name: str
    #: name of the bridge in the fabric, at most 15 bytes; empty: it is external
    bridge: str
    kind: NetworkKind = "bridged"
    v4: PlannedSubnet | None = None
    v6: PlannedSubnet | None = None
    mtu: int | None = None
    #: 802.1Q number that keeps it apart on a trunk
    vlan_id: int | None = None
    #: VXLAN network identifier (RFC 7348)
    vni: int | None = None
    #: whether its interfaces speak IPv6, be it by link-local addresses alone
    ipv6: bool = True
    #: where it is, of one of kind "external": it exists, and has no bridge
    external: str | None = None

    @property
    def subnets(self) -> tuple[PlannedSubnet, ...]:
        """What it has, IPv4 first."""
        return tuple(subnet for subnet in (self.v4, self.v6) if subnet is not None)

    @property
    def subnet(self) -> AnyNetwork | None:
        """Its addresses, those of IPv4 where it has both; None: it has frames alone."""
        return self.subnets[0].network if self.subnets else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRoute:
    """One static route of a machine."""

    destination: AnyNetwork
    via: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedForward:
    """One port of a router that leads to another machine."""

    #: where it is asked for
    interface: str
    protocol: Literal["tcp", "udp"]
    port: int
    to: Address
    to_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLink:
    """One interface of a machine, and where it ends."""

    #: name in the machine, at most 15 bytes
    interface: str
    network: str
    bridge: str
    #: name of the fabric's end of the veth, unique in the fabric, at most 15 bytes; empty: it is on
    #: an external network, and its hardware address is not known
    port: str
    mac: str
    kind: LinkKind = "bridged"
    v4: PlannedAddressing | None = None
    v6: PlannedAddressing | None = None
    mtu: int | None = None
    #: interfaces of the machine that this one stands on
    over: tuple[str, ...] = ()
    #: where a tunnel runs
    underlay: PlannedUnderlay | None = None
    #: networks that a trunk carries, by 802.1Q number, each with its port in the fabric
    vlans: tuple[PlannedVlan, ...] = ()
    #: names of a bond's members, in the machine and in the fabric
    members: tuple[tuple[str, str], ...] = ()
    vlan_id: int | None = None
    vni: int | None = None
    #: whether the machine is ready only when this link is
    required: bool = True
    #: whether it is set up when the machine starts
    admin_up: bool = True
    #: whether it speaks IPv6, be it by a link-local address alone
    ipv6: bool = True
    #: name of its own in the DNS
    dns_name: str | None = None

    @property
    def addressings(self) -> tuple[PlannedAddressing, ...]:
        """What it has, IPv4 first."""
        return tuple(one for one in (self.v4, self.v6) if one is not None)

    @property
    def addresses(self) -> tuple[Interface, ...]:
        """All its addresses that are known before it exists, IPv4 first."""
        addresses: list[Interface] = []
        for addressing in self.addressings:
            addresses += [addressing.address] if addressing.address is not None else []
            addresses += [secondary.address for secondary in addressing.secondary_addresses]
        return tuple(addresses)

    @property
    def address(self) -> Interface | None:
        """The address that it is known by: IPv4 where it has both."""
        return next((one.address for one in self.addressings if one.address is not None), None)

    @property
    def gateway(self) -> Address | None:
        """Next hop of the default route: of IPv4 where it has both."""
        return next((one.gateway for one in self.addressings if one.gateway is not None), None)

    @property
    def masquerade(self) -> bool:
        """Whether what leaves by it hides behind its address."""
        return any(one.masquerade for one in self.addressings)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedVlan:
    """One network on a trunk."""

    vlan_id: int
    network: str
    bridge: str
    port: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMachine:
    """One machine, its addresses decided."""

    name: str
    hostname: str
    #: kind of the provider that realises it
    target: str
    image: Image | None
    links: tuple[PlannedLink, ...]
    #: what it tells its target; None: nothing, so that the target's defaults hold
    on: On | None = None
    #: what machines of this target are like
    traits: Traits = UNKNOWN
    #: addresses of its own that are on no network, IPv4 first
    loopback: tuple[Address, ...] = ()
    routes: tuple[PlannedRoute, ...] = ()
    #: ports that lead to other machines
    forwards: tuple[PlannedForward, ...] = ()
    roles: tuple[Role, ...] = ()
    #: keys of roles that its image has: their filesystem tasks are done
    built_roles: frozenset[str] = frozenset()
    #: the machine's main process; None: it only waits to be told what to do
    command: tuple[str, ...] | None = None
    #: when that is started again, as ``on-failure:3``
    restart: str = "no"
    #: "systemd", or None for the target's own small init
    init: str | None = None
    env: Mapping[str, str] = field(default_factory=_empty)
    forward: bool = False
    wait_for: tuple[Condition, ...] = ()
    ready_timeout_s: float = 60.0
    limits: Limits | None = None
    #: whether settings that are the host's are refused; else they are set without effect
    strict_settings: bool = False
    #: what it may do on the host, where its target gives that at all
    privileges: Privileges = Privileges()  # noqa: RUF009  it is frozen
    #: Ansible groups and host variables
    groups: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=_empty)
    #: what Ansible calls it; by default its name
    inventory_hostname: str = ""
    #: names of machines that must be ready before this one is created
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.inventory_hostname:
            object.__setattr__(self, "inventory_hostname", self.name)

    @property
    def asks_dhcp(self) -> bool:
        """Whether a DHCP server gives it an address."""
        return any(own.dhcp for link in self.links for own in link.addressings)

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks that it is on, each once."""
        return tuple(dict.fromkeys(link.network for link in self.links if link.network))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole layout, planned."""

    #: name of the layout class
    layout: str
    networks: Mapping[str, PlannedNetwork]
    machines: Mapping[str, PlannedMachine]
    #: distinct images that must exist before their machines are created, by content key
    images: Mapping[str, Image] = field(default_factory=dict)
    #: all images that are members of the layout, by the names that they have there
    declared: Mapping[str, Image] = field(default_factory=_empty)
    #: places for programs of the host, by network; they are no machines of the layout
    stations: Mapping[str, PlannedLink] = field(default_factory=_empty)
    #: target of the machines that do not choose; None: the default one for what they need
    target: str | None = None
    #: targets that there are, by name
    targets: Mapping[str, Traits] = field(default_factory=_empty)
    #: what its machines may install beside what their images have
    packages: Packages = Packages()  # noqa: RUF009  it is frozen

    @property
    def hosts(self) -> Mapping[str, tuple[str, ...]]:
        """Address to the host names that stand for it, in every machine's ``/etc/hosts``."""
        table: dict[str, tuple[str, ...]] = {}
        for machine in self.machines.values():
            for link in _inner(machine):
                for address in link.addresses:
                    table[str(address.ip)] = _names_of(machine, link)
            for loopback in machine.loopback:
                table[str(loopback)] = _names_of(machine)
        return table

    def other_ends(self, machine: str, interface: str) -> tuple[tuple[str, str], ...]:
        """Machine and interface of all other links to the same network; a trunk has none.

        :raises KeyError: there is no such machine, or it has no such interface.
        """
        own = next(
            (link for link in self.machines[machine].links if link.interface == interface), None
        )
        if own is None:
            raise KeyError(interface)
        return tuple(
            (other.name, link.interface)
            for other in self.machines.values()
            for link in other.links
            if own.network
            and link.network == own.network
            and (other.name, link.interface) != (machine, interface)
        )

    @property
    def has_twins(self) -> bool:
        """Whether one address may mean two machines, since networks overlap."""
        subnets = [
            one.network
            for network in self.networks.values()
            if network.external is None
            for one in network.subnets
        ]
        return any(
            one.version == other.version and one.overlaps(other)
            for one, other in combinations(subnets, 2)
        )

    def hosts_in(self, networks: Collection[str]) -> Mapping[str, tuple[str, ...]]:
        """The same as :attr:`hosts`, as whoever is on these networks must understand it.

        Of an address that means something in one of them, that is told. Elsewhere an address that
        they hide, or that means two machines, is left out.
        """
        if not self.has_twins:
            return self.hosts
        own = [one.network for name in networks for one in self.networks[name].subnets]
        meanings: dict[str, dict[str, tuple[str, ...]]] = {}
        for machine in self.machines.values():
            for link in _inner(machine):
                for address in link.addresses:
                    names = meanings.setdefault(str(address.ip), {})
                    names[link.network] = _names_of(machine, link)
            for loopback in machine.loopback:  # nobody else has it, see the rules
                meanings[str(loopback)] = {"": _names_of(machine)}
        table: dict[str, tuple[str, ...]] = {}
        for text, by_network in meanings.items():
            near = [known for name, known in by_network.items() if name in networks]
            is_hidden = any(ip_address(text) in subnet for subnet in own)
            far = [] if is_hidden else list(by_network.values())
            for host_names in near or (far if len(far) == 1 else []):
                table[text] = host_names
        return table

    def hosts_file(self, networks: Collection[str]) -> str:
        """Text of ``/etc/hosts`` of whoever is on these networks."""
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
        table = self.hosts_in(networks)
        lines += [f"{address} {' '.join(names)}" for address, names in table.items()]
        return "\n".join(lines) + "\n"


def _inner(machine: PlannedMachine) -> list[PlannedLink]:
    """Its links to networks on which machines of the layout could reach it."""
    return [link for link in machine.links if link.kind != "external"]


def _names_of(machine: PlannedMachine, link: PlannedLink | None = None) -> tuple[str, ...]:
    own = (link.dns_name,) if link is not None and link.dns_name else ()
    names = (machine.hostname, machine.name, machine.inventory_hostname, *own)
    return tuple(dict.fromkeys(names))
