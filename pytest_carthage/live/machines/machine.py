"""The two handles of a live machine: one is awaited, the other one waits."""

from __future__ import annotations

import socket as sockets
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_carthage.bridge import TwoFaced
from pytest_carthage.live.machines.connections import ConnectionOperations
from pytest_carthage.live.machines.iproute import async_iproute, iproute, library
from pytest_carthage.live.machines.link import AsyncLink, LinkHandle
from pytest_carthage.live.machines.network import AsyncNetworkView, NetworkView
from pytest_carthage.live.machines.power import PowerOperations
from pytest_carthage.live.machines.snapshots import SnapshotOperations
from pytest_carthage.work.files.filesystem import AsyncFilesystem, Filesystem
from pytest_carthage.work.files.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyroute2

__all__ = ["AsyncMachine", "MachineHandle"]


#: what socket(2) takes for a socket of rtnetlink(7)
_RTNETLINK = (int(sockets.AF_NETLINK), int(sockets.SOCK_DGRAM), 0)


class MachineOperations(SnapshotOperations, PowerOperations, ConnectionOperations):
    """What can be done with a live machine."""


class AsyncMachine(MachineOperations, AsyncFilesystem, TwoFaced["MachineHandle"]):
    """A live machine; every coroutine may be awaited from any event loop."""

    @cached_property
    def links(self) -> Mapping[str, AsyncLink]:
        """Interface name to live link."""
        return {link.interface: AsyncLink(link, self, self._rooms) for link in self.planned.links}

    def link(self, name: str) -> AsyncLink:
        """The link of this interface, or else the only one to the network of this name.

        :raises LookupError: there is none, or more than one.
        """
        if name in self.links:
            return self.links[name]
        links = [link for link in self.links.values() if link.network == name]
        return self._only(links, f"to network {name!r}")

    def link_to(self, machine: str) -> AsyncLink:
        """The link to a network that this other machine is on, too.

        :raises LookupError: there is none, or more than one.
        """
        plan = self.surroundings.plan
        if machine not in plan.machines:
            raise LookupError(
                f"{self._who}: the layout has no machine {machine!r}; it has {list(plan.machines)}"
            )
        there = {link.network for link in plan.machines[machine].links}
        links = [link for link in self.links.values() if link.network in there]
        return self._only(links, f"to machine {machine!r}")

    def _only(self, found: Sequence[AsyncLink], where: str) -> AsyncLink:
        if len(found) == 1:
            return found[0]
        having = ", ".join(f"{link.interface} ({link.network})" for link in self.links.values())
        raise LookupError(
            f"{self._who}: {len(found) or 'no'} links {where}; it has {having or 'none'}; "
            "try: the name of an interface"
        )

    @cached_property
    def network(self) -> AsyncNetworkView:
        """What its kernel says of its network: addresses, routes, neighbours, counters."""
        return AsyncNetworkView(self)

    async def netlink(self) -> int:
        """A socket of rtnetlink(7) that lives in its network: a descriptor.

        :raises UnsupportedError: its target gives none.
        """
        return (await self.socket(*_RTNETLINK)).detach()

    async def iproute(self) -> pyroute2.AsyncIPRoute:
        """pyroute2's ``AsyncIPRoute``, whose socket lives in the machine's network.

        It is used on the event loop of whoever awaits this, and closed by them:
        ``async with await machine.aio.iproute() as ipr``.

        :raises HostError: pyroute2, the extra ``iproute``, is not installed.
        :raises UnsupportedError: its target gives no sockets.
        """
        library(self.who)
        return async_iproute(self.who, await self.netlink())

    @property
    def sync(self) -> MachineHandle:
        """The same for callers that wait; of one machine always the same, but for its views."""
        if self.scope != Scope():
            return MachineHandle(self)
        if self._handle is None:
            self._handle = MachineHandle(self)
        handle: MachineHandle = self._handle
        return handle


class MachineHandle(Filesystem, MachineOperations):
    """A live machine, for callers that wait; :attr:`aio` is the same as awaitables."""

    aio: AsyncMachine

    def __init__(self, aio: AsyncMachine) -> None:
        self.aio = aio

    @cached_property
    def links(self) -> Mapping[str, LinkHandle]:
        """Interface name to live link."""
        return {name: link.sync for name, link in self.aio.links.items()}

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

    @cached_property
    def network(self) -> NetworkView:
        """What its kernel says of its network: addresses, routes, neighbours, counters."""
        return self.aio.network.sync

    def iproute(self) -> pyroute2.IPRoute:
        """pyroute2's ``IPRoute``, whose socket lives in the machine's network.

        The caller closes it: ``with machine.iproute() as ipr``. It belongs to the caller's thread.

        :raises HostError: pyroute2, the extra ``iproute``, is not installed.
        :raises UnsupportedError: its target gives no sockets.
        :raises RuntimeError: an event loop runs here.
        """
        library(self.aio.who)
        return iproute(self.aio.who, self.socket(*_RTNETLINK))
