"""Addresses that machines have set by themselves without a word: taken into the plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_carthage.live.machines.expectation import read_addresses
from pytest_carthage.planning.plan import PlannedAddressing, PlannedLink, PlannedSecondary

if TYPE_CHECKING:
    from pytest_carthage.live.machines.machine import AsyncMachine
    from pytest_carthage.live.surroundings import Knows
    from pytest_carthage.planning.plan import Interface

__all__ = ["learn"]


async def learn(knows: Knows[AsyncMachine], machines: Iterable[AsyncMachine]) -> bool:
    """Look at links that the layout gives no address to; returns whether anything was new.

    The plan then has what was seen, and so has the machine's own.
    """
    is_new = False
    for machine in machines:
        silent = any(_is_silent(link) for link in machine.planned.links)
        if not silent or not machine.is_up() or not machine.can("observe"):
            continue
        having = await read_addresses(machine)
        links = tuple(
            _taught(link, having.get(link.interface, ())) if _is_silent(link) else link
            for link in machine.planned.links
        )
        if links == machine.planned.links:
            continue
        is_new = True
        machine.planned = replace(machine.planned, links=links)
        for link in links:
            machine.links[link.interface].planned = link
        machines_now = {**knows.plan.machines, machine.name: machine.planned}
        knows.plan = replace(knows.plan, machines=MappingProxyType(machines_now))
    return is_new


def _is_silent(link: PlannedLink) -> bool:
    """Whether nothing was said of its addresses."""
    return bool(link.network) and all(
        own.sets_itself and not own.is_expected for own in link.addressings
    )


def _taught(link: PlannedLink, addresses: Sequence[Interface]) -> PlannedLink:
    families: dict[int, PlannedAddressing | None] = {4: None, 6: None}
    for address in addresses:
        having = families[address.version]
        if having is None:
            families[address.version] = PlannedAddressing(
                network=address.network, address=address, sets_itself=True
            )
        else:
            further = (*having.secondary_addresses, PlannedSecondary(address=address))
            families[address.version] = replace(having, secondary_addresses=further)
    return replace(link, v4=families[4], v6=families[6])
