"""A live link: one interface of a live machine, and the cable that it hangs on."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from pytest_carthage.bridge import Blocks, Opening, TwoFaced, opening, operation
from pytest_carthage.portal import Portal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_carthage.live.faults.links import Direction
    from pytest_carthage.live.faults.registry import Fault
    from pytest_carthage.live.machines.lease import Lease
    from pytest_carthage.live.packets.capture import AsyncCapture, Capture
    from pytest_carthage.live.rooms import Rooms
    from pytest_carthage.planning.plan import PlannedLink

__all__ = ["AsyncLink", "LinkHandle"]


class LinkedMachine(Protocol):
    """The machine that a link is of."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def links(self) -> Mapping[str, AsyncLink]:
        """Interface name to live link."""
        ...

    def lent(self, interface: str) -> Sequence[Lease]:
        """What servers have lent to a link."""
        ...

    async def plug_cards(self, ports: Sequence[str], use: str, *, plugged: bool) -> None:
        """Plug the cards in that end at these ports of the fabric, or pull them out."""
        ...

    async def signal(self, ports: Sequence[str], *, present: bool) -> None:
        """Have its kernel see a carrier at these ports or none, where it does not by itself."""
        ...


class LinkOperations:
    """What can be done with a live link."""

    def __init__(self, planned: PlannedLink, machine: LinkedMachine, rooms: Rooms) -> None:
        self.planned = planned
        self.machine = machine
        self.portal: Portal = rooms.portal
        self._rooms = rooms

    @property
    def interface(self) -> str:
        """Name of the interface in the machine."""
        return self.planned.interface

    @property
    def network(self) -> str:
        """Name of the network that it leads to."""
        return self.planned.network

    @property
    def mac(self) -> str:
        """Hardware address."""
        return self.planned.mac

    @property
    def resolved(self) -> PlannedLink | None:
        """The link with what servers gave to it; None while they have not."""
        return resolved_link(self.planned, self.machine.lent(self.interface))

    @opening
    def impair(
        self,
        *,
        loss_pct: float | None = None,
        delay_ms: float | None = None,
        jitter_ms: float | None = None,
        rate_mbit: float | None = None,
        duplicate_pct: float | None = None,
        corrupt_pct: float | None = None,
        direction: Direction = "both",
    ) -> Fault:
        """Make the link bad until it heals; the machine sees nothing of how it is done.

        :param loss_pct: percentage of frames that never arrive.
        :param delay_ms: how much later each frame arrives, per direction.
        :param jitter_ms: how much earlier or later than that at most; frames may overtake.
        :param rate_mbit: most megabits (10^6) per second; what cannot wait is dropped.
        :param duplicate_pct: percentage of frames that arrive twice.
        :param corrupt_pct: percentage of frames of which one bit is turned.
        :param direction: what goes ``"to"`` the machine, comes ``"from"`` it, or both.
        :raises ValueError: nothing is given, or a value is out of range.
        :raises FaultError: the link is impaired already, in this direction.
        :raises HostError: this host cannot do it.
        """
        from pytest_carthage.live.faults.impairment import Impairment
        from pytest_carthage.live.faults.links import impair

        wanted = Impairment(
            loss_pct=loss_pct,
            delay_ms=delay_ms,
            jitter_ms=jitter_ms,
            rate_mbit=rate_mbit,
            duplicate_pct=duplicate_pct,
            corrupt_pct=corrupt_pct,
        )
        return impair(self._rooms.faults, self, wanted, direction)

    @opening
    def down(self) -> Fault:
        """Pull the cable until it heals: no carrier, though the interface keeps its addresses.

        On a point-to-point network the other end has no carrier, either.

        :raises FaultError: it is pulled already.
        """
        from pytest_carthage.live.faults.links import down

        return down(self._rooms.faults, self)

    @operation
    async def unplug(self) -> None:
        """Pull the machine's card out, be it in use: the interface is gone until :meth:`plug`.

        :raises UnsupportedError: its target cannot.
        :raises FabricError: there is none in it, or its kernel does not let go of it.
        """
        await self._plug_cards("unplug()", plugged=False)

    @operation
    async def plug(self) -> None:
        """Plug the machine's card in again, which its own system has to configure.

        :raises UnsupportedError: its target cannot.
        :raises FabricError: it is plugged in already.
        """
        await self._plug_cards("plug()", plugged=True)

    async def _plug_cards(self, use: str, *, plugged: bool) -> None:
        from pytest_carthage.live.faults.cables import ports_of

        await self.machine.plug_cards(ports_of(self.planned), use, plugged=plugged)

    @opening
    def capture(self, filter: str = "") -> Opening[AsyncCapture, Capture]:
        """Capture what passes this link, in both directions, while the block runs.

        :param filter: as pcap-filter(7) describes it; empty: everything.
        """
        return self._rooms.captures.of_link(self.machine.name, self.planned, filter)

    def __repr__(self) -> str:
        return f"<link {self.machine.name}.{self.interface} to {self.network}>"


class AsyncLink(LinkOperations, TwoFaced["LinkHandle"]):
    """A live link; every operation may be awaited from any event loop."""

    @property
    def other_ends(self) -> Sequence[AsyncLink]:
        """The links of other machines to the same network, of those that live."""
        knows = self._rooms.knows
        ends = []
        for machine, interface in knows.plan.other_ends(self.machine.name, self.interface):
            with contextlib.suppress(KeyError):
                ends.append(knows.handle(machine).links[interface])
        return ends

    @property
    def sync(self) -> LinkHandle:
        """The same for callers that wait."""
        return LinkHandle(self)


class LinkHandle(Blocks, LinkOperations):
    """A live link, for callers that wait; :attr:`aio` is the same as awaitables."""

    aio: AsyncLink

    def __init__(self, aio: AsyncLink) -> None:
        self.aio = aio

    @property
    def other_ends(self) -> Sequence[LinkHandle]:
        """The links of other machines to the same network, of those that live."""
        return [link.sync for link in self.aio.other_ends]


def resolved_link(planned: PlannedLink, lent: Iterable[Any]) -> PlannedLink | None:
    """A link with what servers lent to it in place of what was planned.

    :param lent: leases, which have ``address``, and maybe ``gateway``.
    :returns: None while an address is awaited.
    """
    by_version = {one.address.version: one for one in lent}
    families = {}
    for version, own in ((4, planned.v4), (6, planned.v6)):
        if own is not None and own.dhcp:
            lease = by_version.get(version)
            if lease is None:
                return None
            own = replace(own, address=lease.address)
        families[version] = own
    return replace(planned, v4=families[4], v6=families[6])
