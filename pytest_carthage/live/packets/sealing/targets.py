"""Where packets of a layout may get to."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import (
    Mapping,
    Sequence,
)
from ipaddress import ip_interface
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric import netlink
from pytest_carthage.live.packets.sealing.report import Neighbour
from pytest_carthage.live.packets.sealing.survey import HOST, SPAN, AnyAddress, Survey, address_in
from pytest_carthage.live.packets.taps import Interface, interfaces_of, open_socket

if TYPE_CHECKING:
    pass


_RESOLV_CONF = Path("/etc/resolv.conf")


class Targets(Survey):
    """Where packets may get to, and which interfaces there are."""

    def _find_destinations(self, neighbours: Sequence[Neighbour]) -> None:
        def add(text: str, what: str) -> AnyAddress | None:
            address = address_in(text)
            if address is None or address.is_loopback or address.is_unspecified:
                return None
            self._destinations.setdefault(address, what)
            return address

        for row in netlink.addresses():
            if row["address"] is not None:
                add(str(ip_interface(row["address"]).ip), HOST)
        with contextlib.suppress(OSError):
            for line in _RESOLV_CONF.read_text(errors="replace").splitlines():
                words = line.split()
                if words[:1] == ["nameserver"] and len(words) > 1:
                    address = add(words[1], "resolver of this host")
                    self._resolvers += [address] if address is not None else []
        for route in netlink.routes():
            if route["destination"] == "default" and route["via"]:
                add(route["via"], "gateway of this host")
        for neighbour in neighbours:
            for text in neighbour.addresses:
                add(text, f"machine of {neighbour.name}")
        # those of the layout itself: they may ask others in turn
        for machine in self._plan.machines.values():
            for link in machine.links:
                for one in link.addressings:
                    self._resolvers += [a for a in one.dns_servers if a not in self._resolvers]

    async def _look_inside(self) -> Mapping[str, Sequence[Interface]]:
        """Interfaces of each machine as they are now; learn all hardware addresses."""
        fabric = self._fabric
        stations = [f"station:{name}" for name in self._stations]
        names: list[str | None] = [*self._plan.machines, *stations, None]
        by_owner: dict[str, Sequence[Interface]] = {}
        for name in names:
            planned = self._plan.machines.get(name or "")
            if planned is not None and not planned.traits.can("links"):
                why = f"target {planned.target!r} is outside of the fabric"
                self._unobserved[planned.name] = why
                continue
            try:
                sock = await open_socket(
                    fabric, name, socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
                )
            except FabricError as error:
                if planned is not None:
                    self._unobserved[planned.name] = str(error)
                continue  # not there, or not yet
            with sock:
                interfaces = interfaces_of(sock)
            self._own.update(one.mac for one in interfaces)
            if name is None:
                self._ports |= {
                    # what a fault puts in a port's place, see fabric.cable
                    f"cg{part}{one.number}": self._ports[one.name]
                    for one in interfaces
                    if one.name in self._ports
                    for part in "ris"
                }
                self._spanned = any(one.name.startswith(SPAN) for one in interfaces)
            elif name in self._plan.machines:
                by_owner[name] = [one for one in interfaces if one.is_ethernet]
        return by_owner
