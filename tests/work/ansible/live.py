"""As much of a live layout as Ansible needs, made by hand."""

from __future__ import annotations

import os
import pwd
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path

from pytest_carthage.events import Recorder
from pytest_carthage.planning.plan import Plan, PlannedAddressing, PlannedLink, PlannedMachine
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.work.ansible.station import Station


@dataclass
class StandIn:
    """As much of a live layout as Ansible needs."""

    name: str
    folder: Path
    plan: Plan
    reporter: Recorder = field(default_factory=Recorder)

    @property
    def socket(self) -> Path:
        return self.folder / "fabric.sock"

    @asynccontextmanager
    async def ansible_station(
        self, outside: Sequence[str], *, for_s: float
    ) -> AsyncIterator[Station]:
        yield Station(sockets=(str(self.folder),))

    @property
    def told(self) -> list[str]:
        return [f"{event.kind} {event.text}".strip() for event in self.reporter.events]


def planned(
    name: str,
    *,
    groups: tuple[str, ...] = (),
    variables: dict[str, object] | None = None,
    address: str | None = None,
    inventory_hostname: str = "",
) -> PlannedMachine:
    """A planned machine; only what Ansible looks at is interesting."""
    variables = dict(variables or {})
    if os.geteuid() != 0:
        # the stand-in's agent is no root
        variables.setdefault("ansible_user", pwd.getpwuid(os.getuid()).pw_name)
    links: tuple[PlannedLink, ...] = ()
    if address is not None:
        links = (
            PlannedLink(
                interface="eth0",
                network="lan",
                bridge="lan",
                port=f"{name}-eth0",
                v4=PlannedAddressing(
                    network=ip_interface(address).network, address=ip_interface(address)
                ),
                mac="02:00:00:00:00:01",
            ),
        )
    return PlannedMachine(
        name=name,
        hostname=name,
        target="netns",
        image=None,
        links=links,
        groups=groups,
        variables=variables,
        inventory_hostname=inventory_hostname,
        traits=NetnsProvider.traits,
    )


def plan_of(*machines: PlannedMachine) -> Plan:
    """A plan of some machines, for a layout called Shop."""
    return Plan(layout="Shop", networks={}, machines={one.name: one for one in machines})


#: makes a stand-in of planned machines; ``reachable`` names those that answer
Stand = Callable[..., StandIn]
