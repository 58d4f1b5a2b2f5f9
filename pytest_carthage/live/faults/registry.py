"""The faults of one live layout: what was begun, and what may not be begun beside it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence, Set
from typing import Any

from pytest_carthage.bridge import Opening, on_core
from pytest_carthage.errors import CarthageError, FabricError, FaultError, HostError
from pytest_carthage.live.faults.disturbance import AsyncDisturbance, Disturbance, Kind
from pytest_carthage.live.faults.probing import lack
from pytest_carthage.live.surroundings import Knows, Reaches, Tells

__all__ = ["Fault", "Faults", "hms"]

#: a fault that begins with ``await`` or a block
Fault = Opening[AsyncDisturbance, Disturbance]


class Faults:
    """Begins the faults of an environment, one of a kind at a time, and keeps their record."""

    def __init__(self, *, tells: Tells, knows: Knows[Any], reaches: Reaches) -> None:
        self.tells = tells
        self.knows = knows
        self.reaches = reaches
        self.portal = reaches.portal
        #: every fault that was begun, also those that are healed
        self.begun: list[AsyncDisturbance] = []

    @property
    def active(self) -> Sequence[AsyncDisturbance]:
        """Those that are in force, the oldest first."""
        return [fault for fault in tuple(self.begun) if fault.is_active]

    @property
    def layout(self) -> str:
        """Name of the layout, for messages."""
        return self.knows.plan.layout

    async def ask(self, **fields: Any) -> dict[str, Any]:
        """Have the fabric disturb something; returns its answer."""
        reply, _ = await self.reaches.fabric.request("disturb", **fields)
        return reply

    async def heal(self, number: int) -> None:
        """Have the fabric end what it called by a number."""
        try:
            await self.reaches.fabric.request("heal", number=number)
        except FabricError:
            if not self.reaches.closed:  # else it went with all the rest
                raise

    async def forget(self, machine: str) -> None:
        """A machine is about to go: what is in force on it alone ends with it."""
        for fault in self.active:
            if any(key[1:2] == (machine,) for key in fault.keys):
                if fault.kind != "crash":  # to heal that is to start the machine
                    with contextlib.suppress(CarthageError):
                        await fault.heal()
                fault.ended()

    def opening(
        self,
        kind: Kind,
        subject: str,
        keys: Set[tuple[str, ...]],
        ask: Callable[[], Coroutine[Any, Any, dict[str, Any]]],
        *,
        who: str,
        undo: Callable[[dict[str, Any]], Coroutine[Any, Any, None]] | None = None,
    ) -> Fault:
        """A fault that is to begin.

        :param keys: what no other fault may have at the same time.
        :param ask: begins it, and returns what the fabric answered.
        :param undo: ends it, given that answer; by default the fabric does.
        """

        async def begin() -> AsyncDisturbance:
            answer = await ask()

            async def heal() -> None:
                if undo is not None:
                    await undo(answer)
                else:
                    await self.heal(answer["number"])

            fault = AsyncDisturbance(self.tells, self.portal, kind, subject, keys, heal)
            if answer.get("mechanism"):
                fault.detail["by"] = answer["mechanism"]
            return fault

        async def carry_out() -> AsyncDisturbance:
            return await self._begin(kind, subject, keys, begin, who)

        return Opening(carry_out, Disturbance.of)

    @on_core
    async def _begin(
        self,
        kind: Kind,
        subject: str,
        keys: Set[tuple[str, ...]],
        begin: Callable[[], Coroutine[Any, Any, AsyncDisturbance]],
        who: str,
    ) -> AsyncDisturbance:
        """Begin a fault; nothing is begun halfway."""
        for other in self.active:
            if other.keys & keys:
                raise FaultError(
                    f"{who}: cannot begin {subject!r}: {other.subject!r} is in force "
                    f"since {hms(other.began_s)}; try: heal() that first"
                )
        reserved = AsyncDisturbance(self.tells, self.portal, kind, subject, keys, _nothing)
        self.begun.append(reserved)  # nobody else begins it meanwhile
        starting = asyncio.ensure_future(begin())
        try:
            try:
                fault = await asyncio.shield(starting)
            except asyncio.CancelledError:
                # what the fabric has begun by then must not stay
                with contextlib.suppress(CarthageError):
                    await (await starting).undo()
                raise
        except FabricError as error:
            raise _refused(subject, error) from error
        finally:
            self.begun.remove(reserved)
        self.begun.append(fault)
        self.tells.tell(f"fault {subject}", "start")
        return fault


def _refused(subject: str, error: FabricError) -> CarthageError:
    if error.errno == 95:  # EOPNOTSUPP
        refusal = str(error).partition(": ")[2] or str(error)
        return HostError([lack(subject, refusal)])
    return error


async def _nothing() -> None:
    return None


def hms(at_s: float) -> str:
    """Write a UNIX time as the time of day here, to the second."""
    return time.strftime("%H:%M:%S", time.localtime(at_s))
