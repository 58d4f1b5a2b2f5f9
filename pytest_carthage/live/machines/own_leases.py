"""What servers have lent to a machine whose own kernel asks them: seen at its links."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.errors import TimeLimitError
from pytest_carthage.live.machines.expectation import read_addresses
from pytest_carthage.live.machines.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_carthage.live.machines.core import MachineCore
    from pytest_carthage.planning.plan import Interface, PlannedAddressing, PlannedLink

__all__ = ["OwnLeases"]


class OwnLeases:
    """The leases of one machine, which has clients of its own."""

    def __init__(self, machine: MachineCore) -> None:
        self._machine = machine
        #: interface to what it was lent, IPv4 first
        self.held: Mapping[str, tuple[Lease, ...]] = {}

    async def ask(self) -> None:
        """Wait until links that are required have what they ask for.

        :raises TimeLimitError: nobody answered in time.
        """
        planned = self._machine.planned
        asking = [(link, own) for link in planned.links for own in link.addressings if own.dhcp]
        deadline, pause_s = clock.monotonic_s() + self._machine.ready_limit_s, 0.02
        while True:
            having = await read_addresses(self._machine)
            lent = [(link, own, _lent(link, own, having)) for link, own in asking]
            waiting = [
                (link, own)
                for link, own, address in lent
                if address is None and link.required and link.admin_up
            ]
            if not waiting:
                break
            if clock.monotonic_s() + pause_s > deadline:
                link, own = waiting[0]
                protocol = "DHCP" if own.network.version == 4 else "DHCPv6"
                seen = ", ".join(map(str, having.get(link.interface, ()))) or "no address"
                raise TimeLimitError(
                    f"{self._machine.who}: link {link.interface!r} to network {link.network!r}: no "
                    f"lease by {protocol} after {self._machine.ready_limit_s:g} s (last: it has "
                    f"{seen}); try: a machine with roles=[DhcpServer()] on network "
                    f"{link.network!r}"
                )
            # its client tells nobody: only polling does
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.5)
        held: dict[str, tuple[Lease, ...]] = {}
        for link, _, address in lent:
            if address is not None:
                held[link.interface] = (*held.get(link.interface, ()), Lease(address=address))
        self.held = held

    async def stop(self, *, tell: bool = True) -> None:
        """What its own clients do is theirs."""
        self.held = {}


def _lent(
    link: PlannedLink, own: PlannedAddressing, having: Mapping[str, tuple[Interface, ...]]
) -> Interface | None:
    """The address that it asked for: one of its network's, and of no other sort."""
    secondary = {one.address.ip for one in own.secondary_addresses}
    return next(
        (
            address
            for address in having.get(link.interface, ())
            if address.ip in own.network and address.ip not in secondary
        ),
        None,
    )
