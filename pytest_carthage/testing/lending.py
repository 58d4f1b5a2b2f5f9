"""Addresses that a server or a router would give: in memory they are given before."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from pytest_carthage.model.addresses.resolution import (
    PlannedAddressing,
    highest_free,
    with_prefix,
)
from pytest_carthage.model.network import Address
from pytest_carthage.planning.plan import Plan, PlannedLink, PlannedNetwork

__all__ = ["lend"]


def lend(plan: Plan) -> Plan:
    """The same plan, in which nobody asks for an address: each has one that is free."""
    taken: dict[str, set[Address]] = {name: set() for name in plan.networks}
    for machine in plan.machines.values():
        for link in machine.links:
            taken.setdefault(link.network, set()).update(one.ip for one in link.addresses)
    machines = {
        name: replace(
            machine,
            links=tuple(
                _settled(link, plan.networks.get(link.network), taken) for link in machine.links
            ),
        )
        for name, machine in plan.machines.items()
    }
    return replace(plan, machines=MappingProxyType(machines))


def _settled(
    link: PlannedLink, network: PlannedNetwork | None, taken: dict[str, set[Address]]
) -> PlannedLink:
    if network is None:
        return link

    def settled(own: PlannedAddressing | None) -> PlannedAddressing | None:
        if own is None or not own.asks:
            return own
        address = own.address
        if address is None:
            subnet = network.v4 if own.network.version == 4 else network.v6
            free = None if subnet is None else highest_free(subnet, taken[network.name])
            if free is not None:
                taken[network.name].add(free)
                address = with_prefix(free, own.network)
        return replace(own, address=address, dhcp=False, slaac=False)

    return replace(link, v4=settled(link.v4), v6=settled(link.v6))
