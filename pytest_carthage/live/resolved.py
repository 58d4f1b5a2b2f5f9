"""What becomes known while a layout comes to life: the configuration of links, public addresses."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_carthage.errors import CreationError
from pytest_carthage.model.mistakes.culprit import described

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Address, IPv6Address

    from pytest_carthage.live.machines.machine import AsyncMachine
    from pytest_carthage.live.surroundings import Knows
    from pytest_carthage.planning.plan import PlannedLink

__all__ = ["LinkResolved", "NetworkEvent", "PublicAddressKnown", "Resolutions", "Subscriber"]

#: machine and interface
End: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkResolved:
    """A link's configuration is final: as planned, or with what a server gave."""

    #: name of the environment
    environment: str
    machine: str
    #: its addresses included, also those that nobody knew before
    link: PlannedLink
    #: machine and interface at the other ends, to a future of their configuration; it is done
    #: when their machine has got that far, and cancelled when their machine fails, or is ready
    #: without them (``required=False``)
    far_ends: Mapping[End, asyncio.Future[PlannedLink]]
    #: what is still to happen: far ends that are not known yet, and what subscribers do
    pending: set[asyncio.Future[Any]] = field(default_factory=set, compare=False)

    async def settled(self) -> None:
        """Wait until everything has happened that follows from this.

        A subscriber waits for some of :attr:`far_ends` instead: its own work is part of this.

        :raises RuntimeError: a subscriber of this event waits for itself.
        """
        current = asyncio.current_task()
        if current in self.pending:
            raise RuntimeError(
                f"a subscriber of {self.machine}.{self.link.interface} waits for itself; "
                "try: await its far_ends"
            )
        while waiting := [one for one in self.pending if not one.done()]:
            await asyncio.wait(waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicAddressKnown:
    """The address by which a link's own is known outside has become known."""

    environment: str
    machine: str
    interface: str
    address: IPv4Address | IPv6Address
    public_address: IPv4Address | IPv6Address


NetworkEvent: TypeAlias = LinkResolved | PublicAddressKnown
#: is told on the thread of the layouts, so it must not block; what it returns is awaited
Subscriber: TypeAlias = Callable[[NetworkEvent], Awaitable[None] | None]


class Resolutions:
    """Tells the subscribers of one environment what has become known; costs nothing without."""

    def __init__(
        self, knows: Knows[Any], environment: str, subscribers: Iterable[Subscriber] = ()
    ) -> None:
        self._knows = knows
        self._environment = environment
        self._subscribers = tuple(subscribers)
        self._ends: dict[End, asyncio.Future[PlannedLink]] = {}
        self._told: dict[End, PlannedLink] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[CreationError] = []

    def look(self, machine: AsyncMachine) -> None:
        """Tell of the links of a machine that have become known, or have changed."""
        if not self._subscribers:
            return
        for interface, link in machine.links.items():
            resolved = link.resolved
            end = machine.name, interface
            if resolved is None or self._told.get(end) == resolved:
                continue
            self._told[end] = resolved
            if self._future(end).cancelled():  # nobody has waited for it any more
                del self._ends[end]
            future = self._future(end)
            if not future.done():
                future.set_result(resolved)
            self._tell_of(machine.name, resolved)

    def _tell_of(self, machine: str, link: PlannedLink) -> None:
        environment, plan = self._environment, self._knows.plan
        ends = plan.other_ends(machine, link.interface) if link.network else ()
        event = LinkResolved(
            environment=environment,
            machine=machine,
            link=link,
            far_ends={end: self._future(end) for end in ends},
        )
        event.pending.update(one for one in event.far_ends.values() if not one.done())
        self._tell(event, event.pending)
        for addressing in link.addressings:
            pairs = [(one.address, one.public) for one in addressing.secondary_addresses]
            if addressing.address is not None:
                pairs.insert(0, (addressing.address, addressing.public_address))
            for address, public in pairs:
                if public is not None:
                    announced = PublicAddressKnown(
                        environment=environment,
                        machine=machine,
                        interface=link.interface,
                        address=address.ip,
                        public_address=public,
                    )
                    self._tell(announced, event.pending)

    def _future(self, end: End) -> asyncio.Future[PlannedLink]:
        if end not in self._ends:
            self._ends[end] = asyncio.get_running_loop().create_future()
        return self._ends[end]

    def _tell(self, event: NetworkEvent, pending: set[asyncio.Future[Any]]) -> None:
        for subscriber in self._subscribers:
            task = asyncio.get_running_loop().create_task(self._tell_one(subscriber, event))
            pending.add(task)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell_one(self, subscriber: Subscriber, event: NetworkEvent) -> None:
        try:
            returned = subscriber(event)
            if inspect.isawaitable(returned):
                await returned
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # sys.exit() and pytest.fail() are none of Exception
            name = getattr(subscriber, "__qualname__", repr(subscriber))
            subject = f"subscriber {name} of {type(event).__name__}"
            failure = CreationError(f"{subject} failed: {described(error, subscriber)}")
            failure.__cause__ = error
            self._failures.append(failure)

    def forget(self, machine: str) -> None:
        """A machine failed or is gone: nobody waits for it any more."""
        for end in [end for end in self._ends if end[0] == machine]:
            self._ends.pop(end).cancel()
            self._told.pop(end, None)

    async def settle(self) -> None:
        """Wait until all subscribers have done their work.

        :raises CreationError: one of them failed.
        """
        while self._tasks:
            self._give_up()
            await asyncio.wait(set(self._tasks))
        if self._failures:
            first, self._failures = self._failures[0], []
            raise first

    def _give_up(self) -> None:
        """What a machine is ready without may never come; when it does, that is told anew."""
        for (machine, _), future in self._ends.items():
            with contextlib.suppress(KeyError):  # it is on its way
                self._knows.handle(machine)
                future.cancel()

    def close(self) -> None:
        """End what subscribers still do."""
        for task in self._tasks:
            task.cancel()
        for future in self._ends.values():
            future.cancel()
