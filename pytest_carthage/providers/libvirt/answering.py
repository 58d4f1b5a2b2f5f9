"""Who answers for a virtual machine: its deputy, and the successors of that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire.channel import AsyncChannel
from pytest_carthage.providers.libvirt.ways import WORDS

if TYPE_CHECKING:
    from pytest_carthage.planning.plan import PlannedMachine
    from pytest_carthage.provider import Channel, Context
    from pytest_carthage.providers.libvirt.domain import Places
    from pytest_carthage.providers.libvirt.ways import Entry

__all__ = ["Answering"]


class Answering:
    """The channel to who answers for one machine, which is another one after a while.

    :param entry: the ways into it.
    """

    def __init__(
        self, context: Context, planned: PlannedMachine, entry: Entry, places: Places
    ) -> None:
        self._context = context
        self._planned = planned
        self._entry = entry
        self._places = places
        #: those that were not tried yet, the one in use first
        self._kinds = list(entry.kinds)
        #: of one that is off nobody asks anything before it is started
        self.channel: Channel = context.fabric
        self._changed = asyncio.Event()
        self._opening = asyncio.Lock()

    def __str__(self) -> str:
        """Who answers in it."""
        return WORDS[self.kind]

    @property
    def kind(self) -> str:
        """By which way it is asked."""
        return self._kinds[0]

    def fall_back(self) -> bool:
        """Turn to the next way, of a machine in which nobody answers by this one; whether there is
        one."""
        if len(self._kinds) == 1:
            return False
        del self._kinds[0]
        return True

    @property
    def is_open(self) -> bool:
        """Whether somebody answers, as far as is known."""
        is_fabric = self.channel is self._context.fabric
        return not is_fabric and not getattr(self.channel, "closed", False)

    async def appoint(self) -> None:
        """Have a deputy answer, in place of whoever did.

        :raises FabricError: it cannot be started.
        """
        self.take(await self._deputy())

    async def _deputy(self) -> Channel:
        command = self._entry.command(self.kind, self._places)
        return await self._context.deputy(self._planned.name, command)

    async def open(self) -> Channel:
        """The channel; opened anew if it is closed, with another deputy if there is none any more.

        :raises FabricError: nobody can be had.
        """
        async with self._opening:
            if not self.is_open:
                self.take(await self.another())
            channel = await self.entered(self.channel)
            if channel is not self.channel:
                self.take(channel)
            return channel

    async def is_served(self) -> bool:
        """Whether its deputy is there, and takes callers."""
        try:
            opened = await self._context.channel(self._planned.name)
        except FabricError:
            return False
        if isinstance(opened, AsyncChannel):
            opened.close()
        return True

    async def another(self) -> Channel:
        """Another channel to who answers, by another deputy if there is none any more.

        :raises FabricError: nobody can be had.
        """
        try:
            return await self._context.channel(self._planned.name)
        except FabricError:
            return await self._deputy()

    async def entered(self, channel: Channel) -> Channel:
        """A channel to a deputy that has come into the machine, where it has to.

        :raises FabricError: it cannot.
        """
        if "enter" not in (getattr(channel, "operations", None) or ()):
            return channel
        facts, _ = await channel.request("facts")
        if "user" in facts:
            return channel
        await channel.request("enter", secrets={})
        # what it can be asked for is known only now
        return await self._context.channel(self._planned.name)

    def take(self, channel: Channel) -> None:
        """Have this be the channel from now on."""
        self.channel = channel
        self._changed.set()

    async def until_closed(self) -> Channel:
        """Return when a channel is closed, which it is; one that has another in its place counts
        not."""
        while True:
            channel = self.channel
            if isinstance(channel, AsyncChannel) and channel is not self._context.fabric:
                await channel.until_closed()
                if self.channel is channel:
                    return channel
            else:
                await self.until_changed()

    async def until_changed(self) -> None:
        """Return when another channel is there."""
        self._changed.clear()
        await self._changed.wait()
