"""The handle of a live machine: what a test holds in its hand."""

from __future__ import annotations

import contextlib
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_carthage.access.command import Result
from pytest_carthage.access.machine import AsyncMachine
from pytest_carthage.planning.plan import PlannedMachine
from pytest_carthage.portal import bridged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import testinfra.host

    from pytest_carthage.planning.plan import PlannedMachine

__all__ = ["MachineHandle"]


class MachineHandle:
    """A live machine: the synchronous form of :class:`AsyncMachine`, which is :attr:`aio`."""

    def __init__(self, aio: AsyncMachine) -> None:
        #: the same as awaitables, for any event loop
        self.aio = aio

    run = bridged(AsyncMachine.run)
    read_text = bridged(AsyncMachine.read_text)
    write_text = bridged(AsyncMachine.write_text)
    put = bridged(AsyncMachine.put)
    get = bridged(AsyncMachine.get)
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

    @property
    def name(self) -> str:
        """Name in the layout."""
        return self.aio.name

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

    @property
    def commands(self) -> Sequence[Result]:
        """Every command that was run through this handle."""
        return self.aio.commands

    @cached_property
    def host(self) -> testinfra.host.Host:
        """The machine as a testinfra host."""
        from pytest_carthage.access.testinfra_host import make_host

        return make_host(self)

    def __repr__(self) -> str:
        return repr(self.aio)
