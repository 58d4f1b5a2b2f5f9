"""Links: their networks, hardware addresses and addresses, decided for a whole layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Network
from itertools import combinations
from typing import TYPE_CHECKING

from pytest_carthage.model.addresses.hardware import from_mac, mac_address
from pytest_carthage.model.addresses.ipconfig import LinkContext
from pytest_carthage.model.addresses.resolution import (
    PlannedAddressing,
    PlannedSubnet,
    PlannedUnderlay,
    ResolvedLink,
    WrongValue,
    pool_of,
    resolve_link,
    with_prefix,
)
from pytest_carthage.model.network import Address, Network, NetworkLink, mtu_mistake

if TYPE_CHECKING:
    from pytest_carthage.model.machine import Machine
    from pytest_carthage.model.mistakes.place import Place
    from pytest_carthage.planning.rules import Neighbourhood

__all__ = ["DecidedLink", "Pools", "decide_links", "refuse_nobody"]

_SHOWN = 8
_USUAL_MTU = 1500
_OVERHEAD = {"vxlan": 50, "gre": 24}  # RFC 7348 over IPv4; RFC 2784 over IPv4


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedLink:
    """A link whose network and addresses are known."""

    #: empty: a trunk
    network: str
    mac: str
    mtu: int | None
    v4: PlannedAddressing | None
    v6: PlannedAddressing | None
    underlay: PlannedUnderlay | None = None

    @property
    def addressings(self) -> tuple[PlannedAddressing, ...]:
        """What it has, IPv4 first."""
        return tuple(one for one in (self.v4, self.v6) if one is not None)


@dataclass(slots=True)
class Pools:
    """Where ``"auto"`` goes on: what was passed by stays taken."""

    _running: dict[tuple[str, PlannedSubnet], Iterator[Address]] = field(default_factory=dict)

    def take(
        self, network: str, subnet: PlannedSubnet, taken: Mapping[Address, str]
    ) -> Address | None:
        """The lowest address that nobody has; None: the pool is exhausted."""
        running = self._running.setdefault((network, subnet), pool_of(subnet))
        return next((address for address in running if address not in taken), None)


@dataclass(slots=True, kw_only=True)
class _Work:
    """One link on its way."""

    machine: str
    interface: str
    link: NetworkLink
    network: str
    declared: Network | None
    mac: str = ""
    #: by version
    resolved: dict[int, ResolvedLink] = field(default_factory=dict)
    decided: dict[int, PlannedAddressing] = field(default_factory=dict)


def decide_links(
    machines: Mapping[str, Machine], hostnames: Mapping[str, str], around: Neighbourhood
) -> dict[str, dict[str, DecidedLink]]:
    """Machine to interface to link, for machines that join what is around them.

    :raises LayoutError: the first rule that is broken.
    """
    works = [
        _begin(name, interface, link, around)
        for name, machine in machines.items()
        for interface, link in machine.links.items()
    ]
    of_machine: dict[str, list[_Work]] = {name: [] for name in machines}
    for work in works:
        of_machine[work.machine].append(work)
    _claim_macs(works, around)
    for name, own in of_machine.items():
        for work in own:
            _resolve(work, hostnames[name], around)
        _refuse_overlap(own, around)
        _claim_ends(own, around)
        for work in own:
            _claim_fixed(work, around)
    for work in works:
        _claim_auto(work, around)
    for work in works:
        for version in work.decided:
            _settle_gateway(work, version, around)
    for name, machine in machines.items():
        _refuse_misfit(name, machine, of_machine[name], around)
    underlays = _underlays(works, around)
    decided: dict[str, dict[str, DecidedLink]] = {name: {} for name in machines}
    for work in works:
        decided[work.machine][work.interface] = DecidedLink(
            network=work.network,
            mac=work.mac,
            mtu=_mtu(work, machines[work.machine], around),
            v4=work.decided.get(4),
            v6=work.decided.get(6),
            underlay=underlays.get((work.machine, work.interface)),
        )
    return decided


def _begin(name: str, interface: str, link: NetworkLink, around: Neighbourhood) -> _Work:
    for member in (link.network, *link.carries):
        if member is None or around.network_of(member) is not None:
            continue
        called = f" {member.name!r}" if member.name else ""
        shown = ", ".join(str(subnet.network) for subnet in member.subnets if subnet is not None)
        raise around.error(
            name,
            f"interface {interface!r} is on network{called} {shown},"
            f" which is no member of the layout; its networks are {_listed(around.networks)}",
            f'{member.name or "lan"} = Network("{shown}") in the layout, and a link to that',
            link.place,
        )
    entry = around.network_of(link.network) if link.network is not None else None
    network, declared = entry if entry is not None else ("", None)
    carried = [around.network_of(one) for one in link.carries]
    as_it_is = replace(
        link, network=declared, carries=tuple(one[1] for one in carried if one is not None)
    )
    for mistake in as_it_is.mistakes:  # a subclass may have replaced the network by another kind
        raise around.error(
            name, f"{mistake.what} (interface {interface!r})", mistake.remedy, link.place
        )
    return _Work(machine=name, interface=interface, link=link, network=network, declared=declared)


def _claim_macs(works: list[_Work], around: Neighbourhood) -> None:
    places: dict[tuple[str, str], Place] = {}
    for work in works:
        mac = work.link.mac
        if mac is None:
            continue
        taken = around.macs.setdefault(work.network, {})
        if mac in taken:
            first = places.get((work.network, mac))
            raise around.error(
                work.machine,
                f"mac '{mac}' of interface {work.interface!r} is taken by machine"
                f" {taken[mac]!r} in network {work.network!r}"
                + (f" (declared at {first})" if first is not None else ""),
                "another one, or leave it out",
                work.link.place,
            )
        taken[mac] = work.machine
        places[work.network, mac] = work.link.place
        work.mac = mac
    everywhere = {mac for taken in around.macs.values() for mac in taken}
    for work in works:
        if not work.mac and work.link.kind != "external":
            work.mac = mac_address(around.layout, work.machine, work.interface, everywhere)
            everywhere.add(work.mac)
            around.macs.setdefault(work.network, {})[work.mac] = work.machine


def _resolve(work: _Work, hostname: str, around: Neighbourhood) -> None:
    if work.declared is None:
        return
    context = LinkContext(
        layout=around.layout,
        machine=work.machine,
        hostname=hostname,
        interface=work.interface,
        network=work.network,
        subnet=None,
        mac=work.mac,
    )
    for version in (4, 6):
        own, inherited = work.link.config(version), work.declared.config(version)
        if work.link.bare and own is None:
            continue
        if version == 6 and own is not None and not work.declared.ipv6:
            raise around.error(
                work.machine,
                f"interface {work.interface!r} has IPv6 on network {work.network!r}, which has"
                " ipv6=False",
                "leave one of them out",
                work.link.place,
            )
        try:
            resolved = resolve_link(own, inherited, context, name=work.network)
        except WrongValue as mistake:
            remedy = mistake.remedy
            if mistake.what.startswith("gateway"):
                remedy = _inhabitants(work, around) or remedy
            elif mistake.what.startswith("address") and remedy.startswith('address "'):
                remedy = _free(work, version, around) or remedy
            error = around.error(work.machine, mistake.what, remedy, work.link.place)
            raise error from mistake.__cause__  # a function of the author's failed
        if resolved is None:
            continue
        addressing = resolved.addressing
        has_address = resolved.fixed is not None or resolved.auto or addressing.asks
        is_bare = work.link.bare and not work.link.sets_itself
        has_address = has_address and not is_bare
        if not has_address and (is_bare or not addressing.secondary_addresses):
            if resolved.own_gateway and addressing.gateway is not None:
                raise around.error(
                    work.machine,
                    f"gateway '{addressing.gateway}' of interface {work.interface!r}"
                    " is of no use without an address of its own",
                    'an address, such as "auto"',
                    work.link.place,
                )
            continue
        if addressing.asks:
            _refuse_unserved(work, addressing, resolved, around)
        work.resolved[version] = resolved


def _free(work: _Work, version: int, around: Neighbourhood) -> str | None:
    """An address that nobody has, for a message."""
    subnet = work.declared.subnets[0 if version == 4 else 1] if work.declared is not None else None
    if subnet is None:
        return None
    having = {*around.addresses.get(work.network, ()), *around.external.get(work.network, ())}
    free = next((one for one in pool_of(subnet) if one not in having), None)
    return None if free is None else f'address "{free}"'


def _refuse_unserved(
    work: _Work, addressing: PlannedAddressing, resolved: ResolvedLink, around: Neighbourhood
) -> None:
    protocol = "dhcp" if addressing.dhcp else "slaac"
    if not around.servers.get(work.network):
        raise around.error(
            work.machine,
            f"{protocol} of interface {work.interface!r}: nobody serves it in network"
            f" {work.network!r}",
            "a machine there with roles=[DhcpServer()], or an address",
            work.link.place,
        )
    planned = resolved.fixed is not None or resolved.auto
    if addressing.dhcp and not planned and not resolved.subnet.dhcp_ranges:
        raise around.error(
            work.machine,
            f"dhcp of interface {work.interface!r}: network {work.network!r} has no dhcp_ranges"
            " to take an address from",
            'at("auto", dhcp=True) for a reserved one, or dhcp_ranges=[(".100", ".199")]',
            work.link.place,
        )


def _refuse_overlap(works: list[_Work], around: Neighbourhood) -> None:
    """Two networks may have the same addresses, as long as no machine has to tell them apart."""
    for work, other in combinations(works, 2):
        if work.network == other.network:
            continue
        for version, first in work.resolved.items():
            second = other.resolved.get(version)
            if second is None or not first.subnet.network.overlaps(second.subnet.network):
                continue
            raise around.error(
                work.machine,
                f"interface {work.interface!r} is on network {work.network!r}"
                f" ({first.subnet.network}) and interface {other.interface!r} on network"
                f" {other.network!r} ({second.subnet.network}), which overlap",
                "networks with different addresses, or a machine between them",
                other.link.place,
            )


def _claim_ends(works: list[_Work], around: Neighbourhood) -> None:
    """A wire has two ends, and so has a GRE tunnel."""
    for work in works:
        if work.declared is None or work.declared.kind not in ("point-to-point", "gre"):
            continue
        ends = around.ends.setdefault(work.network, [])
        if len(ends) == 2:
            raise around.error(
                work.machine,
                f"interface {work.interface!r}: network {work.network!r} of kind"
                f" {work.declared.kind!r} has its two ends already, at {' and '.join(ends)}",
                "a network of its own, or a bridged one",
                work.link.place,
            )
        ends.append(f"{work.machine}.{work.interface}")


def _claim_fixed(work: _Work, around: Neighbourhood) -> None:
    """Take the addresses that the author chose, before others get what is left."""
    for version, resolved in work.resolved.items():
        addressing = resolved.addressing
        external = around.external.setdefault(work.network, set())
        external.update(resolved.subnet.external_addresses)
        address = resolved.fixed
        if addressing.slaac:
            assert isinstance(addressing.network, IPv6Network)
            address = from_mac(work.mac, addressing.network)
        if address is not None:
            _claim(work, address, around)
            if not addressing.asks and not work.link.sets_itself:
                _refuse_served(work, "address", address, resolved, around)
            addressing = replace(
                addressing,
                address=with_prefix(address, addressing.network),
                sets_itself=work.link.sets_itself,
                is_expected=work.link.sets_itself,
            )
        for secondary in addressing.secondary_addresses:
            _claim(work, secondary.address.ip, around)
            _refuse_served(work, "secondary address", secondary.address.ip, resolved, around)
        work.decided[version] = addressing


def _refuse_served(
    work: _Work, subject: str, address: Address, resolved: ResolvedLink, around: Neighbourhood
) -> None:
    for low, high in resolved.subnet.dhcp_ranges:
        if int(low) <= int(address) <= int(high):
            raise around.error(
                work.machine,
                f"{subject} '{address}' of interface {work.interface!r} lies in the DHCP range"
                f" {low} to {high} of network {work.network!r}, somebody else may get it",
                "an address outside of the range, or dhcp=True to have it reserved",
                work.link.place,
            )


def _claim(work: _Work, address: Address, around: Neighbourhood) -> None:
    taken = around.addresses.setdefault(work.network, {})
    owner = taken.get(address)
    if owner is None and address in around.external.get(work.network, ()):
        owner = "outside of the layout (external_addresses)"
    elif owner is not None:
        owner = f"machine {owner!r}"
    if owner is not None:
        subnet = work.resolved[address.version].subnet
        having = {*taken, *around.external.get(work.network, ())}
        free = next((one for one in pool_of(subnet) if one not in having), None)
        raise around.error(
            work.machine,
            f"address '{address}' of interface {work.interface!r} is taken by {owner}"
            f" in network {work.network!r}",
            f'"{free}", or "auto"' if free else "a larger network",
            work.link.place,
        )
    taken[address] = work.machine


def _claim_auto(work: _Work, around: Neighbourhood) -> None:
    for version, resolved in work.resolved.items():
        if not resolved.auto:
            continue
        taken = around.addresses.setdefault(work.network, {})
        subnet = resolved.subnet
        # who is asked for names is somebody else, also when nobody has that address yet
        kept = {*around.external.get(work.network, ()), *subnet.dns_servers}
        free = around.pools.take(work.network, subnet, taken)
        while free is not None and free in kept:
            free = around.pools.take(work.network, subnet, taken)
        if free is None:
            where = "the pool of network" if subnet.pool else "network"
            having = [f"{one} ({owner})" for one, owner in taken.items() if one.version == version]
            more = f" and {len(having) - _SHOWN} more" if len(having) > _SHOWN else ""
            raise around.error(
                work.machine,
                f"interface {work.interface!r}: no address is left in {where}"
                f" {work.network!r} ({subnet.network}) for 'auto';"
                f" taken: {', '.join(having[:_SHOWN]) or 'none'}{more}",
                "a larger pool" if subnet.pool else "a larger network",
                work.link.place,
            )
        taken[free] = work.machine
        work.decided[version] = replace(
            work.decided[version], address=with_prefix(free, subnet.network)
        )


def _settle_gateway(work: _Work, version: int, around: Neighbourhood) -> None:
    addressing, resolved = work.decided[version], work.resolved[version]
    gateway = addressing.gateway
    if gateway is None:
        return
    taken = around.addresses.get(work.network, {})
    if taken.get(gateway) == work.machine and not resolved.own_gateway:
        work.decided[version] = replace(addressing, gateway=None)  # it is the gateway
        return
    refuse_nobody(
        work.machine,
        f"gateway '{gateway}' of interface {work.interface!r}",
        gateway,
        work.network,
        work.link.place,
        around,
    )


def refuse_nobody(
    name: str, subject: str, hop: Address, network: str, place: Place, around: Neighbourhood
) -> None:
    """Refuse a next hop that is not another machine on the same network.

    :raises LayoutError: it is not, and not declared as external either.
    """
    taken = around.addresses.get(network, {})
    if hop in around.external.get(network, ()) or taken.get(hop, name) != name:
        return
    others = [f"{address} ({owner})" for address, owner in taken.items() if owner != name]
    raise around.error(
        name,
        f"{subject} is the machine's own address"
        if hop in taken
        else f"{subject} is nobody's address in network {network!r}",
        f"the address of another machine there: {', '.join(others[:5])}"
        if others
        else f"a machine with address {hop} in network {network!r}, or external_addresses="
        f'["{hop}"] in its V{hop.version}Config',
        place,
    )


def _inhabitants(work: _Work, around: Neighbourhood) -> str:
    """Some addresses that other machines have, as in ``10.0.0.1 (gw), 10.0.0.2 (db)``."""
    taken = around.addresses.get(work.network, {})
    others = [f"{address} ({owner})" for address, owner in taken.items() if owner != work.machine]
    return ", ".join(others[:5])


def _refuse_misfit(name: str, machine: Machine, works: list[_Work], around: Neighbourhood) -> None:
    """What links stand on must be there and be able to carry them."""
    by_name = {work.interface: work for work in works}
    for work in works:
        for other in works[: works.index(work)]:
            _refuse_same_end(name, work, other, around)
        for member in work.link.bond:
            if member in by_name or sum(member in other.link.bond for other in works) > 1:
                raise around.error(
                    name,
                    f"interface {member!r} is in the bond {work.interface!r}"
                    " and used elsewhere, too",
                    "an interface of its own for each",
                    work.link.place,
                )
        for under in work.link.over:
            below = by_name.get(under)
            if below is None or below is work:
                raise around.error(
                    name,
                    f"interface {work.interface!r} is over {under!r}, which the machine does not"
                    f" have; it has {_listed(set(by_name) - {work.interface})}",
                    "the name of one of them",
                    work.link.place,
                )
            if work.link.kind == "vlan" and work.link.network not in below.link.carries:
                carried = ", ".join(repr(one.name) for one in below.link.carries) or "none"
                raise around.error(
                    name,
                    f"interface {work.interface!r} is over {under!r}, which does not carry network"
                    f" {work.network!r}; it carries {carried}",
                    f'links={{"{under}": trunk({work.network}, ...)}}',
                    work.link.place,
                )
            if work.link.kind in ("gre", "vxlan") and below.link.kind in ("gre", "vxlan", "trunk"):
                raise around.error(
                    name,
                    f"interface {work.interface!r} is over {under!r},"
                    f" which is of kind {below.link.kind!r}",
                    "an interface with an address of an ordinary network",
                    work.link.place,
                )


def _refuse_same_end(name: str, work: _Work, other: _Work, around: Neighbourhood) -> None:
    """Two interfaces of a machine that the kernel could not tell apart."""
    if work.link.kind != other.link.kind or work.link.kind not in ("vlan", "vxlan", "gre"):
        return
    remedy = "one of them"
    if work.network == other.network and work.link.kind == "vlan":
        if work.link.over != other.link.over:
            return
        relation = f"both over {work.link.over[0]!r} to network {work.network!r}"
    elif work.network == other.network:
        relation = f"both ends of the tunnel {work.network!r}"
    else:
        vnis = [one.declared.vni for one in (work, other) if one.declared is not None]
        if work.link.kind != "vxlan" or None in vnis or len(set(vnis)) == 2:
            return
        relation = (
            f"of tunnels {other.network!r} and {work.network!r}, which have the vni {vnis[0]}"
        )
        remedy = "another vni for one of them"
    raise around.error(
        name,
        f"interfaces {other.interface!r} and {work.interface!r} are {relation}",
        remedy,
        work.link.place,
    )


def _underlays(works: list[_Work], around: Neighbourhood) -> dict[tuple[str, str], PlannedUnderlay]:
    """Machine and interface to where its tunnel runs."""
    by_place = {(work.machine, work.interface): work for work in works}
    ends: dict[str, list[tuple[_Work, Address]]] = {}
    for work in works:
        if work.link.kind not in ("gre", "vxlan"):
            continue
        if work.network in around.sealed_tunnels:
            raise around.error(
                work.machine,
                f"interface {work.interface!r}: nobody can join the tunnel {work.network!r}"
                " of a live layout",
                "declare the machine in the layout",
                work.link.place,
            )
        below = by_place[work.machine, work.link.over[0]]
        having = below.decided.get(4)
        if having is None or having.address is None:
            raise around.error(
                work.machine,
                f"interface {work.interface!r} is over {below.interface!r},"
                " which has no IPv4 address that is known before",
                f"an address for {below.interface!r}",
                work.link.place,
            )
        ends.setdefault(work.network, []).append((work, having.address.ip))
    underlays: dict[tuple[str, str], PlannedUnderlay] = {}
    for network, members in ends.items():
        if len(members) == 1:
            work, _ = members[0]
            raise around.error(
                work.machine,
                f"interface {work.interface!r} is the only end of the tunnel {network!r}",
                "a link to it on another machine",
                work.link.place,
            )
        for work, local in members:
            remotes = tuple(address for other, address in members if other is not work)
            underlays[work.machine, work.interface] = PlannedUnderlay(local=local, remotes=remotes)
    return underlays


def _mtu(work: _Work, machine: Machine, around: Neighbourhood) -> int | None:
    mtu = work.link.mtu or (work.declared.mtu if work.declared is not None else None)
    carrier = ""
    if mtu is None and work.link.kind in _OVERHEAD:
        below = machine.links[work.link.over[0]]
        entry = around.network_of(below.network) if below.network is not None else None
        carried = below.mtu or (entry[1].mtu if entry is not None else None) or _USUAL_MTU
        mtu = carried - _OVERHEAD[work.link.kind]
        carrier = f", over {work.link.over[0]!r} with {carried}"
    mistake = mtu_mistake(mtu, tuple(work.resolved))
    if mistake is not None:
        raise around.error(
            work.machine,
            f"{mistake.what} (interface {work.interface!r}{carrier})",
            f"a larger mtu for {work.link.over[0]!r}" if carrier else mistake.remedy,
            work.link.place,
        )
    return mtu


def _listed(names: Mapping[str, object] | set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "none"
