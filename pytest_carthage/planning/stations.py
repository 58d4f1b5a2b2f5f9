"""Places on the networks of a layout for programs of the host."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_carthage.model.addresses.hardware import mac_address
from pytest_carthage.model.addresses.resolution import PlannedAddressing, highest_free, with_prefix
from pytest_carthage.planning.naming import port_name
from pytest_carthage.planning.plan import Plan, PlannedLink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_carthage.model.network import AnyNetwork
    from pytest_carthage.planning.rules import Neighbourhood

__all__ = ["CONTROL", "Control", "control", "link_to", "with_links"]

#: how the links of the place that Ansible works from begin among a plan's stations
CONTROL = "control:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The place that a layout's Ansible works from."""

    #: with its links among the stations
    plan: Plan
    links: tuple[PlannedLink, ...]
    #: network to why it is not there
    left_out: Mapping[str, str]


def link_to(
    plan: Plan,
    network: str,
    around: Neighbourhood,
    *,
    key: str,
    ports: set[str],
    interface: str = "eth0",
) -> PlannedLink:
    """Plan a link to a network, for a place that is no machine.

    It has the highest address that nobody has, so that ``"auto"`` gives what it would give
    without it.

    :param around: what somebody who joins finds.
    :param key: tells it from other such links.
    :param ports: names that are taken in the fabric.
    :raises LookupError: there is no such network, or no address is left in it.
    """
    if network not in plan.networks:
        having = ", ".join(plan.networks) or "none"
        raise LookupError(
            f"layout {plan.layout!r} has no network {network!r}; its networks are: {having}"
        )
    planned = plan.networks[network]
    if planned.external is not None:
        raise LookupError(
            f"network {network!r} of layout {plan.layout!r} is external ({planned.external}), and "
            "nothing of the layout is on it; try: machine.connect() of a host that is"
        )
    if planned.kind not in ("bridged", "point-to-point"):
        raise LookupError(
            f"network {network!r} of layout {plan.layout!r} is a tunnel of kind {planned.kind!r}, "
            "whose ends are all in machines; try: machine.connect() of one of them"
        )
    if len(ends := around.ends.get(network, ())) == 2:
        raise LookupError(
            f"network {network!r} of layout {plan.layout!r} is a wire, whose two ends are at "
            f"{' and '.join(ends)}; try: machine.connect() of one of them"
        )
    taken = {*around.addresses.get(network, ()), *around.external.get(network, ())}
    families: dict[int, PlannedAddressing] = {}
    for subnet in planned.subnets:
        free = highest_free(subnet, taken)
        if free is None:
            raise LookupError(
                f"network {network!r} of layout {plan.layout!r}: no address is left in"
                f" {subnet.network} for a station; try: a larger network"
            )
        families[subnet.network.version] = PlannedAddressing(
            network=subnet.network,
            address=with_prefix(free, subnet.network),
            gateway=subnet.gateway if subnet.gateway in taken else None,
            dns_servers=subnet.dns_servers,
            domains=subnet.domains,
        )
    macs = {link.mac for machine in plan.machines.values() for link in machine.links}
    macs |= {link.mac for link in plan.stations.values()}
    return PlannedLink(
        interface=interface,
        network=network,
        bridge=planned.bridge,
        port=port_name("station", key, ports),
        mac=mac_address(plan.layout, "station", key, macs),
        v4=families.get(4),
        v6=families.get(6),
        mtu=planned.mtu,
        ipv6=planned.v6 is not None,  # it is nobody's machine, and says nothing by itself
    )


def with_links(plan: Plan, links: Mapping[str, PlannedLink]) -> Plan:
    """The plan with further links of stations."""
    return replace(plan, stations=MappingProxyType({**plan.stations, **links}))


def control(plan: Plan, around: Neighbourhood, ports: set[str]) -> Control:
    """Plan the place that Ansible works from: on every network that lets somebody in.

    It is not on wires, which are their two ends' own, and on nothing external; nor on a network
    whose addresses it has met on another one. Its default route is the first gateway that there is.
    """
    links: dict[str, PlannedLink] = {}
    left_out: dict[str, str] = {}
    met: dict[AnyNetwork, str] = {}
    routed: set[int] = set()
    for name, network in plan.networks.items():
        if network.external is not None:
            continue
        twin = next(
            (
                other
                for subnet in network.subnets
                for known, other in met.items()
                if known.version == subnet.network.version and known.overlaps(subnet.network)
            ),
            None,
        )
        if twin is not None:
            left_out[name] = f"it has the addresses of network {twin!r}"
        if twin is not None or network.kind != "bridged" or not network.subnets:
            continue
        key = f"{CONTROL}{name}"
        link = plan.stations.get(key)
        if link is None:
            try:
                link = link_to(
                    plan, name, around, key=key, ports=ports, interface=f"eth{len(links)}"
                )
            except LookupError as error:
                left_out[name] = str(error)
                continue
            link = _without_gateways(link, routed)
            plan = with_links(plan, {key: link})
            ports.add(link.port)
        links[key] = link
        met |= {subnet.network: name for subnet in network.subnets}
        routed |= {one.network.version for one in link.addressings if one.gateway is not None}
    return Control(plan=plan, links=tuple(links.values()), left_out=left_out)


def _without_gateways(link: PlannedLink, versions: set[int]) -> PlannedLink:
    """A link without the gateways of some IP versions, for which there is one already."""
    v4, v6 = link.v4, link.v6
    if v4 is not None and 4 in versions:
        v4 = replace(v4, gateway=None)
    if v6 is not None and 6 in versions:
        v6 = replace(v6, gateway=None)
    return replace(link, v4=v4, v6=v6)
