"""The addresses and names that a live machine has."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from pytest_carthage.bridge import operation
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric import names
from pytest_carthage.handles.lines import lines_of
from pytest_carthage.live.machines.core import MachineCore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_carthage.live.machines.lease import Lease, Leases
    from pytest_carthage.live.machines.own_leases import OwnLeases
    from pytest_carthage.planning.plan import PlannedLink

__all__ = ["AddressOperations"]


class AddressOperations(MachineCore):
    """Addresses, planned and lent, and the files that tell of them and of others."""

    @property
    def addresses(self) -> Mapping[str, str]:
        """Interface name to address, without the prefix length."""
        pairs = [(link.interface, self._address_of(link)) for link in self.planned.links]
        pairs += [("lo", str(own)) for own in self.planned.loopback[:1]]
        return {interface: address for interface, address in pairs if address is not None}

    def lent(self, interface: str) -> Sequence[Lease]:
        """What servers have lent to a link."""
        return self._leases.held.get(interface, ()) if self._leases is not None else ()

    def _address_of(self, link: PlannedLink) -> str | None:
        """The address that a link is known by: what a server lent stands for what was planned."""
        by_version = {one.address.version: str(one.address.ip) for one in self.lent(link.interface)}
        for own in link.addressings:
            version = own.network.version
            if version in by_version:
                return by_version[version]
            if own.address is not None:
                return str(own.address.ip)
        return None

    def address(self, network: str | None = None) -> str:
        """The machine's address in a network; the first that it has where none is named.

        ``"lo"`` stands for its loopback address.

        :raises LookupError: it has none there.
        """
        for link in self.planned.links:
            address = self._address_of(link)
            if address is not None and network in (None, link.network, link.interface):
                return address
        if network in (None, "lo") and self.planned.loopback:
            return str(self.planned.loopback[0])
        raise LookupError(f"{self._who}: no address in network {network!r}; has {self.addresses}")

    async def write_names(self, hosts: str | None = None) -> None:
        """Have ``/etc/hosts`` say what the layout says, and :attr:`aliases`.

        Nothing is written to a machine that was there before and will be there afterwards.

        Lines of others stay as they are, and so does a line of ours that others have changed.

        :param hosts: what the layout says now; None: nothing new.
        """
        if self.planned.traits.is_borrowed:
            return
        if hosts is not None:
            self._hosts = lines_of(hosts)
        now = [*self._hosts, *(f"{value} {name}" for name, value in self.aliases.items())]
        # written in place and never empty: programs may be reading it, and a container's
        # cannot be replaced
        flags = os.O_RDWR | os.O_CREAT
        async with self._naming, self._opened("/etc/hosts", flags) as fd:
            text = os.pread(fd, 1 << 24, 0).decode(errors="surrogateescape")
            data = names.merged(text, self._names, now).encode(errors="surrogateescape")
            os.pwrite(fd, data, 0)
            os.ftruncate(fd, len(data))
            self._names = now

    async def write_names_again(self) -> None:
        """The same in a machine that has just been started."""
        await self.write_names(self.surroundings.plan.hosts_file(self.planned.networks))

    @operation
    async def ask_for_addresses(self) -> None:
        """Ask for what links are to get; returns when those that are required have it.

        :raises TimeLimitError: no server and no router answered in time.
        """
        if self.planned.asks_dhcp:
            if self._leases is None:
                self._leases = self._clients()
            await self._leases.ask()
            if not self.planned.traits.has_own_kernel:
                await self._write_resolv_conf()
        if any(own.slaac for link in self.planned.links for own in link.addressings):
            from pytest_carthage.live.machines.lease import wait_for_prefixes

            await wait_for_prefixes(self.planned, self.surroundings.plan.layout, self.read_text)

    def _clients(self) -> Leases | OwnLeases:
        if self.planned.traits.has_own_kernel:
            from pytest_carthage.live.machines.own_leases import OwnLeases

            return OwnLeases(self)
        from pytest_carthage.live.machines.lease import Leases

        return Leases(self.planned, self.surroundings, self._told_of_servers)

    @operation
    async def give_addresses_back(self, *, tell: bool = True) -> None:
        """End the clients of DHCP, where there are any.

        :param tell: the servers hear of it.
        """
        if self._leases is not None:
            await self._leases.stop(tell=tell)

    def _told_of_servers(self) -> None:
        """A server has told something: the resolver is to know, as long as anybody listens here."""
        self._resolving = asyncio.ensure_future(self._write_resolv_conf())
        self._arrivals.look(self)

    async def _write_resolv_conf(self) -> None:
        from pytest_carthage.planning.resolver import resolv_conf

        assert self._leases is not None
        leases = [lease for lent in self._leases.held.values() for lease in lent]
        text = resolv_conf(
            self.planned,
            dns_servers=[server for lease in leases for server in lease.dns_servers],
            domains=[domain for lease in leases for domain in lease.domains],
        )
        with contextlib.suppress(FabricError, OSError):  # stopped: learns when it starts
            await self.write_text("/etc/resolv.conf", text)
