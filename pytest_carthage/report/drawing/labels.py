"""What a drawing says of networks, links and machines."""

from __future__ import annotations

from pytest_carthage.planning.plan import PlannedLink, PlannedMachine, PlannedNetwork

__all__ = ["address_of", "leading", "remarks_on", "subnets_of", "traits_of"]


def subnets_of(network: PlannedNetwork) -> str:
    """Subnets, and what it is where it is more than a bridge."""
    subnets = [str(subnet.network) for subnet in network.subnets] or ["no addresses"]
    more: list[str] = [network.kind] if network.kind != "bridged" else []
    if network.external is not None:
        more = [f"external: {network.external}"]
    more += [f"vlan {network.vlan_id}"] if network.vlan_id is not None else []
    return ", ".join([*subnets, *more])


def address_of(link: PlannedLink) -> str:
    """Its addresses, and how it gets those that nobody has decided."""
    asks = [
        "DHCP" if addressing.dhcp else "SLAAC"
        for addressing in link.addressings
        if addressing.asks and not addressing.address
    ]
    return ", ".join([*(str(address.ip) for address in link.addresses), *asks]) or "no address"


def remarks_on(link: PlannedLink) -> list[str]:
    """What is special about it: its kind, what it stands on, its gateways."""
    remarks: list[str] = [link.kind] if link.kind not in ("bridged", "external") else []
    remarks += [f"over {', '.join(link.over)}"] if link.over else []
    remarks += [f"of {', '.join(name for name, _ in link.members)}"] if link.members else []
    remarks += [f"via {family.gateway}" for family in link.addressings if family.gateway]
    return remarks + (["masquerade"] if link.masquerade else [])


def leading(machine: PlannedMachine) -> list[PlannedLink]:
    """Its links to networks: all but trunks, whose networks are on the links that stand on them."""
    return [link for link in machine.links if link.network]


def traits_of(machine: PlannedMachine) -> list[str]:
    """Name, target, image, what it is for, what it waits for."""
    more = [type(role).__name__ for role in machine.roles]
    more += [machine.init] if machine.init else []
    more += ["forwards"] if machine.forward else []
    more += [f"{route.destination} via {route.via}" for route in machine.routes]
    more += [f"after {', '.join(machine.after)}"] if machine.after else []
    image = machine.image.name if machine.image else "-"
    return [machine.name, machine.target, image, *([", ".join(more)] if more else [])]
