"""One attempt to get out of a layout, and what it proves."""

from __future__ import annotations

import asyncio
from collections.abc import (
    Awaitable,
    Callable,
    Sequence,
)
from itertools import zip_longest
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.errors import TimeLimitError, UnsupportedError
from pytest_carthage.live.packets.sealing.report import Neighbour, SealReport
from pytest_carthage.live.packets.sealing.sending import Sending
from pytest_carthage.live.packets.sealing.targets import Targets
from pytest_carthage.live.packets.sealing.watching import Watching

if TYPE_CHECKING:
    from pytest_carthage.handles.channel import Channel
    from pytest_carthage.planning.plan import Plan


#: how long what was sent may take to get anywhere: it may wait for an ARP answer
_SETTLE_S = 0.25
_MOST_TOLD = 10


async def assert_sealed(
    plan: Plan,
    fabric: Channel,
    *,
    stations: Sequence[str],
    neighbours: Callable[[], Awaitable[Sequence[Neighbour]]],
    timeout_s: float,
) -> SealReport:
    """Prove by observation that nothing leaves a layout and nothing enters.

    :param stations: networks on which this process has a place.
    :param neighbours: gives all other live layouts.

    :raises AssertionError: something does.
    :raises TimeLimitError: it took too long.
    """
    trial = Trial(plan, fabric, stations)
    try:
        async with asyncio.timeout(timeout_s):
            return await trial.run(await neighbours())
    except TimeoutError:
        raise TimeLimitError(
            f"layout {plan.layout!r}: no proof that it is sealed after {timeout_s:g} "
            f"s ({len(trial.sent)} packets sent); try: assert_sealed(timeout_s=...) with more"
        ) from None
    finally:
        trial.close()


class Trial(Targets, Watching, Sending):
    """One attempt to get out of a layout."""

    async def run(self, neighbours: Sequence[Neighbour]) -> SealReport:
        """Try; returns what was done where nothing was found.

        :raises AssertionError: something leaves the layout or enters it.
        :raises UnsupportedError: none of its machines can be observed.
        """
        begin = clock.monotonic_s()
        self._find_destinations(neighbours)
        interfaces = await self._look_inside()
        if self._unobserved and len(self._unobserved) == len(self._plan.machines):
            reasons = "; ".join(f"{name}: {why}" for name, why in self._unobserved.items())
            raise UnsupportedError(
                f"layout {self._plan.layout!r}: assert_sealed() can observe none of its machines "
                f"({reasons}); try: targets whose machines are on the layout's networks"
            )
        await self._watch_inside()
        await self._watch_host()
        await asyncio.gather(*(self._watch_neighbour(one) for one in neighbours))
        await self._send_all(neighbours, interfaces)
        await asyncio.sleep(_SETTLE_S)  # that nothing comes can only be seen by waiting
        await self._prove_watching()
        lost = [watch.where for watch in self._watches if watch.tap.lost]
        if self._leaks:
            # of every place something, before more of one
            rows = zip_longest(*self._leaks.values())
            escapes = [text for row in rows for text in row if text is not None]
            more = len(escapes) - _MOST_TOLD
            lines = [*escapes[:_MOST_TOLD], *([f"and {more} more"] if more > 0 else [])]
            raise AssertionError(
                f"layout {self._plan.layout!r} is not sealed:" + "".join(f"\n  {t}" for t in lines)
            )
        silent = {
            (name, one.name) for name, ones in interfaces.items() for one in ones if not one.is_up
        }
        mute = set(self._frame_probes.values()) - self._heard
        if lost or (mute and not self._heard):
            why = (
                f"packets came faster than they could be looked at in: {', '.join(lost)}"
                if lost
                else "none of the packets that it sent was seen on its own networks"
            )
            raise AssertionError(
                f"layout {self._plan.layout!r}: that it is sealed is not proved: {why}; try again"
            )
        return SealReport(
            layout=self._plan.layout,
            probes=dict(self._counts),
            destinations={str(address): what for address, what in self._destinations.items()},
            watched=self._watched,
            frames=sum(watch.frames for watch in self._watches),
            silent=tuple(sorted(f"{name}.{interface}" for name, interface in silent | mute)),
            duration_s=clock.monotonic_s() - begin,
            unobserved=dict(self._unobserved),
        )
