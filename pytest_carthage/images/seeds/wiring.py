"""What a machine's kernel has of its network, as whoever configures it is told."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import PurePath
from typing import TYPE_CHECKING

from pytest_carthage.fabric import nat
from pytest_carthage.fabric.links import lowest_first, those_down
from pytest_carthage.placing.cards import cards
from pytest_carthage.placing.specs import machine_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.fabric.spec import LinkSpec, RouteSpec
    from pytest_carthage.placing.cards import Card
    from pytest_carthage.planning.plan import PlannedLink, PlannedMachine

__all__ = ["Wire", "Wiring", "wiring_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """One interface that has addresses, or may have."""

    spec: LinkSpec
    planned: PlannedLink
    up: bool
    #: versions of IP in which a server gives the address
    dhcp: tuple[int, ...]
    #: routes that leave by it
    routes: tuple[RouteSpec, ...]

    @property
    def name(self) -> str:
        """What the machine calls it."""
        return self.planned.interface


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """The network of a machine."""

    #: what is plugged in, with the MAC addresses by which they are known
    cards: Sequence[Card]
    #: each after what it stands on
    wires: Sequence[Wire]
    #: addresses of its own
    loopback: Sequence[str]
    forward: bool
    #: nftables rules; empty: it translates no address
    nat: str


def wiring_of(planned: PlannedMachine) -> Wiring:
    """The network of a planned machine."""
    nowhere = PurePath()
    spec = machine_spec(planned, "tap", nowhere, "")  # type: ignore[arg-type]  # it has no log
    by_name = {link.interface: link for link in planned.links}
    down = those_down(spec["links"])
    ways = [(_way_of(planned, route), route) for route in spec["routes"]]
    wires = [
        Wire(
            spec=link,
            planned=by_name[link["interface"]],
            up=link["interface"] not in down,
            dhcp=tuple(
                own.network.version for own in by_name[link["interface"]].addressings if own.dhcp
            ),
            routes=tuple(route for way, route in ways if way == link["interface"]),
        )
        for link in lowest_first(spec["links"])
    ]
    return Wiring(
        cards=cards(planned),
        wires=wires,
        loopback=spec["loopback"],
        forward=spec["forward"],
        nat=nat.rules(spec) if nat.is_needed(spec) else "",
    )


def _way_of(planned: PlannedMachine, route: RouteSpec) -> str:
    """The interface by which a route leaves: that whose network has the next hop."""
    if route["interface"]:
        return route["interface"]
    via = ip_address(str(route["via"]))
    for link in planned.links:
        if any(via in one.network for one in link.addressings):
            return link.interface
    return planned.links[0].interface if planned.links else ""
