"""A plan as plain values, for other processes and programs; and back, as far as it is drawn.

The environment's description on disk, ``pytest-carthage plan --json`` and ``ls --json`` have
this form.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from pytest_carthage.model.image import Image
from pytest_carthage.model.role import Role
from pytest_carthage.planning.plan import (
    Plan,
    PlannedLink,
    PlannedMachine,
    PlannedNetwork,
    PlannedRoute,
)

__all__ = ["recall", "sketch"]


def sketch(plan: Plan) -> dict[str, Any]:
    """Describe a plan: its layout, networks and machines."""
    return {
        "layout": plan.layout,
        "networks": {
            network.name: {"subnet": str(network.subnet), "mtu": network.mtu}
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
                "address": str(link.address) if link.address is not None else None,
                "gateway": str(link.gateway) if link.gateway is not None else None,
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
            name: PlannedNetwork(
                name=name, subnet=ip_network(network["subnet"]), bridge="", mtu=network["mtu"]
            )
            for name, network in description["networks"].items()
        },
        machines={
            name: _recall_machine(name, machine)
            for name, machine in description["machines"].items()
        },
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
        links=tuple(
            PlannedLink(
                interface=link["interface"],
                network=link["network"],
                bridge="",
                port="",
                address=ip_interface(link["address"]) if link["address"] else None,
                gateway=ip_address(link["gateway"]) if link["gateway"] else None,
                mac=link["mac"],
                masquerade=link["masquerade"],
            )
            for link in known["links"]
        ),
        routes=tuple(
            PlannedRoute(destination=ip_network(route["destination"]), via=ip_address(route["via"]))
            for route in known["routes"]
        ),
    )
