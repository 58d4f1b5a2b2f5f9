"""What all operations of a live machine stand on: its plan, its state, the way to its agent."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from pytest_carthage.channels.log import Log
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire.channel import AsyncChannel
from pytest_carthage.live.machines.abilities import Asked, lacked, lacks
from pytest_carthage.planning.refusal import refusal
from pytest_carthage.provider import Channel, End, Ends, Means, PrintsLogs, Slow, Stalls
from pytest_carthage.work.files.filesystem import FilesystemOperations

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_carthage.handles.capability import Capability
    from pytest_carthage.live.machines.lease import Leases
    from pytest_carthage.live.machines.own_leases import OwnLeases
    from pytest_carthage.live.rooms import Rooms
    from pytest_carthage.live.surroundings import Surroundings
    from pytest_carthage.model.mistakes.place import Place
    from pytest_carthage.planning.plan import PlannedMachine
    from pytest_carthage.work.ansible.environment import Environment

__all__ = ["Arrivals", "MachineCore"]

#: how long after its agent the news of a machine's end may come, or of its successor
_NEWS_S = 10.0


class Arrivals(Protocol):
    """Who is to know that a machine is up again, and what its links have."""

    def look(self, machine: Any) -> None:
        """Its links may have become known."""
        ...

    async def again(self, machine: Any) -> None:
        """It has been started again: its roles and those of others have their turn."""
        ...


class MachineCore(FilesystemOperations):
    """A live machine's plan and state."""

    def __init__(
        self,
        planned: PlannedMachine,
        means: Means,
        *,
        log: Path,
        surroundings: Surroundings[Any],
        rooms: Rooms,
        arrivals: Arrivals,
        offline: bool = False,
    ) -> None:
        layout = surroundings.plan.layout
        super().__init__(
            planned.name,
            who=f"machine {planned.name!r} of layout {layout!r}",
            portal=surroundings.portal,
        )
        self.planned = planned
        declared = {} if planned.image is None else dict(planned.image.config.env)
        self.locale = {**declared, **planned.env}
        self.surroundings = surroundings
        self.offline = offline
        self.package_cache = _packages
        self.mirror = planned.image.archive if planned.image is not None else ""
        self.note = lambda text: surroundings.tell(planned.name, "note", text)
        self._rooms = rooms
        self._arrivals = arrivals
        self._handle: Any = None
        #: name to address, of what this machine alone knows by name: the far ends of its gates
        self.aliases: dict[str, str] = {}
        self._naming = asyncio.Lock()
        #: forwards that are open, each with its connections
        self._forwards: dict[asyncio.Server, set[asyncio.Task[None]]] = {}
        #: what the layout says of names, and what of that and of the aliases is written
        self._hosts = surroundings.plan.hosts_file(planned.networks).splitlines()
        self._names = self._hosts
        #: what was written when a snapshot was taken, by the snapshot's name
        self._names_then: dict[str, list[str]] = {}
        self._means = means
        #: how long it may take to be ready
        self.ready_limit_s = planned.ready_timeout_s * (
            means.patience if isinstance(means, Slow) else 1
        )
        # looked up once: it takes longer than the rest of a request's way
        self._goes_off = isinstance(means, Ends)
        printed = means.printed if isinstance(means, PrintsLogs) else None
        self._log = Log(log, printed)
        self._stopped = False
        #: whether it is being destroyed: nobody tells it anything any more
        self.is_leaving = False
        #: how it ended by itself, until it is back
        self._end: End | None = None
        #: that it ended as nobody can have wanted, until somebody is told
        self._untold: End | None = None
        #: how its main process ended last; None: it has not, or there is none, or it was started
        #: again and somebody has waited for its end
        self._main_end: End | None = None
        #: how who answered for it ended last, and has a successor; None: nobody has
        self._way_end: End | None = None
        #: the connection that ended with its deputy
        self._way_gone: Channel | None = None
        #: is set while somebody answers, as far as is known
        self._is_answered = asyncio.Event()
        self._is_answered.set()
        #: how often that was started again since the machine was
        self._restarts = 0
        #: there is news for who has lost its agent, or nobody listens for that any more
        self._went_off = asyncio.Event()
        #: how often it has come back by itself, and how often somebody has waited for that
        self._reboots = 0
        self._reboots_seen = 0
        #: "frozen" or "crashed" while a fault has it so
        self.out_of_order: Literal["frozen", "crashed"] | None = None
        #: pictures of its screen that were looked at last, and the text on them
        self._screen_texts: OrderedDict[bytes, str] = OrderedDict()
        #: DHCP clients, once there are any
        self._leases: Leases | OwnLeases | None = None

    @property
    def channel(self) -> Channel:
        """The connection to the machine's agent.

        :raises FabricError: the machine is stopped, frozen or crashed.
        """
        self._refuse_out_of_order()
        if self._end is not None:
            self._untold = None
            remedy = "wait_for(rebooted())" if self._end.how == "reboot" else "start()"
            raise FabricError(f"{self._who}: {self._end}; try: {remedy}")
        if self._stopped:
            raise FabricError(f"{self._who}: it is stopped; try: start()")
        why_gone = self._why_gone if self._goes_off else None
        channel = self._means.channel
        if isinstance(channel, AsyncChannel):
            # what it was asked before waits until it goes on
            channel.is_excused = self._is_frozen
        return Asked(
            channel,
            self.planned,
            lambda: self.surroundings.plan,
            why_gone,
            self._successor,
            self._last_words,
        )

    @property
    def way(self) -> str | None:
        """By which way its deputy reaches it, as ``"agent"`` or ``"ssh"``; None: it has none."""
        return getattr(self._means.channel, "way", None)

    def _is_frozen(self) -> bool:
        return self.out_of_order == "frozen"

    async def _successor(self, gone: Channel) -> Channel:
        """Who answers in place of an endpoint that is gone, as soon as it does."""
        if self._goes_off and self._means.channel is gone:
            await self._why_gone(gone)  # one may be about to come
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.planned.ready_timeout_s):
                    await self._is_answered.wait()
        return self._means.channel

    async def _why_gone(self, gone: Channel) -> str:
        """Why its agent is gone, if that is known; empty: it is not."""
        if self._stopped or self.is_leaving or self.surroundings.closed:
            return ""
        if self._means.channel is gone and self._way_gone is not gone:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_NEWS_S):
                    await self._went_off.wait()
        if self._end is not None:
            self._untold = None
            return f"{self._who}: {self._end}"
        if self._way_gone is gone:
            return f"{self._who}: {self._way_end}; what it was doing is ended; try: again"
        if self._means.channel is not gone:
            return (
                f"{self._who}: something in it has ended the agent, which was doing this, and "
                "another one answers; try: again, and pkill with a narrower pattern"
            )
        return ""

    def can(self, capability: Capability) -> bool:
        """Whether it can be asked for this.

        :param capability: one of :data:`pytest_carthage.handles.capability.CAPABILITIES`.
        """
        return capability not in lacks(self.planned, self._means)

    def require(
        self, capability: Capability, use: str, place: Callable[[], Place] | None = None
    ) -> None:
        """Refuse what the machine cannot do, by name.

        :param use: what asks for it, as in ``freeze()``.
        :param place: tells where in the author's code.
        :raises UnsupportedError: it cannot.
        """
        if not self.can(capability):
            where = place() if place is not None else None
            plan = self.surroundings.plan
            remedy = lacked(self._means).get(capability, "")
            raise refusal(plan, self.name, capability, f"{self.name}.{use}", where, remedy)

    @property
    def is_off(self) -> bool:
        """Whether it is stopped."""
        return self._stopped

    @property
    def restarts(self) -> int:
        """How often ``restart=`` has started its main process again, since the machine started."""
        return self._restarts

    def take_collapse(self) -> str:
        """That its kernel has panicked, or its emulator has ended, if nobody was told of that yet.

        Empty: it has not, or whoever asked something of it, or started it, knows.
        """
        end, self._untold = self._untold, None
        return "" if end is None else f"{self._who}: {end}"

    @property
    def stalled(self) -> str:
        """Why it stands, which nobody has asked for; empty: it does not."""
        return self._means.stalled if isinstance(self._means, Stalls) else ""

    def is_up(self) -> bool:
        """Whether it runs, no fault has it otherwise, and it is not about to go."""
        is_on = not self._stopped and self._end is None
        return is_on and not self.is_leaving and self.out_of_order is None

    def _refuse_out_of_order(self) -> None:
        if self.out_of_order is not None:
            raise FabricError(f"{self._who}: it is {self.out_of_order}; try: heal()")

    def __repr__(self) -> str:
        return f"<{self._who} on {self.planned.target}>"

    async def ansible_environment(self) -> Environment:
        """The layout that it is in."""
        return cast("Environment", self.surroundings)


def _packages() -> Path:
    from pytest_carthage.store.packages import packages_folder

    return packages_folder()
