"""A plan as plain values, for other processes and programs; and back, as far as it is drawn.

The environment's description on disk, ``pytest-carthage plan --json`` and ``ls --json`` have
this form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from pytest_carthage.model.image import Image
from pytest_carthage.model.role import Role
from pytest_carthage.planning.plan import (
    Plan,
    PlannedAddressing,
    PlannedLink,
    PlannedMachine,
    PlannedNetwork,
    PlannedRoute,
    PlannedSecondary,
    PlannedSubnet,
)

__all__ = ["recall", "sketch"]


def sketch(plan: Plan) -> dict[str, Any]:
    """Describe a plan: its layout, networks and machines."""
    return {
        "layout": plan.layout,
        "networks": {
            network.name: {
                "subnet": str(network.subnet) if network.subnet is not None else None,
                "subnets": [str(one.network) for one in network.subnets],
                "kind": network.kind,
                "vlan_id": network.vlan_id,
                "mtu": network.mtu,
            }
            for network in plan.networks.values()
        },
        "machines": {name: _sketch_machine(machine) for name, machine in plan.machines.items()},
    }


def _sketch_machine(machine: PlannedMachine) -> dict[str, Any]:
    return {
        "target": machine.target,
        "hostname": machine.hostname,
        "addresses": {
            link.interface: str(link.address) for link in machine.links if link.address is not None
        },
        "image": machine.image.name if machine.image is not None else None,
        "init": machine.init,
        "roles": [type(role).__name__ for role in machine.roles],
        "forward": machine.forward,
        "groups": list(machine.groups),
        "after": list(machine.after),
        "links": [
            {
                "interface": link.interface,
                "network": link.network,
                "kind": link.kind,
                "address": str(link.address) if link.address is not None else None,
                "addresses": [str(address) for address in link.addresses],
                "gateway": str(link.gateway) if link.gateway is not None else None,
                "gateways": [str(one.gateway) for one in link.addressings if one.gateway],
                "over": list(link.over),
                "mac": link.mac,
                "masquerade": link.masquerade,
            }
            for link in machine.links
        ],
        "routes": [
            {"destination": str(route.destination), "via": str(route.via)}
            for route in machine.routes
        ],
    }


def recall(description: Mapping[str, Any]) -> Plan:
    """Make a plan again from its description: enough of it to draw, not enough to build.

    :raises KeyError: it is no description of a plan.
    """
    return Plan(
        layout=description["layout"],
        networks={
            name: _recall_network(name, network)
            for name, network in description["networks"].items()
        },
        machines={
            name: _recall_machine(name, machine)
            for name, machine in description["machines"].items()
        },
    )


def _recall_network(name: str, known: Mapping[str, Any]) -> PlannedNetwork:
    subnets = {
        subnet.version: PlannedSubnet(network=subnet)
        for subnet in map(ip_network, known["subnets"])
    }
    return PlannedNetwork(
        name=name,
        bridge="",
        kind=known["kind"],
        v4=subnets.get(4),
        v6=subnets.get(6),
        mtu=known["mtu"],
        vlan_id=known["vlan_id"],
    )


def _recall_link(known: Mapping[str, Any]) -> PlannedLink:
    families: dict[int, PlannedAddressing] = {}
    for address in map(ip_interface, known["addresses"]):
        having = families.get(address.version)
        secondary = PlannedSecondary(address=address)
        families[address.version] = (
            PlannedAddressing(
                network=address.network, address=address, masquerade=known["masquerade"]
            )
            if having is None
            else replace(having, secondary_addresses=(*having.secondary_addresses, secondary))
        )
    for gateway in map(ip_address, known["gateways"]):
        families[gateway.version] = replace(families[gateway.version], gateway=gateway)
    return PlannedLink(
        interface=known["interface"],
        network=known["network"],
        kind=known["kind"],
        bridge="",
        port="",
        v4=families.get(4),
        v6=families.get(6),
        over=tuple(known["over"]),
        mac=known["mac"],
    )


def _recall_machine(name: str, known: Mapping[str, Any]) -> PlannedMachine:
    return PlannedMachine(
        name=name,
        hostname=known["hostname"],
        target=known["target"],
        image=Image.debian("any", name=known["image"]) if known["image"] else None,
        init=known["init"],
        roles=tuple(type(role, (Role,), {})() for role in known["roles"]),
        forward=known["forward"],
        groups=tuple(known["groups"]),
        after=tuple(known["after"]),
        links=tuple(_recall_link(link) for link in known["links"]),
        routes=tuple(
            PlannedRoute(destination=ip_network(route["destination"]), via=ip_address(route["via"]))
            for route in known["routes"]
        ),
    )
