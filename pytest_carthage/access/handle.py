"""The handle of a live machine: what a test holds in its hand."""

from __future__ import annotations

import contextlib
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_carthage.access.filesystem import Filesystem
from pytest_carthage.access.link import LinkHandle
from pytest_carthage.access.machine import AsyncMachine
from pytest_carthage.planning.plan import PlannedMachine
from pytest_carthage.portal import bridged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_carthage.access.disturbance import Disturbance
    from pytest_carthage.planning.plan import PlannedMachine

__all__ = ["MachineHandle"]


class MachineHandle(Filesystem):
    """A live machine: the synchronous form of :class:`AsyncMachine`, which is :attr:`aio`."""

    #: the same as awaitables, for any event loop
    aio: AsyncMachine

    wait_for = bridged(AsyncMachine.wait_for)
    start = bridged(AsyncMachine.start)
    stop = bridged(AsyncMachine.stop)
    restart = bridged(AsyncMachine.restart)
    socket = bridged(AsyncMachine.socket)
    connect = bridged(AsyncMachine.connect)
    ping = bridged(AsyncMachine.ping)
    logs = bridged(AsyncMachine.logs)
    observe = bridged(AsyncMachine.observe)
    _open_forward = bridged(AsyncMachine._open_forward)
    _close_forward = bridged(AsyncMachine._close_forward)

    @contextlib.contextmanager
    def forward(self, port: int, host: str | None = None) -> Iterator[int]:
        """A port on the host's loopback that leads into the machine while the block runs."""
        server = self._open_forward(port, host)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            self._close_forward(server)

    def freeze(self) -> Disturbance:
        """As :meth:`AsyncMachine.freeze`; in force when it returns."""
        from pytest_carthage.access.disturbance import Disturbance

        return Disturbance.of(self.aio.freeze(), self.aio)

    def crash(self) -> Disturbance:
        """As :meth:`AsyncMachine.crash`; in force when it returns."""
        from pytest_carthage.access.disturbance import Disturbance

        return Disturbance.of(self.aio.crash(), self.aio)

    @property
    def planned(self) -> PlannedMachine:
        """The declaration with everything decided."""
        return self.aio.planned

    @property
    def addresses(self) -> Mapping[str, str]:
        """Interface name to address, without the prefix length."""
        return self.aio.addresses

    def address(self, network: str | None = None) -> str:
        """The machine's address in a network; the first that it has where none is named."""
        return self.aio.address(network)

    @cached_property
    def links(self) -> Mapping[str, LinkHandle]:
        """Interface name to live link."""
        return {name: LinkHandle(link) for name, link in self.aio.links.items()}

    def link(self, name: str) -> LinkHandle:
        """The link of this interface, or else the only one to the network of this name.

        :raises LookupError: there is none, or more than one.
        """
        return self.links[self.aio.link(name).interface]

    def link_to(self, machine: str | MachineHandle) -> LinkHandle:
        """The link to a network that this other machine is on, too.

        :raises LookupError: there is none, or more than one.
        """
        name = machine if isinstance(machine, str) else machine.name
        return self.links[self.aio.link_to(name).interface]
