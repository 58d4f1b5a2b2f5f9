"""Machines that join a live layout, and leave it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pytest_carthage.errors import HostError, RestoreError
from pytest_carthage.live.learning import learn
from pytest_carthage.live.refreshes import raise_first
from pytest_carthage.planning import extend_plan, reduce_plan

if TYPE_CHECKING:
    from pytest_carthage.live.announcements import Announcements
    from pytest_carthage.live.contexts import Contexts
    from pytest_carthage.live.creation import Creation
    from pytest_carthage.live.machines.machine import AsyncMachine
    from pytest_carthage.live.resolved import Resolutions
    from pytest_carthage.live.rooms import Rooms
    from pytest_carthage.live.surroundings import Surroundings
    from pytest_carthage.model.machine import Machine
    from pytest_carthage.planning.plan import PlannedMachine
    from pytest_carthage.providing import Providers

__all__ = ["Membership"]


class Membership:
    """Who is in a live layout.

    :param machines: name to handle; who joins is put there, who leaves is taken out.
    """

    def __init__(
        self,
        *,
        surroundings: Surroundings[AsyncMachine],
        machines: dict[str, AsyncMachine],
        rooms: Rooms,
        providers: Providers,
        contexts: Contexts,
        creation: Creation,
        announcements: Announcements,
        resolutions: Resolutions,
    ) -> None:
        self._surroundings = surroundings
        self._machines = machines
        self._rooms = rooms
        self._providers = providers
        self._contexts = contexts
        self._creation = creation
        self._announcements = announcements
        self._resolutions = resolutions

    async def admit(self, machine: Machine, name: str) -> AsyncMachine:
        """Create one more machine; the others learn its name.

        :raises LayoutError: it does not fit into the layout.
        :raises CreationError: it could not be created; the rest lives on. Or it was, and a role of
            another machine could not be told of it.
        """
        here = self._surroundings
        here.plan, planned = extend_plan(here.plan, name, machine)
        problems = self._providers[planned.target].check(here.plan)
        try:
            if lacking := [problem for problem in problems if not problem.is_guess]:
                raise HostError(lacking)
            if planned.asks_dhcp:  # the server has to know what it is to lend
                raise_first(await self._announcements.refresh_roles())
            created = self._machines[name] = await self._creation.create(planned)
        except BaseException as error:
            here.plan = reduce_plan(here.plan, name)
            try:
                await asyncio.shield(self._destroy(planned))
            except RestoreError as failure:
                error.add_note(str(failure))
            except Exception as failure:
                error.add_note(f"what was begun of it is still there: {failure}")
            if planned.asks_dhcp:
                await asyncio.shield(self._announcements.refresh_roles())
            raise
        await learn(here, [created])
        await self._announcements.make()
        await self._resolutions.settle()
        return created

    async def learn(self) -> None:
        """Take addresses into the plan that machines have set by themselves; all hear of them.

        :raises CreationError: one that runs could not be told; all others were.
        """
        if await learn(self._surroundings, self._surroundings.handles()):
            await self._announcements.make()

    async def dismiss(self, name: str) -> None:
        """Destroy one machine; the others forget its name.

        What cannot be destroyed is still there, and may be removed again.

        :raises CreationError: it is destroyed, and a role of another machine could not be told.
        :raises RestoreError: it is given back, and not as it was.
        """
        machine = self._machines[name]
        spoiled: RestoreError | None = None
        await self._rooms.gates.close(name)
        await self._rooms.faults.forget(name)
        machine.is_leaving = True
        try:
            await machine.give_addresses_back()
            await self._destroy(machine.planned)
        except RestoreError as error:
            spoiled = error
        except BaseException:
            machine.is_leaving = False
            raise
        del self._machines[name]
        self._surroundings.plan = reduce_plan(self._surroundings.plan, name)
        self._resolutions.forget(name)
        await self._announcements.make()
        if spoiled is not None:
            raise spoiled

    async def _destroy(self, planned: PlannedMachine) -> None:
        await self._creation.mirror.leave(planned.name)
        spoiled: RestoreError | None = None
        try:
            await self._contexts.intents.destroy(planned)
        except RestoreError as error:
            spoiled = error
        await self._surroundings.fabric.request("remove", machine=planned.name)
        self._creation.welcome.leave(planned.name)
        if spoiled is not None:
            raise spoiled
