"""Who answers for a reserved host: its deputy, and the successors of that."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.channels.ssh.deputy import deputy_by_ssh
from pytest_carthage.channels.ssh.way import Secrets
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire.channel import AsyncChannel
from pytest_carthage.provider import End

if TYPE_CHECKING:
    from pytest_carthage.planning.plan import PlannedMachine
    from pytest_carthage.provider import Channel, Context
    from pytest_carthage.providers.ssh.host import Reserved

__all__ = ["Answering"]

#: when another one is tried, where the last one has not reached the host
_AGAIN_S = 5.0


class Answering:
    """The channel to who answers for one host, which is another one after a while."""

    def __init__(self, reserved: Reserved, planned: PlannedMachine, context: Context) -> None:
        self._reserved = reserved
        self._planned = planned
        self._context = context
        self.channel: Channel = context.fabric
        #: what is said to go on with its lease
        self._lease: Mapping[str, Any] = {}
        #: the channel of who is known to have ended
        self._gone: Channel | None = None
        #: why the last one could not come to the host; empty: it could
        self._why = ""
        self._is_over = False

    def leave(self) -> None:
        """The host is given back: nobody need answer any more."""
        self._is_over = True

    async def appoint(self) -> dict[str, Any]:
        """Have a deputy come to the host; returns what that is.

        :raises FabricError: it cannot.
        """
        command = deputy_by_ssh(self._reserved.way.here(), env=self._planned.env)
        channel = await self._context.deputy(self._planned.name, command)
        try:
            secrets = dataclasses.asdict(Secrets.of(self._reserved.way, os.environ))
            facts, _ = await channel.request("enter", secrets=secrets)
        except BaseException:
            if isinstance(channel, AsyncChannel):
                channel.close()
            raise
        self.channel = channel
        return facts

    async def settle(self, lease: Mapping[str, Any]) -> None:
        """The host is reserved: what can be asked for is known only now.

        :param lease: ``lease_s``; ``boot``, that of the host in which it was laid down; and
            ``began_s``, when that was.
        """
        self._lease = lease
        self.channel = await self._context.channel(self._planned.name)

    async def open(self, lease: Mapping[str, Any]) -> dict[str, Any]:
        """Come to who answers for a host that is reserved; returns what that is.

        :param lease: as :meth:`settle` was told.
        :raises FabricError: nobody does, and nobody can be had.
        """
        self._lease = lease
        try:
            self.channel = await self._context.channel(self._planned.name)
        except FabricError:  # it was ended while nobody was there to see that
            await self.succeed()
        facts, _ = await self.channel.request("facts")
        return facts

    async def ended(self) -> End:
        """Return when who answers has ended, and again after a while if nobody came instead.

        :raises FabricError: the host was given back.
        """
        channel = self.channel
        if channel is self._gone:
            await asyncio.sleep(_AGAIN_S)
        elif isinstance(channel, AsyncChannel):
            await channel.until_closed()
        else:
            await asyncio.get_running_loop().create_future()
        if self._is_over:
            raise FabricError(f"ssh {self._reserved.way}: it was given back")
        self._gone = channel
        return End(how="deputy", status=0, at_s=clock.unix_s(), last=self._why)

    async def succeed(self) -> None:
        """Have another one answer, who goes on with the lease.

        :raises FabricError: it does not come to the host.
        """
        try:
            await self.appoint()
        except FabricError as error:
            self._why = str(error)
            raise
        # of a lease that is another's by now it tells whoever asks it for something
        with contextlib.suppress(FabricError):
            lease, owner = self._reserved.lease, self._reserved.owner
            await self.channel.request("resume", identity=lease, owner=owner, **self._lease)
        self.channel = await self._context.channel(self._planned.name)
        self._why = ""
