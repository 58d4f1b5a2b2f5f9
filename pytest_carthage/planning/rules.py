"""What makes a layout right: every rule on its machines together, and what follows from them.

The rules are the same when a layout class is created and when a machine joins a live layout;
a :class:`Neighbourhood` holds what is there already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, cast

from pytest_carthage.errors import LayoutError
from pytest_carthage.model.addresses.addressing import locate
from pytest_carthage.model.forward import Forward
from pytest_carthage.model.machine import Machine
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.names import host_mistake, inventory_name
from pytest_carthage.model.network import Address, AnyNetwork, Network
from pytest_carthage.model.role import several
from pytest_carthage.planning.linking import DecidedLink, Pools, decide_links, refuse_nobody
from pytest_carthage.planning.order import cycle

if TYPE_CHECKING:
    from pytest_carthage.planning.plan import PlannedNetwork

__all__ = [
    "Decided",
    "DecidedForward",
    "DecidedLink",
    "DecidedRoute",
    "Neighbourhood",
    "decide",
]

_LONGEST_NAME = 63  # RFC 1035 for a label; the kernel takes 64 bytes for the whole name
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedRoute:
    """A route whose next hop is known."""

    destination: AnyNetwork
    via: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedForward:
    """A port that leads to a machine whose address is known."""

    interface: str
    protocol: Literal["tcp", "udp"]
    port: int
    to: Address
    to_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What follows from a machine's declaration in its layout."""

    hostname: str
    links: Mapping[str, DecidedLink]
    routes: tuple[DecidedRoute, ...]
    forwards: tuple[DecidedForward, ...]
    forward: bool
    after: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Neighbourhood:
    """The layout around the machines that are being decided."""

    layout: str
    #: names of the networks
    networks: Mapping[str, Network | PlannedNetwork]
    #: which member a declaration leads to, by name and as it is declared now; None: it is none
    network_of: Callable[[Network], tuple[str, Network] | None]
    #: which members a machine object is
    machine_of: Callable[[Machine], Sequence[str]]
    #: network to address to the machine that has it
    addresses: dict[str, dict[Address, str]] = field(default_factory=dict)
    #: address on no network to the machine that has it
    loopbacks: dict[Address, str] = field(default_factory=dict)
    #: network to hardware address to the machine that has it
    macs: dict[str, dict[str, str]] = field(default_factory=dict)
    #: network to addresses that belong to something outside of the layout
    external: dict[str, set[Address]] = field(default_factory=dict)
    #: network to the machines that serve DHCP there, or advertise a prefix
    servers: dict[str, list[str]] = field(default_factory=dict)
    #: service to the machines whose roles offer it
    offers: dict[str, list[str]] = field(default_factory=dict)
    #: network that has two ends at most, to those that it has
    ends: dict[str, list[str]] = field(default_factory=dict)
    #: tunnels that nobody can join any more
    sealed_tunnels: frozenset[str] = frozenset()
    pools: Pools = field(default_factory=Pools)
    #: lower-case host name to the machine that has it
    names: dict[str, str] = field(default_factory=dict)
    #: lower-case name that a link has in the DNS to the machine whose link it is, and its interface
    dns_names: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: machine to the machines that it waits for
    after: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def reachable(self) -> Mapping[str, Mapping[Address, str]]:
        """:attr:`addresses` of the networks that are not external."""
        return {
            network: taken
            for network, taken in self.addresses.items()
            if network not in self.networks or self.networks[network].external is None
        }

    def error(self, machine: str, what: str, remedy: str, place: Place) -> LayoutError:
        """The error about one machine of this layout."""
        mistake = Mistake(what=what, remedy=remedy, place=place)
        return mistake.error(f"machine {machine!r} of layout {self.layout!r}")


def decide(machines: Mapping[str, Machine], around: Neighbourhood) -> dict[str, Decided]:
    """Check the machines against each other and what is around them; give each its addresses.

    Addresses that the author fixed go first; ``"auto"`` gets what is left, in order.
    ``around`` is updated with the machines.

    :raises LayoutError: the first rule that is broken.
    """
    for name, machine in machines.items():
        for mistake in machine.mistakes:
            raise mistake.error(f"machine {name!r} of layout {around.layout!r}")
    hostnames = {name: _claim_names(name, machine, around) for name, machine in machines.items()}
    _refuse_borrowed_names(machines, around)
    _note_servers(machines, around)
    _note_offers(machines, around)
    links = decide_links(machines, hostnames, around)
    _claim_loopbacks(machines, around)
    after = _order(machines, links, around)
    return {
        name: _decide_one(
            name,
            machine,
            hostname=hostnames[name],
            links=links[name],
            after=after[name],
            around=around,
        )
        for name, machine in machines.items()
    }


def _claim_loopbacks(machines: Mapping[str, Machine], around: Neighbourhood) -> None:
    """An address on no network is one machine's, and on no network."""
    for name, machine in machines.items():
        for address in machine.loopback:
            owner = around.loopbacks.setdefault(address, name)
            if owner != name:
                raise around.error(
                    name,
                    f"loopback address '{address}' is that of machine {owner!r}",
                    "another one",
                    machine.place,
                )
    for network, taken in around.reachable.items():
        for address in around.loopbacks.keys() & taken.keys():
            owner, other = around.loopbacks[address], taken[address]
            name = owner if owner in machines else other
            raise around.error(
                name,
                f"address '{address}' is the loopback address of machine {owner!r}, and that of"
                f" machine {other!r} in network {network!r}",
                "another one",
                machines[name].place,
            )


def _note_servers(machines: Mapping[str, Machine], around: Neighbourhood) -> None:
    for name, machine in machines.items():
        if not any(role.serves_dhcp for role in machine.parts):
            continue
        for link in machine.links.values():
            entry = around.network_of(link.network) if link.network is not None else None
            if entry is not None:
                around.servers.setdefault(entry[0], []).append(name)


def _note_offers(machines: Mapping[str, Machine], around: Neighbourhood) -> None:
    """Who offers what; whoever needs something must find it."""
    for name, machine in machines.items():
        for role in machine.parts:
            for service in several(role.offers):
                if name not in around.offers.setdefault(service, []):
                    around.offers[service].append(name)
    for name, machine in machines.items():
        for role in machine.parts:
            for service in several(role.needs):
                if service not in around.offers:
                    having = ", ".join(
                        f"{one!r} (by {', '.join(map(repr, by))})"
                        for one, by in sorted(around.offers.items())
                    )
                    raise around.error(
                        name,
                        f"its role {type(role).__name__} needs {service!r}, which no machine of"
                        f" the layout offers; offered is {having or 'nothing'}",
                        f"a machine with a role whose offers have {service!r}",
                        machine.place,
                    )


def _claim_names(name: str, machine: Machine, around: Neighbourhood) -> str:
    """The machine's host name; it and the machine's own name stand in everybody's hosts file."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise around.error(
            name,
            f"the machine's name has {len(name)} characters, at most {_LONGEST_NAME} are possible"
            if len(name) > _LONGEST_NAME
            else "the machine's name has other characters than A-Z a-z 0-9 _ . -",
            "a name such as 'web-1'",
            machine.place,
        )
    hostname = machine.hostname or name.replace("_", "-").strip("-.")
    if len(hostname) > _LONGEST_NAME:
        raise around.error(
            name,
            f"host name {hostname!r} has {len(hostname)} characters,"
            f" the kernel and the DNS take at most {_LONGEST_NAME}",
            f'hostname="{hostname[:12].rstrip("-.")}"',
            machine.place,
        )
    if not all(_LABEL.fullmatch(label) for label in hostname.split(".")):
        raise around.error(
            name,
            f"host name {hostname!r} is not made of letters, digits and inner hyphens",
            f'hostname="{re.sub("[^A-Za-z0-9]+", "-", hostname).strip("-") or "web"}"',
            machine.place,
        )
    _refuse_reserved(name, hostname, machine, around)
    for claimed in dict.fromkeys((hostname.lower(), name.lower())):
        other = around.names.setdefault(claimed, name)
        if other != name:
            raise around.error(
                name,
                f"host name {claimed!r} is taken by machine {other!r}",
                f'hostname="{claimed}-2"',
                machine.place,
            )
    inventory_hostname = inventory_name(name, machine.inventory_hostname)
    if inventory_hostname != name:
        other = around.names.setdefault(inventory_hostname.lower(), name)
        if other != name:
            raise around.error(
                name,
                f"inventory_hostname {inventory_hostname!r} is taken by machine {other!r}",
                f'inventory_hostname="{name}.example"',
                machine.place,
            )
    return hostname


def _refuse_reserved(name: str, hostname: str, machine: Machine, around: Neighbourhood) -> None:
    """Names that mean something else to who looks them up, or to Ansible."""
    if name[-1] in "-." or ".." in name:
        raise around.error(
            name,
            "the machine's name ends with - or ., or has .. in it, and cannot be looked up",
            f"{name.strip('-.').replace('..', '.')!r}",
            machine.place,
        )
    for title, looked_up, remedy in (
        ("host name", hostname, f'hostname="{name}-1"'),
        ("the machine's name", name, f"'{name}-1'"),
    ):
        if (wrong := host_mistake(looked_up)) is not None:
            raise around.error(name, f"{title} {looked_up!r} {wrong}", remedy, machine.place)


def _refuse_borrowed_names(machines: Mapping[str, Machine], around: Neighbourhood) -> None:
    """A link's name must not lead away from the machine that is called so."""
    for name, machine in machines.items():
        for interface, link in machine.links.items():
            owner = around.names.get((link.dns_name or "").lower(), name)
            if owner != name:
                raise around.error(
                    name,
                    f"dns_name {link.dns_name!r} of interface {interface!r} is the name of"
                    f" machine {owner!r}",
                    "another name",
                    link.place,
                )
        for called in (machine.hostname or name, name):
            other, interface = around.dns_names.get(called.lower(), (name, ""))
            if other != name:
                raise around.error(
                    name,
                    f"host name {called!r} is the dns_name of interface {interface!r} of machine"
                    f" {other!r}",
                    "another name",
                    machine.place,
                )


def _order(
    machines: Mapping[str, Machine],
    links: Mapping[str, Mapping[str, DecidedLink]],
    around: Neighbourhood,
) -> dict[str, tuple[str, ...]]:
    """The names that each machine waits for: those it names, and whoever gives it addresses."""
    machine_names = {*machines, *around.after}
    for name, machine in machines.items():
        waits: list[str] = []
        for waited in machine.after:
            names = [waited] if isinstance(waited, str) else around.machine_of(waited)
            for other in names:
                if other not in machine_names:
                    raise around.error(
                        name,
                        f"after={other!r}: the layout has no such machine,"
                        f" it has {_listed(machine_names - {name})}",
                        "the name of one of them",
                        machine.place,
                    )
            if not names:
                raise around.error(
                    name,
                    f"after={waited!r}: this machine is no member of the layout",
                    f"a member, one of {_listed(machine_names - {name})}",
                    machine.place,
                )
            waits.extend(names)
        for link in links[name].values():
            if any(addressing.asks for addressing in link.addressings):
                waits.extend(one for one in around.servers[link.network] if one != name)
        around.after[name] = tuple(dict.fromkeys(waits))
    for name, machine in machines.items():
        for role in machine.parts:
            for service in several(role.needs):
                _wait_for_offers(name, around.offers[service], around.after)
    if round_trip := cycle(around.after):
        first = next(name for name in machines if name in round_trip)
        start = round_trip.index(first)
        chain = [*round_trip[start:-1], *round_trip[:start], first]
        raise around.error(
            first,
            f"after= goes in a circle: {' after '.join(repr(name) for name in chain)}",
            "leave one of them out",
            machines[first].place,
        )
    return {name: around.after[name] for name in machines}


def _wait_for_offers(name: str, offering: Sequence[str], after: dict[str, tuple[str, ...]]) -> None:
    """Have a machine wait for those that offer what it needs, where these do not wait for it."""
    if name in offering:
        return
    for other in offering:
        if other not in after[name] and name not in _awaited(other, after):
            after[name] = (*after[name], other)


def _awaited(name: str, after: Mapping[str, Sequence[str]]) -> set[str]:
    """Those that a machine waits for, and those that they wait for."""
    awaited: set[str] = set()
    left = [name]
    while left:
        for other in after.get(left.pop(), ()):
            if other not in awaited:
                awaited.add(other)
                left.append(other)
    return awaited


def _decide_one(
    name: str,
    machine: Machine,
    *,
    hostname: str,
    links: Mapping[str, DecidedLink],
    after: tuple[str, ...],
    around: Neighbourhood,
) -> Decided:
    links = _masquerade(name, machine, links, around)
    routes = _routes(name, machine, links, around)
    _refuse_two_defaults(name, machine, links, routes, around)
    forwards = _forwards(name, machine, links, around)
    # a host of one link may have inherited it from its network, and is no router
    masquerades = len(links) > 1 and any(
        one.masquerade for link in links.values() for one in link.addressings
    )
    return Decided(
        hostname=hostname,
        links=MappingProxyType(dict(links)),
        routes=routes,
        forwards=forwards,
        forward=machine.forward
        or masquerades
        or bool(forwards)
        or any(role.forward for role in machine.parts),
        after=after,
    )


def _forwards(
    name: str, machine: Machine, links: Mapping[str, DecidedLink], around: Neighbourhood
) -> tuple[DecidedForward, ...]:
    forwards: dict[tuple[str, str, int, int], DecidedForward] = {}
    for forward in _declared_forwards(machine):
        if not isinstance(forward, Forward):
            raise around.error(
                name,
                f"forwards has {forward!r}",
                'forwards=[Forward("wan0", 80, to="web")]',
                machine.place,
            )
        for mistake in forward.mistakes:
            raise around.error(name, mistake.what, mistake.remedy, mistake.place)
        subject = f"forward of port {forward.port} on {forward.interface!r}"
        if forward.interface not in links:
            raise around.error(
                name,
                f"{subject}: the machine has no such interface, it has {_listed(links)}",
                "the name of one of them",
                forward.place,
            )
        for to in _forwarded_to(name, subject, forward, links, around):
            key = forward.interface, forward.protocol, forward.port, to.version
            if key in forwards:
                raise around.error(
                    name,
                    f"{subject}: this port leads to {forwards[key].to} already",
                    "one of them",
                    forward.place,
                )
            forwards[key] = DecidedForward(
                interface=forward.interface,
                protocol=forward.protocol,
                port=forward.port,
                to=to,
                to_port=forward.to_port or forward.port,
            )
    return tuple(forwards.values())


def _declared_forwards(machine: Machine) -> Iterator[object]:
    """The machine's own, and those of its roles, which may have one that stands for itself."""
    yield from machine.forwards
    for role in machine.parts:
        forwards: object = role.forwards
        yield from forwards if isinstance(forwards, Iterable) else (forwards,)


def _forwarded_to(
    name: str,
    subject: str,
    forward: Forward,
    links: Mapping[str, DecidedLink],
    around: Neighbourhood,
) -> Sequence[Address]:
    """Where a port leads to: of a machine, one address of each family that the interface has."""
    versions = [one.network.version for one in links[forward.interface].addressings]
    if isinstance(forward.to, Machine):
        owners = set(around.machine_of(forward.to))
    else:
        try:
            whole = ip_address(cast("str | Address", forward.to))
        except ValueError:
            owners = {str(forward.to)}
        else:
            if whole.version not in versions:
                raise around.error(
                    name,
                    f"{subject} leads to '{whole}', and that interface has no address of"
                    f" IPv{whole.version} to be reached by",
                    f"an address of IPv{whole.version} for it",
                    forward.place,
                )
            return [whole]
    own_networks = [link.network for link in links.values()]
    back = links[forward.interface].network  # the last resort: where it came from
    order = sorted(
        around.reachable, key=lambda network: (network not in own_networks, network == back)
    )
    by_version: dict[int, Address] = {}
    for network in order:
        for address, owner in around.addresses[network].items():
            if owner in owners and owner != name and address.version in versions:
                by_version.setdefault(address.version, address)
    if by_version:
        return [by_version[version] for version in sorted(by_version)]
    having = {
        owner
        for taken in around.reachable.values()
        for address, owner in taken.items()
        if owner != name and address.version in versions
    }
    family = " or ".join(f"IPv{version}" for version in versions)
    raise around.error(
        name,
        f"{subject} leads to {forward.to!r}, which is no other machine of the layout with an"
        f" address of {family or 'any kind'}",
        f"an address, or one of {', '.join(map(repr, sorted(having)))}" if having else "an address",
        forward.place,
    )


def _routes(
    name: str, machine: Machine, links: Mapping[str, DecidedLink], around: Neighbourhood
) -> tuple[DecidedRoute, ...]:
    routes: dict[AnyNetwork, DecidedRoute] = {}
    for written, hop in machine.routes.items():
        via, network = _next_hop(name, machine, written, hop, links, around)
        everything = "0.0.0.0/0" if via.version == 4 else "::/0"
        try:
            destination = ip_network(everything if written == "default" else written)
        except ValueError as error:
            raise around.error(
                name,
                f"route to {written!r}: {error}",
                _subnet_remedy(written),
                machine.place,
            ) from None
        if destination.version != via.version:
            raise around.error(
                name,
                f"route to '{destination}' via '{via}' mixes IPv4 and IPv6",
                "a next hop of the same kind",
                machine.place,
            )
        if destination in routes:
            raise around.error(
                name,
                f"two routes go to '{destination}'",
                "leave one of them out",
                machine.place,
            )
        subject = f"next hop '{via}' of the route to '{written}'"
        refuse_nobody(name, subject, via, network, machine.place, around)
        routes[destination] = DecidedRoute(destination=destination, via=via)
    return tuple(routes.values())


def _subnet_remedy(written: str) -> str:
    try:
        return f'routes={{"{ip_network(written, strict=False)}": ...}}'
    except ValueError:
        return 'routes={"10.1.0.0/16": ...} or routes={"default": ...}'


def _next_hop(
    name: str,
    machine: Machine,
    destination: str,
    hop: str | Address,
    links: Mapping[str, DecidedLink],
    around: Neighbourhood,
) -> tuple[Address, str]:
    """The next hop, and the network that it is on."""
    candidates: dict[str, Address] = {}
    for link in links.values():
        for addressing in link.addressings:
            with suppress(ValueError):
                candidates[link.network] = locate(hop, addressing.network)
    inhabited = {
        network: address
        for network, address in candidates.items()
        if address in around.addresses.get(network, {})
        or address in around.external.get(network, ())
    }
    if len(inhabited) == 1 or len(candidates) == 1:
        network, address = next(iter((inhabited or candidates).items()))
        return address, network
    if candidates:
        meant = ", ".join(f"{address} ({network})" for network, address in candidates.items())
        raise around.error(
            name,
            f"next hop {str(hop)!r} of the route to {destination!r} can be any of {meant}",
            "the whole address",
            machine.place,
        )
    on = ", ".join(
        f"{link.network!r} ({one.network})" for link in links.values() for one in link.addressings
    )
    raise around.error(
        name,
        f"next hop {str(hop)!r} of the route to {destination!r} is on none of the machine's"
        f" networks: {on or 'it has none'}",
        "the address of another machine on one of them",
        machine.place,
    )


def _refuse_two_defaults(
    name: str,
    machine: Machine,
    links: Mapping[str, DecidedLink],
    routes: Sequence[DecidedRoute],
    around: Neighbourhood,
) -> None:
    """Of several default routes, each must have its own metric."""
    for version in (4, 6):
        hops = [
            (f"{one.gateway} (gateway of {interface!r})", one.metric or 0)
            for interface, link in links.items()
            for one in link.addressings
            if one.gateway is not None and one.gateway.version == version
        ]
        hops += [
            (f"{route.via} (routes)", 0)
            for route in routes
            if route.via.version == version and route.destination.prefixlen == 0
        ]
        metrics = [metric for _, metric in hops]
        if len(set(metrics)) < len(metrics):
            raise around.error(
                name,
                f"there are {len(hops)} default routes: {', '.join(hop for hop, _ in hops)}",
                "one gateway=, gateway=False on the others, and routes={...} for what lies behind"
                " them; or a metric= for each",
                machine.place,
            )


def _masquerade(
    name: str, machine: Machine, links: Mapping[str, DecidedLink], around: Neighbourhood
) -> Mapping[str, DecidedLink]:
    """The links, of which those that the machine and its roles name hide what leaves by them."""
    interfaces = list(machine.masquerade)
    for role in machine.parts:
        interfaces.extend(several(role.masquerade))
    hiding = dict(links)
    for interface in interfaces:
        if interface not in links:
            raise around.error(
                name,
                f"masquerade={interface!r}: the machine has no such interface,"
                f" it has {_listed(machine.links)}",
                "the name of one of them",
                machine.place,
            )
        link = links[interface]
        if not link.addressings:
            raise around.error(
                name,
                f"masquerade={interface!r}: that interface has no address to hide behind",
                "an address for it",
                machine.links[interface].place,
            )
        hiding[interface] = replace(
            link,
            v4=replace(link.v4, masquerade=True) if link.v4 is not None else None,
            v6=replace(link.v6, masquerade=True) if link.v6 is not None else None,
        )
    return hiding


def _listed(names: Mapping[str, object] | set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "none"
