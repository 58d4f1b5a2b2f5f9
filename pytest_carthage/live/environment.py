"""From a plan to a live layout, which is awaited: the only owner of lifetimes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.bridge import on_core
from pytest_carthage.errors import CarthageError, RestoreError, brief
from pytest_carthage.events import Event, Kind, Reporter, Silent
from pytest_carthage.images.policy import Policy
from pytest_carthage.live import ground
from pytest_carthage.live.announcements import Announcements
from pytest_carthage.live.contexts import Contexts
from pytest_carthage.live.creation import Creation
from pytest_carthage.live.faults.disturbance import AsyncDisturbance
from pytest_carthage.live.machines.circumstances import circumstances
from pytest_carthage.live.machines.machine import AsyncMachine
from pytest_carthage.live.membership import Membership
from pytest_carthage.live.openings.mirror import Mirror
from pytest_carthage.live.operations import LayoutOperations, unknown
from pytest_carthage.live.resolved import Resolutions, Subscriber
from pytest_carthage.live.rooms import Rooms
from pytest_carthage.live.runs import Fabric, Run
from pytest_carthage.live.searches import OFFERING, WITH_ROLE
from pytest_carthage.model.machine import Machine
from pytest_carthage.placing.specs import network_specs
from pytest_carthage.planning.plan import Plan
from pytest_carthage.portal import Portal
from pytest_carthage.provider import Identity, Places
from pytest_carthage.providing import Providers

if TYPE_CHECKING:
    from pytest_carthage.live.packets.recording import Recording
    from pytest_carthage.work.ansible.station import Station

__all__ = ["AsyncLayout"]


class AsyncLayout(LayoutOperations):
    """A live layout whose operations are awaited; its attributes are the async handles."""

    plan: Plan
    _rooms: Rooms

    #: as those of :class:`.Layout`
    offering = OFFERING
    with_role = WITH_ROLE

    def __init__(
        self,
        *,
        name: str,
        run: Run,
        plan: Plan,
        providers: Providers,
        portal: Portal,
        reporter: Reporter,
        folder: Path,
        fabric: Fabric,
        subscribers: Sequence[Subscriber] = (),
        policy: Policy = Policy(),  # noqa: B008  a value
    ) -> None:
        self.name = name
        self.run = run
        self.plan = plan
        self.portal = portal
        self.reporter = reporter
        self.folder = folder
        self.logs = folder / "logs"
        #: UNIX socket of the fabric; other processes reach the machines by it
        self.socket = folder / "fabric.sock"
        self.fabric = fabric
        self.machines: dict[str, AsyncMachine] = {}
        self.closed = False
        #: whether it outlives this process
        self._stays = False
        #: the last packets of its networks, where that was asked for
        self.recording: Recording | None = None
        self._rooms = Rooms.of(self)
        #: what is to be done when it was let go of
        self._gone: list[Callable[[], None]] = []
        #: what holds it, the last first
        self._lifetime = contextlib.AsyncExitStack()
        self._contexts = Contexts(
            surroundings=self,
            run=run,
            fabric=fabric,
            providers=providers,
            lifetime=self._lifetime,
            station=self._rooms.stations.place,
        )
        self._announcements = Announcements(surroundings=self, rooms=self._rooms, run=run)
        self._resolutions = Resolutions(self, name, subscribers)
        self._creation = Creation(
            surroundings=self,
            rooms=self._rooms,
            providers=providers,
            context=self._contexts.context,
            resolutions=self._resolutions,
            policy=policy,
            mirror=Mirror(tells=self, knows=self, reaches=self, starts=run, policy=policy),
        )
        self._membership = Membership(
            surroundings=self,
            machines=self.machines,
            rooms=self._rooms,
            providers=providers,
            contexts=self._contexts,
            creation=self._creation,
            announcements=self._announcements,
            resolutions=self._resolutions,
        )
        self._lifetime.callback(fabric.close)
        self._lifetime.callback(self._close_recording)
        self._lifetime.callback(self._rooms.captures.close)
        self._lifetime.callback(self._rooms.stations.close)
        self._lifetime.callback(self._rooms.control.close)
        self._lifetime.callback(self._resolutions.close)

    # building

    @classmethod
    async def build(
        cls,
        plan: Plan,
        *,
        name: str,
        run: Run,
        providers: Providers,
        portal: Portal,
        reporter: Reporter | None = None,
        subscribers: Sequence[Subscriber] = (),
        policy: Policy = Policy(),  # noqa: B008  a value
        prologue: Callable[[AsyncLayout], Awaitable[None]] | None = None,
        autopsy: Callable[[AsyncLayout], Awaitable[None]] | None = None,
    ) -> AsyncLayout:
        """Build everything in a plan; on any failure what was built is destroyed.

        :param subscribers: are told what becomes known of the links.
        :param policy: what builds of images may do.
        :param prologue: is called when there are networks, and no machines yet.
        :param autopsy: looks at what a failure left, before it is destroyed; or keeps it.
        :raises HostError: this host lacks something; nothing was created. What it is only expected
            to lack is told.
        :raises CreationError: with the first cause; what waited for it is not told of.
        """
        reporter = reporter or Silent()
        begin = clock.monotonic_s()
        problems = ground.look(plan, providers)
        folder, fabric = await ground.begin(run, name, plan)
        environment = cls(
            name=name,
            run=run,
            plan=plan,
            providers=providers,
            portal=portal,
            reporter=reporter,
            folder=folder,
            fabric=fabric,
            subscribers=subscribers,
            policy=policy,
        )
        environment._lifetime.push_async_callback(environment._let_go)
        environment._lifetime.push_async_callback(environment._end)
        environment._lifetime.push_async_callback(environment._rooms.gates.close)
        environment._lifetime.push_async_callback(environment._creation.mirror.close)
        environment._lifetime.push_async_callback(environment._creation.close)
        environment.tell("", "start", f"{len(plan.machines)} machines")
        for problem in problems:
            environment.tell("", "note", f"this host may lack something: {problem}")
        try:
            await environment._networks()
            if prologue is not None:
                await prologue(environment)
            await environment._creation.create_all(
                list(plan.machines.values()), environment._take_in
            )
            await environment._learn()
            await environment._resolutions.settle()
            environment._announcements.hand_over()
            await environment._announcements.tell_ways()
        except BaseException as error:
            if autopsy is not None and isinstance(error, Exception):
                with contextlib.suppress(Exception):
                    await autopsy(environment)
            try:
                await asyncio.shield(environment.close())
            except CarthageError as failure:  # which is not the cause
                error.add_note(str(failure))
                environment.tell("", "failed", brief(str(failure)))
            remains = "kept, as far as it stands" if environment._stays else "destroyed"
            environment.tell("", "failed", remains, begin)
            raise
        environment.tell("", "done", f"{len(plan.machines)} machines", begin)
        return environment

    @classmethod
    async def attach(
        cls,
        plan: Plan,
        *,
        name: str,
        run: Run,
        folder: Path,
        fabric: Fabric,
        providers: Providers,
        portal: Portal,
        reporter: Reporter,
        subscribers: Sequence[Subscriber] = (),
        policy: Policy = Policy(),  # noqa: B008  a value
        prologue: Callable[[AsyncLayout], Awaitable[None]] | None = None,
        identities: Sequence[Identity] = (),
    ) -> AsyncLayout:
        """Take up an environment that stands: it stays whatever becomes of this process.

        :param plan: with all machines that it has.
        :param run: the connection to who holds it.
        :param fabric: closed with the layout.
        :param identities: what the journal has of it.
        :raises CarthageError: a machine does not answer, or its target cannot be taken up.
        """
        environment = cls(
            name=name,
            run=run,
            plan=plan,
            providers=providers,
            portal=portal,
            reporter=reporter,
            folder=folder,
            fabric=fabric,
            subscribers=subscribers,
            policy=policy,
        )
        environment._stays = True
        environment._contexts.intents.recall(identities)
        begin = clock.monotonic_s()
        environment.tell("", "start", "taken up")
        environment._lifetime.push_async_callback(environment._creation.mirror.close)
        environment._lifetime.push_async_callback(environment._creation.close)
        environment._lifetime.push_async_callback(environment._rooms.gates.close)
        try:
            status, _ = await fabric.request("status")
            if prologue is not None:
                await prologue(environment)
            machines = plan.machines.values()
            taken = (environment._creation.take_up(each, status["machines"]) for each in machines)
            for machine in await asyncio.gather(*taken):
                environment._take_in(machine)
            await environment._learn()
            await environment._resolutions.settle()
        except BaseException:
            await asyncio.shield(environment.detach())
            environment.tell("", "failed", "not taken up", begin)
            raise
        environment.tell("", "done", f"taken up, {len(plan.machines)} machines", begin)
        return environment

    @on_core
    async def detach(self) -> None:
        """Let go of an environment that was taken up, which stays as it is."""
        if self.closed:
            return
        self.closed = True
        try:
            await self._leave_standing()
            await self._lifetime.aclose()
        finally:
            for callback in self._gone:
                callback()

    async def _networks(self) -> None:
        await self.fabric.request(
            "networks",
            networks=network_specs(self.plan),
        )

    @property
    def rooms(self) -> Rooms:
        """Where its operations are carried out, each with what was opened there."""
        return self._rooms

    @property
    def disturbances(self) -> Sequence[AsyncDisturbance]:
        """Every fault that was begun, also those that are healed."""
        return tuple(self._rooms.faults.begun)

    async def circumstances(self, since_s: float) -> Sequence[str]:
        """What went on since a UNIX time that may be why something has failed."""
        return await circumstances(self._rooms, self.handles(), since_s)

    def take_collapses(self) -> Sequence[str]:
        """Machines whose kernel has panicked, or whose emulator has ended, and how; each once.

        Those of which somebody was told by an error are not among them.
        """
        return [text for machine in self.handles() if (text := machine.take_collapse())]

    def _take_in(self, machine: AsyncMachine) -> None:
        self.machines[machine.name] = machine

    @property
    def place(self) -> Places:
        """Have the fabric make what is planned, see :class:`.provider.Context`."""
        return self._contexts.place

    def when_gone(self, callback: Callable[[], None]) -> None:
        """Have something called when this process has let go of it."""
        self._gone.append(callback)

    # living

    def tell(self, subject: str, kind: Kind, text: str = "", begin: float | None = None) -> None:
        """Report an event; ``begin`` (monotonic) gives its duration."""
        self.reporter.event(
            Event(
                at_s=clock.unix_s(),
                environment=self.name,
                subject=subject,
                kind=kind,
                text=text,
                duration_s=None if begin is None else clock.monotonic_s() - begin,
            )
        )

    def handle(self, name: str) -> AsyncMachine:
        """The handle of a machine.

        :raises KeyError: there is none of this name.
        """
        return self.machines[name]

    def handles(self) -> Sequence[AsyncMachine]:
        """Handles of all machines, in the order of the plan."""
        return [self.machines[name] for name in self.plan.machines if name in self.machines]

    def __getitem__(self, name: str) -> AsyncMachine:
        try:
            return self.machines[name]
        except KeyError:
            raise KeyError(unknown(self.plan, name)) from None

    def __getattr__(self, name: str) -> AsyncMachine:
        if name.startswith("_") or "machines" not in vars(self):
            raise AttributeError(name)
        try:
            return self.machines[name]
        except KeyError:
            raise AttributeError(unknown(self.plan, name)) from None

    def __iter__(self) -> Iterator[AsyncMachine]:
        return iter(self.handles())

    @property
    def _played(self) -> AsyncLayout:
        """What Ansible is to see of it."""
        return self

    def ansible_station(
        self, outside: Sequence[str], *, for_s: float
    ) -> contextlib.AbstractAsyncContextManager[Station]:
        """Where plays run, while the block does, see :meth:`.openings.control.Control.open`."""
        return self._rooms.control.open(outside, for_s=for_s)

    async def _admit(self, machine: Machine, name: str) -> AsyncMachine:
        return await self._membership.admit(machine, name)

    async def _dismiss(self, name: str) -> None:
        await self._membership.dismiss(name)

    async def _learn(self) -> None:
        await self._membership.learn()

    # the end

    @on_core
    async def keep(self, *, for_s: float | None) -> None:
        """Have everything stay when this process ends, except for what it holds open itself.

        One that cannot be left in good order is not kept, but destroyed.
        """
        await self._leave_standing()
        await self.run.keep(self.name, for_s=for_s)
        self._stays = True
        self.closed = True
        try:
            await self._lifetime.aclose()
        except BaseException:
            await asyncio.shield(self.run.destroy(self.name))
            raise

    async def _leave_standing(self) -> None:
        """Close what this process holds open, and leave what others may want."""
        await self._rooms.gates.close()
        await self._creation.mirror.stay()
        if self.recording is not None:
            from pytest_carthage.live.packets.recording import FILE

            await self.recording.write(self.folder / FILE)

    @on_core
    async def keep_remains(self, *, for_s: float | None) -> Sequence[str]:
        """As :meth:`keep`, of what a build that failed has left, if a machine of it lives.

        Returns names of those machines; none: nothing is kept.
        """
        reply, _ = await self.fabric.request("status")
        living = [
            name
            for name, machine in reply["machines"].items()
            if machine["pid"] is not None or machine["asleep"] or machine["deputy"]
        ]
        if living:
            self._announcements.hand_over()
            await self.keep(for_s=for_s)
        return living

    async def _let_go(self) -> None:
        if not self._stays:
            await self._creation.let_go()

    async def _end(self) -> None:
        if self._stays:
            return
        left = await self._contexts.intents.destroy_outside()
        try:
            await self.run.destroy(self.name)  # which tries again what is left
        except CarthageError as error:
            for identity, failure in left.items():
                error.add_note(f"{identity}: {type(failure).__name__}: {failure}")
            raise
        spoiled = []
        for identity, failure in left.items():
            self.tell(identity.name, "failed", brief(str(failure)))
            if isinstance(failure, RestoreError):  # else it is gone by now
                spoiled.append(f"machine {identity.name!r}: {failure}")
        if spoiled:
            raise RestoreError("; ".join(spoiled))

    @on_core
    async def close(self) -> None:
        """Destroy everything; what was destroyed already is not an error.

        :raises RestoreError: a host was given back, and not as it was; all else is done.
        :raises StateError: something could not be destroyed; the journal keeps it.
        """
        if self.closed:
            return
        self.closed = True
        begin = clock.monotonic_s()
        self.tell("", "start", "teardown")
        # first: their channels are closed with it
        await asyncio.gather(*(machine.tell_settings() for machine in self.handles()))
        await self._lifetime.aclose()
        self.tell("", "done", "teardown", begin)

    def _close_recording(self) -> None:
        if self.recording is not None:
            self.recording.close()
