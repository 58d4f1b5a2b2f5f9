"""Machines and wires of a lab, joined: what networks there are, and who has which address there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from pytest_carthage.labs.commands import Configured, Interface, configured
from pytest_carthage.labs.expressions import Call, Method, Ref, Written
from pytest_carthage.labs.lab import Lab
from pytest_carthage.model.machine import Machine
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.network import Network
from pytest_carthage.roles.startup import Startup

__all__ = ["Node", "Wire", "join"]


@dataclass(slots=True, kw_only=True)
class Wire:
    """What becomes a network."""

    #: what its member is to be called
    wanted: str
    place: Place
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Node:
    """What becomes a machine."""

    name: str
    place: Place
    image: Written | None
    #: interface to wire, and to hardware address
    links: dict[str, Wire] = field(default_factory=dict)
    macs: dict[str, str] = field(default_factory=dict)
    #: what it runs when it starts
    commands: list[str] = field(default_factory=list)
    arguments: dict[str, Any] = field(default_factory=dict)
    #: names of nodes before it
    after: list[str] = field(default_factory=list)


def join(lab: Lab, nodes: Mapping[str, Node], wires: Iterable[Wire]) -> None:
    """Have networks and machines in a lab, which has claimed their names."""
    made = {
        name: configured(node.commands, set(node.links)) if node.commands else Configured()
        for name, node in nodes.items()
    }
    networks = {id(wire): _network(lab, wire, nodes, made) for wire in wires}
    members = lab.machines
    for name, node in nodes.items():
        links = _links(name, node, networks, nodes, made)
        arguments: dict[str, Any] = {"links": links} if links else {}
        routes = _routes(name, node, nodes, made)
        arguments |= {"routes": routes} if routes else {}
        if len(node.links) > 1:
            arguments["forward"] = True  # as the kernel of a container's host does
        rest = _in_order(node.commands, made[name])
        if rest:
            startup = Call(function=Startup, name="Startup", kwargs={"commands": tuple(rest)})
            arguments["roles"] = [startup]
        if members[name].replace("_", "-") != name:
            arguments["hostname"] = name
        after = [
            Ref(member) if (member := members[other]) in lab.members else member
            for other in node.after
            if other in nodes
        ]
        arguments |= node.arguments
        arguments |= {"after": after} if after else {}
        written = Call(
            function=Machine,
            name="Machine",
            args=() if node.image is None else (node.image,),
            kwargs=arguments,
        )
        lab.add(members[name], written, node.place)


def _in_order(commands: list[str], made: Configured) -> list[str]:
    """What remains of commands, those that could not be declared among them, as they stood."""
    again = [" ".join(line.split()) for line in made.rest]
    return [line for line in commands if " ".join(line.split()) in again]


def _addresses_of(
    wire: Wire, nodes: Mapping[str, Node], made: Mapping[str, Configured]
) -> list[tuple[str, str, Interface]]:
    return [
        (name, interface, address)
        for name, node in nodes.items()
        for interface, own in node.links.items()
        if own is wire
        for address in made[name].addresses.get(interface, ())
    ]


def _network(
    lab: Lab, wire: Wire, nodes: Mapping[str, Node], made: Mapping[str, Configured]
) -> Ref:
    """Declare a network, with the subnets that all addresses on it are of."""
    subnets = []
    for version in (4, 6):
        rows = [row for row in _addresses_of(wire, nodes, made) if row[2].version == version]
        if not rows:
            continue
        addresses = [address.ip for _, _, address in rows]
        if len({str(row[2].network) for row in rows}) == 1 and len(set(addresses)) == len(rows):
            subnets.append(str(rows[0][2].network))
            continue
        for name, interface, address in rows:  # not what we declare: it stays a command
            made[name].addresses[interface].remove(address)
            made[name].rest.append(made[name].origin[address])
    given = wire.arguments.pop("subnets", [])
    call = Call(
        function=Network, name="Network", args=tuple(given or subnets), kwargs=wire.arguments
    )
    return lab.add(lab.name_for(wire.wanted), call, wire.place)


def _neighbours(
    name: str, node: Node, nodes: Mapping[str, Node], made: Mapping[str, Configured]
) -> dict[str, str]:
    """Addresses of others that it can be sure to reach, each with the interface there."""
    return {
        str(address.ip): interface
        for interface, wire in node.links.items()
        for other, _, address in _addresses_of(wire, nodes, made)
        if other != name
        and any(own.version == address.version for own in made[name].addresses.get(interface, ()))
    }


def _links(
    name: str,
    node: Node,
    networks: Mapping[int, Ref],
    nodes: Mapping[str, Node],
    made: Mapping[str, Configured],
) -> dict[str, Method]:
    near = _neighbours(name, node, nodes, made)
    gateways: dict[str, str] = {}
    for via in made[name].gateways:
        interface = near.get(str(ip_address(via)))
        if interface is None or interface in gateways:
            made[name].rest.append(made[name].origin[f"default {via}"])
        else:
            gateways[interface] = via
    links = {}
    for interface, wire in node.links.items():
        addresses = [str(address.ip) for address in made[name].addresses.get(interface, ())]
        more = {"gateway": gateways[interface]} if interface in gateways else {}
        if interface in node.macs:
            more["mac"] = node.macs[interface]
        links[interface] = Method(
            of=networks[id(wire)], name="at", args=tuple(addresses) or (None,), kwargs=more
        )
    return links


def _routes(
    name: str, node: Node, nodes: Mapping[str, Node], made: Mapping[str, Configured]
) -> dict[str, str]:
    near = _neighbours(name, node, nodes, made)
    routes = {}
    for destination, via in made[name].routes.items():
        if str(ip_address(via)) in near:
            routes[destination] = via
        else:
            made[name].rest.append(made[name].origin[f"{destination} {via}"])
    return routes
