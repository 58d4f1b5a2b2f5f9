"""What a live machine can be asked for, and the refusal of what its endpoint does not have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pytest_carthage.errors import FabricError, UnsupportedError
from pytest_carthage.handles.capability import CAPABILITIES, OPERATIONS, Capability, lacking
from pytest_carthage.handles.channel import Channel
from pytest_carthage.planning.plan import Plan, PlannedMachine
from pytest_carthage.planning.refusal import refusal
from pytest_carthage.provider import (
    Console,
    Differs,
    Freezes,
    Means,
    Plugs,
    Powered,
    Resets,
    Screen,
    Snapshots,
)

__all__ = ["Asked", "lacked", "lacks"]


def lacks(planned: PlannedMachine, means: Means) -> frozenset[Capability]:
    """What a machine cannot be asked for: by its target's traits, its endpoint and its means."""
    traits = planned.traits
    missing = {name for name in CAPABILITIES if not traits.can(name)}
    operations = getattr(means.channel, "operations", None)
    if operations is not None:
        missing |= lacking(operations)
    if not isinstance(means, Powered):
        missing.add("power")
    if not isinstance(means, Console):
        missing.add("console")
    if not isinstance(means, Screen):
        missing.add("screen")
    if not isinstance(means, Snapshots):
        missing.add("snapshots")
    if not isinstance(means, Resets):
        missing.add("reset")
    if not isinstance(means, Plugs):
        missing.add("plug")
    if traits.outside and not isinstance(means, Freezes):  # else the fabric does it
        missing.add("freeze")
    return frozenset(missing | set(lacked(means)))


def lacked(means: Means) -> Mapping[Capability, str]:
    """What a machine lacks that others of its target have, and how an author gets that."""
    return means.lacks if isinstance(means, Differs) else {}


class Asked:
    """The way to a machine's endpoint, which refuses by name what that says it does not have.

    :param plan: gives all that is planned by now.
    :param why_gone: tells why an endpoint is gone, where that can be known.
    :param successor: gives the channel that there is in place of one that is gone.
    :param last_words: gives what the machine has printed last, for a message.
    """

    def __init__(
        self,
        channel: Channel,
        planned: PlannedMachine,
        plan: Callable[[], Plan],
        why_gone: Callable[[Channel], Awaitable[str]] | None = None,
        successor: Callable[[Channel], Awaitable[Channel]] | None = None,
        last_words: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._channel = channel
        self._why_gone = why_gone
        self._successor = successor
        self._last_words = last_words
        self._planned = planned
        self._plan = plan
        #: what the endpoint says it has; None: it does not say
        self.operations: frozenset[str] | None = getattr(channel, "operations", None)

    async def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: Any
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask, see :class:`~pytest_carthage.handles.channel.Channel`.

        :raises UnsupportedError: the endpoint does not have this operation.
        :raises FabricError: it refused, or is gone.
        """
        if self.operations is not None and op not in self.operations:
            raise self._refusal(op, self.operations)
        # what an endpoint has begun is nothing that its successor knows of
        may_pass_on = self._successor is not None and "job" not in fields
        if may_pass_on and getattr(self._channel, "closed", False):
            await self._pass_on()
        try:
            return await self._channel.request(op, fds=fds, **fields)
        except FabricError as error:
            if not getattr(self._channel, "closed", False):
                if error.is_silence and self._last_words is not None:
                    said = FabricError(f"{error}{await self._last_words()}")
                    said.is_silence = True
                    raise said from error
                raise
            gone = self._channel
            why = await self._why_gone(gone) if self._why_gone is not None else ""
            if may_pass_on and error.is_unsent:
                await self._pass_on()
            if self._channel is gone:
                if not why:
                    raise
                raise FabricError(why) from error
        return await self._channel.request(op, fds=fds, **fields)

    async def _pass_on(self) -> None:
        """Turn to who answers by now, in place of an endpoint that is gone."""
        assert self._successor is not None
        self._channel = await self._successor(self._channel)

    def _refusal(self, op: str, operations: frozenset[str]) -> UnsupportedError:
        planned, plan = self._planned, self._plan()
        for capability, needed in OPERATIONS.items():
            if op in needed:
                return refusal(plan, planned.name, capability, f"operation {op!r}")
        having = ", ".join(sorted(operations))
        return UnsupportedError(
            f"machine {planned.name!r} of layout {plan.layout!r}: who answers for it on target "
            f"{planned.target!r} has no operation {op!r} (it has {having}); try: a target whose "
            "machines answer that"
        )
