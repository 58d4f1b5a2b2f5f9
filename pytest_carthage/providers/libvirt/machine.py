"""A machine that is a virtual machine: switched, frozen, and followed in what it does by itself."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pytest_carthage import clock
from pytest_carthage.channels import consoles
from pytest_carthage.channels.agent import Interrupted
from pytest_carthage.channels.log import Log
from pytest_carthage.errors import CreationError, FabricError
from pytest_carthage.images.seeds.units import HOME
from pytest_carthage.placing.cards import Card, cards
from pytest_carthage.provider import Channel, Context, End, Identity
from pytest_carthage.providers.libvirt import lives, plugging, screen, snapshots, waking
from pytest_carthage.providers.libvirt.answering import Answering
from pytest_carthage.providers.libvirt.binding import Connection, Refused
from pytest_carthage.providers.libvirt.boot import Boot
from pytest_carthage.providers.libvirt.memory import backed, restore
from pytest_carthage.providers.libvirt.models import GONE
from pytest_carthage.providers.libvirt.stalls import Stall
from pytest_carthage.work import space

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Iterator,
        Mapping,
        Sequence,
    )

    from pytest_carthage.handles.capability import Capability
    from pytest_carthage.planning.plan import PlannedMachine
    from pytest_carthage.providers.libvirt.clones import Memory
    from pytest_carthage.providers.libvirt.domain import Places
    from pytest_carthage.providers.libvirt.ways import Entry
    from pytest_carthage.screens.keys import Chord

__all__ = ["Libvirt", "LibvirtMachine", "subject"]

T = TypeVar("T")


class Libvirt(Protocol):
    """A libvirt that has machines."""

    #: records their consoles; None: who asks has nothing to do with the fabric
    consoles: consoles.Consoles | None

    @property
    def connection(self) -> Connection:
        """The connection to it."""
        ...

    async def call(self, function: Callable[[Any, Any], T]) -> T:
        """Call ``function(libvirt, connection)`` in a thread."""
        ...


_LAST_LINES = 15
#: what libvirt and QEMU may take to have a machine off
_OFF_S = 30.0
#: an emulated machine has so many times as long to be ready, and to go off in good order
_EMULATED = 4
_POWER_OFF = (
    *("/bin/sh", "-c"),
    f"[ -x /{HOME}/poweroff ] && exec /{HOME}/poweroff; "
    "systemctl --no-block poweroff 2> /dev/null || poweroff",
)


def subject(planned: PlannedMachine, context: Context) -> str:
    """What an error is about."""
    return f"machine {planned.name!r} of layout {context.plan.layout!r}"


class LibvirtMachine:
    """A domain, with the deputy that answers for it.

    :param entry: the ways into it.
    :param is_emulated: whether its processors are.
    :param has_screen: whether it has a screen and a keyboard.
    :param has_snapshots: whether QEMU can keep all that it has in its disk.
    :param domain: what libvirt calls it, if that is not its own name.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        planned: PlannedMachine,
        context: Context,
        service: Libvirt,
        places: Places,
        entry: Entry,
        is_emulated: bool,
        has_screen: bool,
        has_snapshots: bool = True,
        domain: str | None = None,
    ) -> None:
        self.identity = identity
        self._planned = planned
        self._context = context
        self._service = service
        self._places = places
        self._answering = Answering(context, planned, entry, places)
        self.patience = _EMULATED if is_emulated else 1
        self.ready_limit_s = planned.ready_timeout_s * self.patience
        self._who = subject(planned, context)
        #: one at a time starts and stops it
        self._switching = asyncio.Lock()
        self._stall = Stall(places.folder, self.call, self._note)
        self._life = lives.Life(Log(places.log), self._settle, self._stall.begin)
        #: what it lacks by its declaration, see :class:`pytest_carthage.provider.Differs`
        self.lacks: Mapping[Capability, str] = {
            **({} if has_screen else {"screen": "on=Vm(graphics=True)"}),
            **({} if has_snapshots else {"snapshots": 'on=Vm(firmware="bios")'}),
        }
        self._boot = Boot(
            answering=self._answering,
            life=self._life,
            limit_s=self.ready_limit_s,
            has_systemd=planned.init == "systemd",
            note=self._note,
        )
        #: its next end by itself, while somebody waits for it
        self._ending: asyncio.Future[End] | None = None
        #: how it has ended last
        self._ended: str = ""
        self._domain = domain or planned.name
        service.connection.listen(self._domain, self._life.hear)

    @property
    def channel(self) -> Channel:
        """The connection to who answers for it."""
        return self._answering.channel

    @channel.setter
    def channel(self, channel: Channel) -> None:
        self._answering.take(channel)

    @property
    def stalled(self) -> str:
        """Why it stands just now, see :class:`pytest_carthage.provider.Stalls`."""
        return self._stall.why

    async def call(self, function: Callable[[Any, Any], T]) -> T:
        """Call ``function(libvirt, domain)`` in a thread, with the module and its virDomain.

        :raises Refused: with libvirt's own words.
        """

        def steps(libvirt: Any, connection: Any) -> T:
            return function(libvirt, connection.lookupByName(self._domain))

        return await self._service.call(steps)

    async def take_up(self) -> None:
        """Connect to it, as it stands; one that has gone off tells of that as its end.

        :raises FabricError: it does not answer.
        """
        if not await self.runs():
            self._life.is_found_off()
            return
        self._life.is_found_on()
        await self._answering.open()
        await self.wait_until_it_answers()

    async def runs(self) -> bool:
        """Whether it is on."""
        return bool(await self.call(lambda libvirt, domain: domain.isActive()))

    # power

    async def start(self) -> None:
        """Switch it on; return when its agent answers, and its init has started what it should.

        :raises CreationError: it does not start, with the last lines of its console.
        """

        async def boot() -> None:
            # it may be asked twice, by whom a libvirtd has left in the middle of it
            await self.call(lambda libvirt, domain: domain.isActive() or domain.create())
            self._life.is_found_on()
            await self._answering.appoint()
            await self.wait_until_it_answers()

        await self._start(boot)

    async def start_as_clone(self, memory: Memory) -> None:
        """The same without a boot: it goes on where another one of its recipe has come to.

        :param memory: stands on the disk that its own one stands on.
        :raises CreationError: it cannot.
        """
        pipe = self._places.folder / "memory"

        def wake(libvirt: Any, domain: Any) -> None:
            xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
            xml = backed(xml, domain.maxMemory() >> 10, memory.ram)
            restore(libvirt, domain.connect(), memory.saved, xml, pipe)

        async def begin() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.call(wake))
                group.create_task(self._answering.appoint())
            self._life.is_found_on()
            await self._boot.unless_it_ends(self._be_itself(memory))

        try:
            await self._start(begin)
        except* (Refused, FabricError, CreationError, OSError) as errors:
            first: BaseException = errors
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise CreationError(str(first)) from first

    async def _be_itself(self, memory: Memory) -> None:
        limit_s = self.ready_limit_s
        self._boot.id = await waking.become(
            self._answering.open,
            self._planned,
            memory.left,
            gone=GONE,
            limit_s=limit_s,
            waits=self._planned.init == "systemd",
            note=self._note,
        )

    def _note(self, text: str) -> None:
        self._context.note(self._planned.name, text)

    async def _start(self, begin: Callable[[], Awaitable[None]]) -> None:
        async with self._switched():
            await self._context.fabric.request("plug", machine=self._planned.name, up=True)
            self._life.begin()
            try:
                await self._record()
                await begin()
            except BaseException as error:
                if "screen" not in self.lacks and isinstance(error, Exception):
                    await screen.keep(self.call, self._places.picture)
                with contextlib.suppress(Exception):
                    await asyncio.shield(self._switch_off())
                if not isinstance(error, (Refused, FabricError)):
                    raise
                await self._settle()
                raise CreationError(f"{self._who}: {error}{self._last_words()}") from error

    async def stop(self, *, timeout_s: float = 10.0) -> None:
        """Ask its init to switch it off, or pull its plug after the time; 0: at once.

        A machine whose processors are emulated has four times as long.
        """
        async with self._switched():
            if timeout_s > 0 and not self._life.off.is_set():
                limit_s = timeout_s * self.patience
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(limit_s):
                        await self._ask_to_go_off()
                        await self._life.off.wait()
            await self._switch_off()

    async def _ask_to_go_off(self) -> None:
        # a button of ACPI's is for whoever listens to it, which not every system does
        with contextlib.suppress(FabricError, Interrupted):
            await self._boot.execute(_POWER_OFF)
            return
        with contextlib.suppress(Refused):
            await self.call(lambda libvirt, domain: domain.shutdown())

    async def _switch_off(self) -> None:
        """Pull its plug, if it is on; its deputy ends, and its links are out of service."""

        def destroy(libvirt: Any, domain: Any) -> None:
            if domain.isActive():
                try:
                    domain.destroy()
                except libvirt.libvirtError:
                    if domain.isActive():
                        raise

        await self.call(destroy)
        self._life.off.set()
        await self._context.fabric.request("stop", machine=self._planned.name)
        await self._context.fabric.request("plug", machine=self._planned.name, up=False)

    @contextlib.asynccontextmanager
    async def _switched(self) -> AsyncIterator[None]:
        async with self._switching:
            self._life.is_switched = True
            try:
                yield
            finally:
                self._life.is_switched = False

    async def reset(self) -> None:
        """Press its reset button; return when its agent answers in another boot.

        :raises FabricError: it does not, with the last lines of its console.
        """
        async with self._switched():
            try:
                await self.call(lambda libvirt, domain: domain.reset())
                await self.wait_until_it_answers()
            except (FabricError, Refused) as error:
                raise FabricError(f"{self._who}: {error}{self._last_words()}") from error

    async def freeze(self) -> None:
        """Stop its processors, until :meth:`thaw`: it answers nothing, pings neither."""
        await self.call(lambda libvirt, domain: domain.suspend())

    async def thaw(self) -> None:
        """Have them go on."""
        await self.call(lambda libvirt, domain: domain.resume())

    # snapshots

    async def snapshot(self, name: str) -> None:
        """Keep what it is now.

        :raises FabricError: libvirt cannot, with its words.
        """
        async with self._switching:
            try:
                runs = await self.call(snapshots.runs)
                try:
                    await self.call(partial(snapshots.keep, name=name))
                finally:
                    if runs:  # a libvirtd that ended in the middle has left it standing
                        await self.call(snapshots.go_on)
            except Refused as refused:
                raise FabricError(
                    f"{self._who}: snapshot {name!r} cannot be kept: {refused}"
                    f"{space.of_state(refused, self._context.folder)}"
                ) from refused

    async def snapshots(self) -> Sequence[str]:
        """Names of what is kept."""
        return await self.call(snapshots.names)

    async def revert(self, name: str) -> None:
        """Put it back, and have it run; return when its agent answers.

        :raises FabricError: it cannot, or its agent does not answer.
        """

        async def go_on() -> None:
            await self.call(partial(snapshots.put_back, name=name))
            self._life.is_found_on()
            # what the one before has begun is not known there
            await self._answering.appoint()
            await self._boot.unless_it_ends(self._renew())

        try:
            async with self._switched():
                if self._life.off.is_set():
                    request = self._context.fabric.request
                    await request("plug", machine=self._planned.name, up=True)
                    self._life.begin()
                    await self._record()
                await go_on()
        except (Refused, FabricError) as error:
            raise FabricError(
                f"{self._who}: it cannot be put back to {name!r}: {error}{self._last_words()}"
            ) from error

    async def _renew(self) -> None:
        limit_s = self.ready_limit_s
        self._boot.id = await waking.renew(self._answering.open, limit_s=limit_s, note=self._note)

    # links

    async def signal(self, port: str, *, present: bool) -> None:
        """Have the interface at this tap have a carrier, or none: from now on, and if it starts."""
        await self.call(partial(plugging.set_carrier, port=port, present=present))

    async def plug_disk(self, name: str, size_mib: int) -> None:
        """Make an empty disk, and plug it in."""
        await self._plug(
            partial(plugging.plug_disk, places=self._places, name=name, size_mib=size_mib)
        )

    async def unplug_disk(self, name: str) -> None:
        """Pull a disk out, which is deleted unless a snapshot has it."""
        await self._plug(partial(plugging.unplug_disk, places=self._places, name=name))

    async def plug_card(self, port: str) -> None:
        """Plug a card in again."""
        await self._plug(partial(plugging.plug_card, card=self._card(port)))

    async def unplug_card(self, port: str) -> None:
        """Pull a card out; its tap stays."""
        await self._plug(partial(plugging.unplug_card, card=self._card(port)))

    def _card(self, port: str) -> Card:
        return next(card for card in cards(self._planned) if card.port == port)

    async def _plug(self, function: Callable[[Any, Any], None]) -> None:
        try:
            await self.call(function)
        except (FabricError, Refused, OSError) as error:
            raise FabricError(f"{self._who}: {error}") from error

    # console and screen

    async def _record(self) -> None:
        """Have what its console prints recorded."""
        assert self._service.consoles is not None
        await self._service.consoles.record(
            self._planned.name, self._places.serial, self._places.log
        )

    async def _settle(self) -> None:
        await consoles.settle(self._context.folder, self._planned.name)

    async def attach(self, *, lines: int) -> consoles.Attached:
        """Attach to its serial console; the last lines that were printed come first."""
        attach = partial(consoles.attach, lines=lines)
        return await asyncio.to_thread(attach, self._context.folder, self._planned.name)

    async def screenshot(self) -> bytes:
        """What is on its screen now: a PNG file."""
        with self._refusals("no picture of its screen"):
            return await screen.screenshot(self.call)

    async def press(self, chords: Sequence[Chord]) -> None:
        """Press keys, one chord after the other."""
        with self._refusals("no keys can be typed at it"):
            await screen.press(self.call, chords)

    @contextlib.contextmanager
    def _refusals(self, what: str) -> Iterator[None]:
        """Tell libvirt's refusals as the machine's.

        :raises FabricError: libvirt refused.
        """
        try:
            yield
        except (Refused, ValueError) as error:
            raise FabricError(f"{self._who}: {what}: {error}") from error

    # by itself

    async def ended(self) -> End:
        """Return when it has ended by itself, or who answers for it has, and has a successor.

        :raises FabricError: it was removed.
        """
        end = await self._next_end()
        self._ended = end.how
        if end.how not in ("reboot", "agent", "deputy"):
            async with self._switched():
                with contextlib.suppress(Refused, FabricError):
                    await self._switch_off()
        return end

    async def _next_end(self) -> End:
        ending = self._ending or asyncio.ensure_future(self._life.next())
        self._ending = ending
        succeeding = asyncio.ensure_future(self._until_another_answers())
        try:
            await asyncio.wait({ending, succeeding}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                return await succeeding
            self._ending = None
            return await ending
        except asyncio.CancelledError:
            ending.cancel()
            raise
        finally:
            succeeding.cancel()
            await asyncio.gather(succeeding, return_exceptions=True)

    async def _until_another_answers(self) -> End:
        """Wait until who answers is gone, though it is on and nobody switches it, and have another.

        A boot that is not the one that was known is told as a reboot, which nobody has heard of.
        """
        while True:
            gone = await self._answering.until_closed()
            at_s = clock.unix_s()
            async with self._switching:
                pass  # whoever holds it sees to it
            if self.channel is not gone:
                continue
            if self._life.off.is_set():
                await self._answering.until_changed()
                continue
            if not await self._answering.is_served():
                return End(how="deputy", status=0, at_s=at_s, last="")
            if await self._boot.is_another():
                self._life.hear(lives.RESET, 0)
                await asyncio.get_running_loop().create_future()  # it is told now
            return End(how="agent", status=0, at_s=at_s, last="")

    async def _until_succeeded(self) -> None:
        try:
            async with asyncio.timeout(self.ready_limit_s):
                if await self._boot.is_another():
                    self._life.hear(lives.RESET, 0)
        except TimeoutError:
            raise FabricError(f"nobody answers for it after {self.ready_limit_s:g} s") from None

    async def back(self) -> None:
        """Return when it has come back after a reboot: its agent answers in another boot; or when
        somebody answers again.

        :raises FabricError: it has not in time.
        """
        # whoever stops it need not wait for that
        try:
            if self._ended == "deputy":
                await self._boot.unless_it_ends(self._until_succeeded())
            elif self._ended != "agent":
                await self.wait_until_it_answers()
        except FabricError as error:
            raise FabricError(f"{error}{self._last_words()}") from error

    # the way in

    async def wait_until_it_answers(self) -> None:
        """Wait until its agent answers, from a boot that is another one than the last.

        :raises FabricError: it does not in time, or the machine ends meanwhile.
        """
        await self._boot.until_ready()

    def _last_words(self) -> str:
        lines = self._life.last_lines(_LAST_LINES)
        said = "".join(f"\n  {line}" for line in lines)
        return f"; console: {self._places.log}" + (f", which ends:{said}" if said else "")
