"""Consul, as Debian 11 has it: servers that find each other, and agents that join them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import CreationError
from pytest_carthage.model.role import Role
from pytest_carthage.model.task import machine_task

if TYPE_CHECKING:
    from pytest_carthage.roles.served import Served

__all__ = ["Consul"]

_SETTINGS = "/etc/consul.d/carthage.json"
_NAME = re.compile(r"[a-z0-9_-]+", re.ASCII)
_ANSWERS_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Consul(Role):
    """A Consul agent, or a server: ``roles=[Consul(server=True)]``.

    The servers of a data centre find each other and elect a leader when they are all there; agents
    join them, by the names of the layout. The package is in Debian 11, so it takes a machine of
    ``Image.debian("bullseye")``. The HTTP interface (8500) and DNS (8600) are for programs of the
    machine itself, as Consul has it.
    """

    packages = ("consul",)

    #: whether it is a server; agents need one
    server: bool = False
    #: agents and servers of another one do not know each other
    datacenter: str = "test"
    #: network over which they speak; None: the machine's first
    network: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.datacenter):
            raise ValueError(
                f"Consul: datacenter={self.datacenter!r} is not made of a-z 0-9 _ -; "
                'try: datacenter="test"'
            )

    @property
    def offers(self) -> Sequence[str]:
        """A server offers ``"consul"``."""
        return ("consul",) if self.server else ()

    @property
    def needs(self) -> Sequence[str]:
        """An agent needs a server."""
        return () if self.server else ("consul",)

    @machine_task("tell Consul of the others")
    async def configure(self, machine: Served) -> None:
        """Write its settings."""
        text = json.dumps(self.settings(machine), indent=2) + "\n"
        await machine.write_text(_SETTINGS, text)

    @machine_task("start Consul")
    async def start(self, machine: Served) -> None:
        """Start it anew; an agent, and the only server, wait until there is a leader."""
        await machine.run(_START)
        alone = self.server and len(self._servers(machine)) == 1
        # the other servers may be those that wait for this one
        asked = "consul members" if self.server and not alone else "consul catalog nodes"
        await machine.run(
            f"until {asked} >/dev/null 2>&1; do sleep 0.2; done", timeout_s=_ANSWERS_S
        )

    def settings(self, machine: Served) -> dict[str, Any]:
        """What Consul is told, see its documentation (agent configuration).

        :raises CreationError: the data centre has no server.
        """
        servers = self._servers(machine)
        if not servers:
            raise CreationError(
                f"{machine!r}: data centre {self.datacenter!r} has no server; "
                f"try: roles=[Consul(server=True, datacenter={self.datacenter!r})]"
            )
        settings: dict[str, Any] = {
            "datacenter": self.datacenter,
            "node_name": machine.planned.hostname,
            "bind_addr": machine.address(self.network),
            "retry_join": [name for name in servers if name != machine.planned.hostname],
            "retry_interval": "1s",
            "disable_update_check": True,
            "server": self.server,
        }
        if self.server:
            settings["bootstrap_expect"] = len(servers)
            # the times of a test, not of production
            settings["performance"] = {"raft_multiplier": 1}
        return settings

    def _servers(self, machine: Served) -> list[str]:
        """Host names of the servers of the same data centre."""
        return [
            one.hostname
            for one in machine.surroundings.plan.machines.values()
            if any(
                isinstance(role, Consul) and role.server and role.datacenter == self.datacenter
                for role in one.roles
            )
        ]


# The package's own init script wants programs that it does not bring.
_START = """\
set -e
if [ -d /run/systemd/system ]; then
    systemctl reset-failed consul 2>/dev/null || true  # it may have given up without settings
    exec systemctl restart consul
fi
start-stop-daemon --stop --quiet --oknodo --retry 10 --pidfile /run/consul.pid --remove-pidfile
exec start-stop-daemon --start --quiet --background --chuid consul --chdir /var/lib/consul \\
    --pidfile /run/consul.pid --make-pidfile --output /var/log/consul.log \\
    --exec /usr/bin/consul -- agent -data-dir=/var/lib/consul -config-dir=/etc/consul.d
"""
