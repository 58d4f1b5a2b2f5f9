"""A live link: one interface of a live machine, and the cable that it hangs on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pytest_carthage.portal import Opening, Portal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.access.capture import AsyncCapture, Capture
    from pytest_carthage.access.disturbance import AsyncDisturbance, Direction, Disturbance
    from pytest_carthage.access.machine import AsyncMachine
    from pytest_carthage.access.surroundings import Surroundings
    from pytest_carthage.planning.plan import PlannedLink

__all__ = ["AsyncLink", "LinkHandle"]


class AsyncLink:
    """A live link; every operation may be awaited from any event loop."""

    def __init__(
        self, planned: PlannedLink, machine: AsyncMachine, surroundings: Surroundings
    ) -> None:
        self.planned = planned
        self.machine = machine
        self.portal: Portal = machine.portal
        self._surroundings = surroundings

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
        from pytest_carthage.access.resolved import resolved_link

        return resolved_link(self.planned, self.machine.lent(self.interface))

    @property
    def other_ends(self) -> Sequence[AsyncLink]:
        """The links of other machines to the same network, of those that live."""
        found = []
        for machine, interface in self._surroundings.plan.other_ends(
            self.machine.name, self.interface
        ):
            with contextlib.suppress(KeyError):
                found.append(self._surroundings.handle(machine).links[interface])
        return found

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
    ) -> Opening[AsyncDisturbance]:
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
        from pytest_carthage.access.disturbance import Impairment, impair

        wanted = Impairment(
            loss_pct=loss_pct,
            delay_ms=delay_ms,
            jitter_ms=jitter_ms,
            rate_mbit=rate_mbit,
            duplicate_pct=duplicate_pct,
            corrupt_pct=corrupt_pct,
        )
        return impair(self, wanted, direction)

    def down(self) -> Opening[AsyncDisturbance]:
        """Pull the cable until it heals: no carrier, though the interface keeps its addresses.

        On a point-to-point network the other end has no carrier, either.

        :raises FaultError: it is pulled already.
        """
        from pytest_carthage.access.disturbance import down

        return down(self)

    def capture(self, filter: str = "") -> Opening[AsyncCapture]:
        """Capture what passes this link, in both directions (pcap-filter(7))."""
        from pytest_carthage.access.capture import capture_link

        return capture_link(self._surroundings, self.machine.name, self.planned, filter)

    def __repr__(self) -> str:
        return f"<link {self.machine.name}.{self.interface} to {self.network}>"


class LinkHandle:
    """A live link: the synchronous form of :class:`AsyncLink`, which is :attr:`aio`."""

    def __init__(self, aio: AsyncLink) -> None:
        #: the same as awaitables, for any event loop
        self.aio = aio

    @property
    def planned(self) -> PlannedLink:
        """The declaration with everything decided."""
        return self.aio.planned

    @property
    def interface(self) -> str:
        """Name of the interface in the machine."""
        return self.aio.interface

    @property
    def network(self) -> str:
        """Name of the network that it leads to."""
        return self.aio.network

    @property
    def mac(self) -> str:
        """Hardware address."""
        return self.aio.mac

    @property
    def resolved(self) -> PlannedLink | None:
        """The link with what servers gave to it; None while they have not."""
        return self.aio.resolved

    @property
    def other_ends(self) -> Sequence[LinkHandle]:
        """The links of other machines to the same network, of those that live."""
        return [LinkHandle(link) for link in self.aio.other_ends]

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
    ) -> Disturbance:
        """As :meth:`AsyncLink.impair`; in force when it returns."""
        from pytest_carthage.access.disturbance import Disturbance

        opening = self.aio.impair(
            loss_pct=loss_pct,
            delay_ms=delay_ms,
            jitter_ms=jitter_ms,
            rate_mbit=rate_mbit,
            duplicate_pct=duplicate_pct,
            corrupt_pct=corrupt_pct,
            direction=direction,
        )
        return Disturbance.of(opening, self.aio)

    def down(self) -> Disturbance:
        """As :meth:`AsyncLink.down`; in force when it returns."""
        from pytest_carthage.access.disturbance import Disturbance

        return Disturbance.of(self.aio.down(), self.aio)

    def capture(self, filter: str = "") -> Capture:
        """Capture what passes this link, in both directions, while the block runs.

        :param filter: as pcap-filter(7) describes it; empty: everything.
        """
        from pytest_carthage.access.capture import Capture

        return Capture.of(self.aio.capture(filter), self.aio)

    def __repr__(self) -> str:
        return repr(self.aio)
