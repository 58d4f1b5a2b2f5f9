"""Network cards of a machine with a kernel of its own: what is plugged into it, before its names.

A link that stands on another one has none; a bond has one for each of its members.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.planning.plan import PlannedLink, PlannedMachine

__all__ = ["Card", "cards", "cards_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One network card."""

    #: what the machine is to call it
    interface: str
    mac: str
    #: the fabric's end of its cable
    port: str
    mtu: int | None = None


def cards(planned: PlannedMachine) -> Sequence[Card]:
    """The cards of a machine, in the order of its links."""
    return [card for link in planned.links for card in cards_of(link)]


def cards_of(link: PlannedLink) -> Sequence[Card]:
    """The cards that a link has."""
    if link.kind == "bond":
        return [
            Card(interface=member, mac=_mac_of(link, member), port=port, mtu=link.mtu)
            for member, port in link.members
        ]
    if link.kind not in ("bridged", "trunk"):
        return []
    return [Card(interface=link.interface, mac=link.mac, port=link.port, mtu=link.mtu)]


def _mac_of(link: PlannedLink, member: str) -> str:
    """A locally administered unicast address: the card's own, whatever the bond's is."""
    digest = hashlib.sha256(f"{link.mac}\0{member}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (digest[0] & 0xFC | 0x02, *digest[1:6]))
