"""Cables: the ports of the fabric by which links lead to bridges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from pytest_carthage.planning.plan import Plan, PlannedLink

__all__ = ["CabledLink", "CabledMachine", "cables_of", "neighbours_of", "ports_of"]

#: kinds of links that have a cable of their own
_WITH_CABLE = ("bridged", "bond", "trunk")


class CabledMachine(Protocol):
    """The machine that a link is of."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    async def signal(self, ports: Sequence[str], *, present: bool) -> None:
        """Have its kernel see a carrier at these ports or none, where it does not by itself."""
        ...


class CabledLink(Protocol):
    """A live link, as faults see it."""

    @property
    def planned(self) -> PlannedLink:
        """The declaration with everything decided."""
        ...

    @property
    def machine(self) -> CabledMachine:
        """The machine that it is of."""
        ...


def cables_of(planned: PlannedLink) -> Sequence[tuple[str, str]]:
    """The ports in the fabric by which a link leads to a bridge, each with its bridge.

    None for a link that stands on another one, or shares its cable.
    """
    if planned.kind == "bond":
        return [(port, planned.bridge) for _, port in planned.members]
    if planned.kind == "trunk":
        return [(vlan.port, vlan.bridge) for vlan in planned.vlans]
    return [(planned.port, planned.bridge)] if planned.kind in _WITH_CABLE else []


def ports_of(planned: PlannedLink) -> Sequence[str]:
    """Ports that carry a link's signal."""
    if planned.kind == "trunk":
        return [planned.port]
    return [port for port, _ in cables_of(planned)]


def neighbours_of(plan: Plan, names: Iterable[str], network: str | None = None) -> dict[str, Any]:
    """What hardware addresses they have on their networks, and who is on which network."""
    hardware: dict[str, dict[str, str]] = {}
    on: dict[str, list[str]] = {}
    for name in names:
        for link in plan.machines[name].links:
            if network in (None, link.network):
                macs = hardware.setdefault(link.network, {})
                macs.update({str(address.ip): link.mac for address in link.addresses})
                on.setdefault(name, []).append(link.network)
    return {"hardware": hardware, "machines": on}
