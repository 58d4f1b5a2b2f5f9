"""The creation of machines, in phases; a machine that was restored needs only some of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.errors import BlockedError, CarthageError, CreationError, brief
from pytest_carthage.images.policy import Policy
from pytest_carthage.live.machines.machine import AsyncMachine
from pytest_carthage.live.openings.mirror import Mirror
from pytest_carthage.live.refreshes import refresh
from pytest_carthage.live.resolved import Resolutions
from pytest_carthage.live.rooms import Rooms
from pytest_carthage.live.surroundings import Surroundings
from pytest_carthage.live.welcome import Welcome
from pytest_carthage.model.mistakes.culprit import described, passes_through
from pytest_carthage.planning.plan import PlannedMachine
from pytest_carthage.provider import (
    Context,
    Ends,
    Means,
    PreparesEnvironments,
    Provider,
    StartsFromImages,
    TakesUp,
)
from pytest_carthage.providing import Providers

if TYPE_CHECKING:
    from pytest_carthage.model.image import Image
    from pytest_carthage.store.built import Built

__all__ = ["Creation", "Phase", "first_cause"]


class Phase(Enum):
    """What a machine's creation consists of, in this order."""

    #: its image is built, and its provider has it
    ROOT = "root"
    #: its provider has placed and started it: its agent answers
    START = "start"
    #: its links have the addresses that they are to be lent
    NETWORK = "network"
    #: its roles' tasks are done; what welcomes it has done so before
    TASKS = "tasks"
    #: it is ready, and welcomes others
    WELCOME = "welcome"


class Creation:
    """Creates the machines of one live layout, and takes in that they are up again."""

    def __init__(
        self,
        *,
        surroundings: Surroundings[AsyncMachine],
        rooms: Rooms,
        providers: Providers,
        context: Callable[..., Any],
        resolutions: Resolutions,
        policy: Policy,
        mirror: Mirror,
    ) -> None:
        self._surroundings = surroundings
        self._rooms = rooms
        self._providers = providers
        self._context = context
        self._resolutions = resolutions
        self._policy = policy
        #: gives packages to machines
        self.mirror = mirror
        self._images: dict[str, asyncio.Task[Built]] = {}
        #: kind of a provider to what prepares the environment for it, and with what it was given
        self._prepared: dict[str, asyncio.Task[tuple[PreparesEnvironments, Context]]] = {}
        self.welcome = Welcome()
        #: what follows machines that have a power of their own
        self._following: set[asyncio.Task[None]] = set()

    async def create_all(
        self, machines: Sequence[PlannedMachine], born: Callable[[AsyncMachine], None]
    ) -> None:
        """Create machines, each when those that it waits for are ready; each one is told of.

        :raises CreationError: the first cause; what was blocked by it is not told of.
        """
        ready = {planned.name: asyncio.Event() for planned in machines}
        failed: set[str] = set()

        async def create(planned: PlannedMachine) -> None:
            name = planned.name
            for earlier in planned.after:
                if earlier in ready:
                    await ready[earlier].wait()
                    if earlier in failed:
                        failed.add(name)
                        ready[name].set()
                        return
            try:
                born(await self.create(planned))
            except BaseException:
                failed.add(name)
                raise
            finally:
                ready[name].set()

        try:
            async with asyncio.TaskGroup() as group:
                for planned in machines:
                    group.create_task(create(planned))
        except BaseExceptionGroup as errors:
            first = first_cause(errors)
            raise first from first.__cause__

    async def create(
        self, planned: PlannedMachine, *, skip: Collection[Phase] = ()
    ) -> AsyncMachine:
        """Create a machine.

        :param skip: phases whose work is done, as for a machine whose files were restored.
        :raises CreationError: it could not be created.
        """
        tell = self._surroundings.tell
        begin: float | None = None  # an image is told of by itself
        try:
            provider = self._providers[planned.target]
            if Phase.ROOT not in skip:
                await asyncio.gather(self._root(planned, provider), self._prepare(provider))
            else:
                await self._prepare(provider)
            begin = clock.monotonic_s()
            tell(planned.name, "start", planned.target)
            machine = await self._start(planned, provider)
            try:
                await self.mirror.furnish(machine)
                if Phase.NETWORK not in skip:
                    await machine.ask_for_addresses()
                self.look(machine)
                await self.welcome.arrive(machine)
                if Phase.TASKS not in skip:
                    await self._tasks(machine)
                await machine.wait_until_ready()
                if Phase.WELCOME not in skip:
                    await self.welcome.open(machine)
            except BaseException:
                await asyncio.shield(machine.give_addresses_back())
                raise
        except BaseException as error:
            if passes_through(error):
                raise
            failure = self._failure(planned, error)
            self._resolutions.forget(planned.name)
            tell(planned.name, "failed", brief(str(failure)), begin)
            if failure is error:
                raise
            raise failure from error
        tell(planned.name, "done", planned.target, begin)
        return machine

    def _failure(self, planned: PlannedMachine, error: BaseException) -> CreationError:
        """What a failed creation is told as; a provider may have raised anything."""
        if isinstance(error, CreationError):
            return error
        if isinstance(error, CarthageError):
            return CreationError(str(error))
        subject = f"machine {planned.name!r} of layout {self._surroundings.plan.layout!r}"
        return CreationError(f"{subject}: target {planned.target!r} failed: {described(error)}")

    async def _root(self, planned: PlannedMachine, provider: Provider) -> None:
        """Have a machine's image built, and its provider have it."""
        image = planned.image
        if image is None or not isinstance(provider, StartsFromImages):
            return
        if image.key not in self._images:
            self._images[image.key] = asyncio.create_task(self._build(image))
        built = await self._images[image.key]
        self.mirror.allow(built.packages)
        await provider.take_image(built)

    async def _build(self, image: Image) -> Built:
        """Build an image, and tell of those that there is something to do for."""
        from pytest_carthage.images.builder import ensure

        begin, tell = clock.monotonic_s(), self._surroundings.tell
        begun: set[str] = set()

        def note(name: str, text: str) -> None:
            tell(f"image {name}", "note" if name in begun else "start", text)
            begun.add(name)

        try:
            built = await ensure(image, portal=self._rooms.portal, note=note, policy=self._policy)
        except Exception as error:
            for name in begun:
                tell(f"image {name}", "failed", brief(str(error)), begin)
            raise
        for name in begun:
            tell(f"image {name}", "done", begin=begin)
        return built

    async def _prepare(self, provider: Provider) -> None:
        """Have a provider prepare the environment, before the first of its machines."""
        if not isinstance(provider, PreparesEnvironments):
            return
        task = self._prepared.get(provider.kind)
        if task is None or _has_failed(task):  # what was wrong may have been a machine's
            task = asyncio.create_task(self._preparation(provider, provider))
            self._prepared[provider.kind] = task
            # nobody may be left to hear of a failure
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # whoever is cancelled while others wait must not end it for them
        await asyncio.shield(task)

    async def _preparation(
        self, provider: Provider, prepares: PreparesEnvironments
    ) -> tuple[PreparesEnvironments, Context]:
        context: Context = await self._context(None, provider)
        await prepares.prepare(context)
        return prepares, context

    async def let_go(self) -> None:
        """Have providers end what they have prepared; all of them are asked.

        :raises CarthageError: the first that could not.
        """
        prepared, self._prepared = list(self._prepared.values()), {}
        for task in prepared:
            task.cancel()
        done = await asyncio.gather(*prepared, return_exceptions=True)
        ends = [each[0].end(each[1]) for each in done if not isinstance(each, BaseException)]
        for error in await asyncio.gather(*ends, return_exceptions=True):
            if error is not None:
                raise error

    async def _start(self, planned: PlannedMachine, provider: Provider) -> AsyncMachine:
        context: Context = await self._context(planned, provider)
        means = await provider.create(planned, context)
        return self._handle(planned, means, context)

    def _handle(self, planned: PlannedMachine, means: Means, context: Context) -> AsyncMachine:
        machine = AsyncMachine(
            planned,
            means,
            log=context.logs / f"{planned.name}.log",
            surroundings=self._surroundings,
            rooms=self._rooms,
            arrivals=self,
            offline=self._policy.offline,
        )
        if isinstance(means, Ends):
            following = asyncio.create_task(machine.follow())
            self._following.add(following)
            following.add_done_callback(self._following.discard)
        return machine

    async def _tasks(self, machine: AsyncMachine) -> None:
        """Do the tasks of a machine's roles; what its image has is not done again."""
        layout = self._surroundings.plan.layout
        for role in machine.planned.roles:
            is_in_image = role.key in machine.planned.built_roles
            for task in role.tasks():
                if task.kind == "filesystem" and is_in_image:
                    continue
                if task.network:
                    raise CreationError(
                        f"machine {machine.name!r} of layout {layout!r}: task "
                        f"{task.title!r} of role {type(role).__name__} ({task.place}) wants the "
                        "network, and machines are sealed; try: the role in the machine's image, "
                        "as in image.with_(...)"
                    )
                try:
                    await machine.perform(task, role)
                except BaseException as error:
                    if passes_through(error):
                        raise
                    raise CreationError(
                        f"machine {machine.name!r} of layout {layout!r}: task "
                        f"{task.title!r} of role {type(role).__name__} ({task.place}): "
                        f"{described(error, task.function)}"
                    ) from error

    # what stands already

    async def take_up(self, planned: PlannedMachine, status: Mapping[str, Any]) -> AsyncMachine:
        """The handle of a machine that stands.

        :param status: name to what the fabric says of a machine.
        :raises CreationError: it is gone, or does not answer, or its target cannot do this.
        """
        who = f"machine {planned.name!r} of layout {self._surroundings.plan.layout!r}"
        provider = self._providers[planned.target]
        if not isinstance(provider, TakesUp):
            raise CreationError(
                f"{who}: target {planned.target!r} cannot take up a machine that stands; "
                "try: without --carthage-use"
            )
        if planned.name not in status:
            raise CreationError(f"{who}: it is gone; try: build the environment anew")
        state = status[planned.name]
        context: Context = await self._context(planned, provider, stands=True)
        try:
            means = await provider.take_up(planned, context, runs=_runs(state))
        except CarthageError as error:
            raise CreationError(
                f"{who}: it does not answer: {error}; try: pytest-carthage logs "
                f"{self._surroundings.name}/{planned.name}"
            ) from error
        machine = self._handle(planned, means, context)
        if not _runs(state):
            machine.is_found_off()
        return machine

    # afterwards

    def look(self, machine: AsyncMachine) -> None:
        """Links of a machine may have become known."""
        self._resolutions.look(machine)

    async def again(self, machine: AsyncMachine) -> None:
        """A machine has been started again: its roles and those of others have their turn."""
        await self.welcome.again(machine)
        for role in machine.planned.roles:
            await refresh(machine, role)
        await self.welcome.open(machine)

    async def close(self) -> None:
        """End what is still being built, and what follows machines."""
        tasks = [*self._images.values(), *self._following]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _runs(state: Mapping[str, Any]) -> bool:
    """Whether a machine runs, by what the fabric says of it."""
    return state["pid"] is not None or bool(state["asleep"] or state["deputy"])


def first_cause(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first cause in a group: an error before a cancellation or what was blocked by it."""
    flat: list[BaseException] = []

    def walk(error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                walk(inner)
        else:
            flat.append(error)

    walk(errors)
    for error in flat:
        if not isinstance(error, (asyncio.CancelledError, BlockedError)):
            return error
    return flat[0]
