"""A plan as plain values, for other processes and programs; and back, as far as it is drawn.

The environment's description on disk, ``pytest-carthage plan --json`` and ``ls --json`` have
this form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
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
                "external": network.external,
            }
            for network in plan.networks.values()
        },
        "machines": {name: _sketch_machine(machine) for name, machine in plan.machines.items()},
    }


def _sketch_machine(machine: PlannedMachine) -> dict[str, Any]:
    return {
        "target": machine.target,
        "settings": None if machine.on is None else _plain(machine.on.settings),
        "hostname": machine.hostname,
        "addresses": {
            link.interface: str(link.address) for link in machine.links if link.address is not None
        }
        | ({"lo": str(machine.loopback[0])} if machine.loopback else {}),
        "loopback": [str(address) for address in machine.loopback],
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
                "members": [interface for interface, _ in link.members],
                "asks": [
                    {"network": str(one.network), "protocol": "dhcp" if one.dhcp else "slaac"}
                    for one in link.addressings
                    if one.asks
                ],
                "mac": link.mac or None,
                "masquerade": link.masquerade,
            }
            for link in machine.links
        ],
        "routes": [
            {"destination": str(route.destination), "via": str(route.via)}
            for route in machine.routes
        ],
    }


def _plain(value: Any) -> Any:
    """What a machine tells its target, as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    return value if isinstance(value, str | int | float | None) else str(value)


def recall(description: Mapping[str, Any]) -> Plan:
    """Make a plan again from its description: enough of it to draw, not enough to build.

    :raises KeyError: it is no description of a plan.
    """
    networks = {
        name: _recall_network(name, network) for name, network in description["networks"].items()
    }
    return Plan(
        layout=description["layout"],
        networks=networks,
        machines={
            name: _recall_machine(name, machine, networks)
            for name, machine in description["machines"].items()
        },
    )


def _recall_network(name: str, description: Mapping[str, Any]) -> PlannedNetwork:
    subnets = {
        subnet.version: PlannedSubnet(network=subnet)
        for subnet in map(ip_network, description["subnets"])
    }
    return PlannedNetwork(
        name=name,
        bridge="",
        kind=description["kind"],
        v4=subnets.get(4),
        v6=subnets.get(6),
        mtu=description["mtu"],
        external=description.get("external"),
        vlan_id=description["vlan_id"],
    )


def _recall_link(
    description: Mapping[str, Any], networks: Mapping[str, PlannedNetwork]
) -> PlannedLink:
    families: dict[int, PlannedAddressing] = {}
    for address in map(ip_interface, description["addresses"]):
        having = families.get(address.version)
        secondary = PlannedSecondary(address=address)
        families[address.version] = (
            PlannedAddressing(
                network=address.network, address=address, masquerade=description["masquerade"]
            )
            if having is None
            else replace(having, secondary_addresses=(*having.secondary_addresses, secondary))
        )
    for asked in description.get("asks", ()):
        network, protocol = ip_network(asked["network"]), asked["protocol"]
        having = families.get(network.version) or PlannedAddressing(
            network=network, masquerade=description["masquerade"]
        )
        families[network.version] = replace(
            having, dhcp=protocol == "dhcp", slaac=protocol == "slaac"
        )
    for gateway in map(ip_address, description["gateways"]):
        if gateway.version not in families:  # its address is still to be asked for
            subnets = networks[description["network"]].subnets
            families[gateway.version] = PlannedAddressing(
                network=next(
                    (one.network for one in subnets if gateway in one.network), ip_network(gateway)
                ),
                masquerade=description["masquerade"],
            )
        families[gateway.version] = replace(families[gateway.version], gateway=gateway)
    return PlannedLink(
        interface=description["interface"],
        network=description["network"],
        kind=description["kind"],
        bridge="",
        port="",
        v4=families.get(4),
        v6=families.get(6),
        over=tuple(description["over"]),
        members=tuple((interface, "") for interface in description.get("members", ())),
        mac=description["mac"] or "",
    )


def _recall_machine(
    name: str, description: Mapping[str, Any], networks: Mapping[str, PlannedNetwork]
) -> PlannedMachine:
    return PlannedMachine(
        name=name,
        hostname=description["hostname"],
        target=description["target"],
        image=Image.debian("any", name=description["image"]) if description["image"] else None,
        init=description["init"],
        roles=tuple(type(role, (Role,), {})() for role in description["roles"]),
        forward=description["forward"],
        groups=tuple(description["groups"]),
        after=tuple(description["after"]),
        loopback=tuple(map(ip_address, description.get("loopback", ()))),
        links=tuple(_recall_link(link, networks) for link in description["links"]),
        routes=tuple(
            PlannedRoute(destination=ip_network(route["destination"]), via=ip_address(route["via"]))
            for route in description["routes"]
        ),
    )
