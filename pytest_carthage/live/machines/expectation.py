"""Addresses that a live machine sets by itself: waited for, and read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from ipaddress import ip_interface
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.errors import TimeLimitError

if TYPE_CHECKING:
    from pytest_carthage.live.machines.core import MachineCore
    from pytest_carthage.planning.plan import Interface, PlannedLink, PlannedMachine

__all__ = ["read_addresses", "wait_for_expected"]


def _expected(planned: PlannedMachine) -> Iterator[tuple[PlannedLink, Interface]]:
    for link in planned.links:
        for own in link.addressings:
            if own.is_expected and own.address is not None and link.required and link.admin_up:
                yield link, own.address


async def read_addresses(machine: MachineCore) -> Mapping[str, tuple[Interface, ...]]:
    """Interface to the addresses that it has now, IPv4 first, without those of its own link."""
    reply, _ = await machine.channel.request("observe")
    addresses: dict[str, list[Interface]] = {}
    for row in reply["addresses"]:
        if row["address"] is not None:
            address = ip_interface(row["address"])
            if not address.ip.is_link_local:
                addresses.setdefault(row["interface"], []).append(address)
    return {
        name: tuple(sorted(having, key=lambda one: one.version))
        for name, having in addresses.items()
    }


async def wait_for_expected(machine: MachineCore, deadline: float) -> None:
    """Wait until a machine has the addresses that it was said to set; ``deadline`` is monotonic.

    :raises TimeLimitError: it has not.
    """
    waiting = list(_expected(machine.planned))
    if not waiting or not machine.can("observe"):
        return
    pause_s = 0.01
    while True:
        having = await read_addresses(machine)
        waiting = [
            (link, address)
            for link, address in waiting
            if address not in having.get(link.interface, ())
        ]
        if not waiting:
            return
        if clock.monotonic_s() + pause_s > deadline:
            link, address = waiting[0]
            last = ", ".join(map(str, having.get(link.interface, ()))) or "none"
            raise TimeLimitError(
                f"{machine.who}: link {link.interface!r} expects {address}, which the machine has "
                f"not set after {machine.ready_limit_s:g} s (last: it has {last}); try: "
                "what sets it (frr.conf, NetworkManager, a script), or another expects="
            )
        # it may be set by anybody, at any time: only polling tells
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.2)
