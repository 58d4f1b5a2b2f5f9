"""A plan as the fabric takes it, in the words of :mod:`pytest_carthage.fabric.spec`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_carthage.planning.resolver import resolv_conf

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_carthage.fabric.spec import (
        LimitsSpec,
        LinkSpec,
        MachineSpec,
        NetworkSpec,
        PlaceKind,
        RootSpec,
        RouteSpec,
    )
    from pytest_carthage.model.machine import Limits
    from pytest_carthage.planning.plan import Plan, PlannedLink, PlannedMachine, PlannedRoute

__all__ = ["limits_spec", "machine_spec", "network_specs"]


def network_specs(plan: Plan) -> list[NetworkSpec]:
    """The networks of a plan that are bridges."""
    return [
        {"bridge": network.bridge, "mtu": network.mtu, "kind": network.kind}
        for network in plan.networks.values()
        if network.kind in ("bridged", "point-to-point")
    ]


def machine_spec(
    planned: PlannedMachine,
    kind: PlaceKind,
    logs: Path,
    group: str,
    root: RootSpec | None = None,
) -> MachineSpec:
    """A planned machine.

    :param logs: folder for what it prints.
    :param group: the control group of the environment.
    :param root: of a system container.
    """
    spec: MachineSpec = {
        "name": planned.name,
        "kind": kind,
        "hostname": planned.hostname,
        "links": [_link_spec(link) for link in planned.links],
        "loopback": [str(address) for address in planned.loopback],
        "routes": _routes(planned),
        "forwards": [
            {
                "interface": one.interface,
                "protocol": one.protocol,
                "port": one.port,
                "to": str(one.to),
                "to_port": one.to_port,
            }
            for one in planned.forwards
        ],
        "forward": planned.forward,
        "resolv": resolv_conf(planned),
        "env": dict(planned.env),
        "command": list(planned.command) if planned.command else None,
        "restart": planned.restart,
        "log": str(logs / f"{planned.name}.log"),
        "limits": limits_spec(planned.limits),
        "control_group": f"{group}/{planned.name}",
    }
    if root is not None:
        spec["root"] = root
    return spec


def limits_spec(limits: Limits | None) -> LimitsSpec | None:
    """What a machine may use at most, as the fabric takes it."""
    if limits is None:
        return None
    return {"memory_mib": limits.memory_mib, "cpus": limits.cpus, "pids": limits.pids}


def _link_spec(link: PlannedLink) -> LinkSpec:
    underlay = link.underlay
    return {
        "interface": link.interface,
        "kind": link.kind,
        "bridge": link.bridge,
        "port": link.port,
        "mac": link.mac,
        "mtu": link.mtu,
        "up": link.admin_up,
        "addresses": [str(address) for one in link.addressings for address in one.configured],
        "ipv6": link.ipv6,
        "accept_ra": link.v6 is not None and link.v6.asks,
        "masquerade": [one.network.version for one in link.addressings if one.masquerade],
        "over": list(link.over),
        "vlan": link.vlan_id,
        "vlans": [
            {"id": vlan.vlan_id, "bridge": vlan.bridge, "port": vlan.port} for vlan in link.vlans
        ],
        "vni": link.vni,
        "local": str(underlay.local) if underlay is not None else None,
        "remotes": [str(remote) for remote in underlay.remotes] if underlay is not None else [],
        "members": [{"interface": member, "port": port} for member, port in link.members],
    }


def _routes(planned: PlannedMachine) -> list[RouteSpec]:
    """Routes of a machine; who asks a server is told its gateway there."""
    gateways: list[RouteSpec] = [
        {
            "destination": None,
            "via": str(one.gateway),
            "interface": link.interface,
            "metric": one.metric,
            "onlink": False,
        }
        for link in planned.links
        for one in link.addressings
        if one.gateway is not None and not one.asks and link.admin_up
    ]
    static: list[RouteSpec] = [
        {
            "destination": str(route.destination),
            "via": str(route.via),
            "interface": (interface := _not_yet_on_the_way(planned, route)),
            "onlink": interface is not None,
            "metric": None,
        }
        for route in planned.routes
    ]
    return [*gateways, *static]


def _not_yet_on_the_way(planned: PlannedMachine, route: PlannedRoute) -> str | None:
    """The interface of a route whose next hop is on no link yet: its address comes later."""
    for link in planned.links:
        later = (one for one in link.addressings if one.asks or one.sets_itself)
        if any(route.via in one.network for one in later):
            return link.interface
    return None
