"""What makes a layout right: every rule on its machines together, and what follows from them.

The rules are the same when a layout class is created and when a machine joins a live layout;
a :class:`Neighbourhood` holds what is there already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from itertools import combinations
from types import MappingProxyType

from pytest_carthage.errors import LayoutError
from pytest_carthage.model.addressing import first_free, locate
from pytest_carthage.model.fault import Fault
from pytest_carthage.model.graph import cycle
from pytest_carthage.model.machine import Machine
from pytest_carthage.model.network import Address, AnyNetwork, Link, Network
from pytest_carthage.model.place import Place

__all__ = ["Decided", "DecidedLink", "DecidedRoute", "Neighbourhood", "decide"]

_LONGEST_NAME = 63  # RFC 1035 for a label; the kernel takes 64 bytes for the whole name
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedLink:
    """A link whose network and addresses are known."""

    network: str
    subnet: AnyNetwork
    address: Address | None
    gateway: Address | None
    mac: str | None
    mtu: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedRoute:
    """A route whose next hop is known."""

    destination: AnyNetwork
    via: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What follows from a machine's declaration in its layout."""

    hostname: str
    links: Mapping[str, DecidedLink]
    routes: tuple[DecidedRoute, ...]
    forward: bool
    #: interfaces behind whose address everything that leaves there hides
    masquerade: frozenset[str]
    after: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Neighbourhood:
    """The layout around the machines that are being decided."""

    layout: str
    #: name to subnet
    networks: Mapping[str, AnyNetwork]
    #: which member a declaration is, as in ``"lan"``; None: it is none of this layout
    network_of: Callable[[Network], str | None]
    #: which members a machine object is
    machine_of: Callable[[Machine], Sequence[str]]
    #: network to address to the machine that has it
    addresses: dict[str, dict[Address, str]] = field(default_factory=dict)
    #: network to hardware address to the machine that has it
    macs: dict[str, dict[str, str]] = field(default_factory=dict)
    #: lower-case host name to the machine that has it
    names: dict[str, str] = field(default_factory=dict)
    #: machine to the machines that it waits for
    after: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def error(self, machine: str, what: str, remedy: str, place: Place) -> LayoutError:
        """The error about one machine of this layout."""
        fault = Fault(what=what, remedy=remedy, place=place)
        return fault.error(f"machine {machine!r} of layout {self.layout!r}")


def decide(machines: Mapping[str, Machine], around: Neighbourhood) -> dict[str, Decided]:
    """Check the machines against each other and what is around them; give each its addresses.

    Addresses that the author fixed go first; ``"auto"`` gets what is left, in order.
    ``around`` is updated with the machines.

    :raises LayoutError: the first rule that is broken.
    """
    for name, machine in machines.items():
        for fault in machine.faults:
            raise fault.error(f"machine {name!r} of layout {around.layout!r}")
    hostnames = {name: _claim_names(name, machine, around) for name, machine in machines.items()}
    after = _order(machines, around)
    networks = {
        name: {
            interface: _network(name, interface, link, around)
            for interface, link in machine.links.items()
        }
        for name, machine in machines.items()
    }
    for name, machine in machines.items():
        _refuse_overlap(name, machine, networks[name], around)
    addresses = _addresses(machines, networks, around)
    _claim_macs(machines, networks, around)
    return {
        name: _decide_one(
            name,
            machine,
            hostname=hostnames[name],
            networks=networks[name],
            addresses=addresses[name],
            after=after[name],
            around=around,
        )
        for name, machine in machines.items()
    }


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
    for claimed in dict.fromkeys((hostname.lower(), name.lower())):
        other = around.names.setdefault(claimed, name)
        if other != name:
            raise around.error(
                name,
                f"host name {claimed!r} is taken by machine {other!r}",
                f'hostname="{claimed}-2"',
                machine.place,
            )
    return hostname


def _order(machines: Mapping[str, Machine], around: Neighbourhood) -> dict[str, tuple[str, ...]]:
    """The names that each machine waits for."""
    known = {*machines, *around.after}
    for name, machine in machines.items():
        waits: list[str] = []
        for one in machine.after:
            names = [one] if isinstance(one, str) else around.machine_of(one)
            for other in names:
                if other not in known:
                    raise around.error(
                        name,
                        f"after={other!r}: the layout has no such machine,"
                        f" it has {_listed(known - {name})}",
                        "the name of one of them",
                        machine.place,
                    )
            if not names:
                raise around.error(
                    name,
                    f"after={one!r}: this machine is no member of the layout",
                    f"a member, one of {_listed(known - {name})}",
                    machine.place,
                )
            waits.extend(names)
        around.after[name] = tuple(dict.fromkeys(waits))
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


def _network(name: str, interface: str, link: Link, around: Neighbourhood) -> str:
    network = around.network_of(link.network)
    if network is None:
        called = f" {link.network.name!r}" if link.network.name else ""
        raise around.error(
            name,
            f"interface {interface!r} is on network{called} {link.network.subnet},"
            f" which is no member of the layout; its networks are {_listed(around.networks)}",
            f'{link.network.name or "lan"} = Network("{link.network.subnet}") in the layout,'
            " and a link to that",
            link.place,
        )
    return network


def _refuse_overlap(
    name: str, machine: Machine, networks: Mapping[str, str], around: Neighbourhood
) -> None:
    """Two networks may have the same addresses, as long as no machine has to tell them apart."""
    for (one, first), (other, second) in combinations(networks.items(), 2):
        subnets = around.networks[first], around.networks[second]
        if first != second and subnets[0].overlaps(subnets[1]):
            raise around.error(
                name,
                f"interface {one!r} is on network {first!r} ({subnets[0]}) and interface"
                f" {other!r} on network {second!r} ({subnets[1]}), which overlap",
                "networks with different addresses, or a machine between them",
                machine.links[other].place,
            )


def _addresses(
    machines: Mapping[str, Machine],
    networks: Mapping[str, Mapping[str, str]],
    around: Neighbourhood,
) -> dict[str, dict[str, Address | None]]:
    """Machine to interface to address; the fixed ones first."""
    found: dict[str, dict[str, Address | None]] = {name: {} for name in machines}
    waiting: list[tuple[str, str, Link]] = []
    for name, machine in machines.items():
        for interface, link in machine.links.items():
            if link.address == "auto":
                waiting.append((name, interface, link))
            elif link.address is not None:
                network = networks[name][interface]
                address = _locate(name, interface, "address", link.address, link, network, around)
                _claim_address(name, interface, address, link, network, around)
                found[name][interface] = address
    for name, interface, link in waiting:
        network = networks[name][interface]
        taken = around.addresses.setdefault(network, {})
        free = first_free(around.networks[network], taken)
        if free is None:
            raise around.error(
                name,
                f"interface {interface!r}: no address is left in network {network!r}"
                f" ({around.networks[network]}) for 'auto'",
                "a larger network",
                link.place,
            )
        taken[free] = name
        found[name][interface] = free
    return found


def _locate(
    name: str,
    interface: str,
    what: str,
    written: str | Address,
    link: Link,
    network: str,
    around: Neighbourhood,
) -> Address:
    subnet = around.networks[network]
    try:
        return locate(written, subnet)
    except ValueError as error:
        having = _inhabitants(name, network, around) if what == "gateway" else ""
        raise around.error(
            name,
            f"{what} {str(written)!r} of interface {interface!r} {error}"
            f" network {network!r} ({subnet})",
            having or f'{what} "{first_free(subnet, around.addresses.get(network, {}))}"',
            link.place,
        ) from None


def _inhabitants(name: str, network: str, around: Neighbourhood) -> str:
    """Some addresses that other machines have, as in ``10.0.0.1 (gw), 10.0.0.2 (db)``."""
    taken = around.addresses.get(network, {})
    others = [f"{address} ({owner})" for address, owner in taken.items() if owner != name]
    return ", ".join(others[:5])


def _claim_address(
    name: str,
    interface: str,
    address: Address,
    link: Link,
    network: str,
    around: Neighbourhood,
) -> None:
    taken = around.addresses.setdefault(network, {})
    if address in taken:
        free = first_free(around.networks[network], taken)
        raise around.error(
            name,
            f"address '{address}' of interface {interface!r} is taken by machine"
            f" {taken[address]!r} in network {network!r}",
            f'"{free}", or "auto"' if free else "a larger network",
            link.place,
        )
    taken[address] = name


def _claim_macs(
    machines: Mapping[str, Machine],
    networks: Mapping[str, Mapping[str, str]],
    around: Neighbourhood,
) -> None:
    for name, machine in machines.items():
        for interface, link in machine.links.items():
            network = networks[name][interface]
            if link.mac is None:
                continue
            taken = around.macs.setdefault(network, {})
            if link.mac in taken:
                raise around.error(
                    name,
                    f"mac '{link.mac}' of interface {interface!r} is taken by machine"
                    f" {taken[link.mac]!r} in network {network!r}",
                    "another one, or leave it out",
                    link.place,
                )
            taken[link.mac] = name


def _decide_one(
    name: str,
    machine: Machine,
    *,
    hostname: str,
    networks: Mapping[str, str],
    addresses: Mapping[str, Address | None],
    after: tuple[str, ...],
    around: Neighbourhood,
) -> Decided:
    links: dict[str, DecidedLink] = {}
    for interface, link in machine.links.items():
        network = networks[interface]
        links[interface] = DecidedLink(
            network=network,
            subnet=around.networks[network],
            address=addresses.get(interface),
            gateway=_gateway(name, interface, link, network, addresses.get(interface), around),
            mac=link.mac,
            mtu=link.mtu,
        )
    routes = _routes(name, machine, links, around)
    _refuse_two_defaults(name, machine, links, routes, around)
    masquerade = _masquerade(name, machine, around)
    return Decided(
        hostname=hostname,
        links=MappingProxyType(links),
        routes=routes,
        forward=machine.forward or bool(masquerade) or any(r.forward for r in machine.roles),
        masquerade=masquerade,
        after=after,
    )


def _gateway(
    name: str,
    interface: str,
    link: Link,
    network: str,
    own: Address | None,
    around: Neighbourhood,
) -> Address | None:
    if link.gateway is None:
        return None
    gateway = _locate(name, interface, "gateway", link.gateway, link, network, around)
    what = f"gateway '{gateway}' of interface {interface!r}"
    if own is None:
        raise around.error(
            name,
            f"{what} is of no use without an address of its own",
            'an address, such as "auto"',
            link.place,
        )
    _refuse_nobody(name, what, gateway, network, link.place, around)
    return gateway


def _refuse_nobody(
    name: str, what: str, hop: Address, network: str, place: Place, around: Neighbourhood
) -> None:
    """A next hop must be another machine on the same network."""
    taken = around.addresses.get(network, {})
    if taken.get(hop, name) != name:
        return
    having = _inhabitants(name, network, around)
    raise around.error(
        name,
        f"{what} is the machine's own address"
        if hop in taken
        else f"{what} is nobody's address in network {network!r}",
        f"the address of another machine there: {having}"
        if having
        else f"a machine with address {hop} in network {network!r}",
        place,
    )


def _routes(
    name: str, machine: Machine, links: Mapping[str, DecidedLink], around: Neighbourhood
) -> tuple[DecidedRoute, ...]:
    found: dict[AnyNetwork, DecidedRoute] = {}
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
        if destination in found:
            raise around.error(
                name,
                f"two routes go to '{destination}'",
                "leave one of them out",
                machine.place,
            )
        what = f"next hop '{via}' of the route to '{written}'"
        _refuse_nobody(name, what, via, network, machine.place, around)
        found[destination] = DecidedRoute(destination=destination, via=via)
    return tuple(found.values())


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
        try:
            candidates[link.network] = locate(hop, link.subnet)
        except ValueError:
            continue
    inhabited = {
        network: address
        for network, address in candidates.items()
        if address in around.addresses.get(network, {})
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
    on = ", ".join(f"{link.network!r} ({link.subnet})" for link in links.values())
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
    for version in (4, 6):
        hops = [
            f"{link.gateway} (gateway of {interface!r})"
            for interface, link in links.items()
            if link.gateway is not None and link.gateway.version == version
        ]
        hops += [
            f"{route.via} (routes)"
            for route in routes
            if route.via.version == version and route.destination.prefixlen == 0
        ]
        if len(hops) > 1:
            raise around.error(
                name,
                f"there are {len(hops)} default routes: {', '.join(hops)}",
                "one gateway=, and routes={...} for what lies behind the others",
                machine.place,
            )


def _masquerade(name: str, machine: Machine, around: Neighbourhood) -> frozenset[str]:
    found = list(machine.masquerade)
    for role in machine.roles:
        found.extend([role.masquerade] if isinstance(role.masquerade, str) else role.masquerade)
    for interface in found:
        if interface not in machine.links:
            raise around.error(
                name,
                f"masquerade={interface!r}: the machine has no such interface,"
                f" it has {_listed(machine.links)}",
                "the name of one of them",
                machine.place,
            )
    return frozenset(found)


def _listed(names: Mapping[str, object] | set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "none"
