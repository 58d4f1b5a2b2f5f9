"""Telling the machines of a live layout who there is."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pytest_carthage.errors import AnsibleError, CreationError, FabricError
from pytest_carthage.live.machines.machine import AsyncMachine
from pytest_carthage.live.openings.handover import hand_over
from pytest_carthage.live.refreshes import each_that_runs, raise_first, refresh
from pytest_carthage.live.rooms import Rooms
from pytest_carthage.live.runs import Describes
from pytest_carthage.live.surroundings import Surroundings
from pytest_carthage.planning.sketch import sketch

__all__ = ["Announcements"]


class Announcements:
    """Tells machines, stations and the record on disk of those that joined or left."""

    def __init__(
        self, *, surroundings: Surroundings[AsyncMachine], rooms: Rooms, run: Describes
    ) -> None:
        self._surroundings = surroundings
        self._rooms = rooms
        self._run = run
        self._has_twins = surroundings.plan.has_twins

    async def make(self) -> None:
        """Tell all machines who there is, and keep it on disk.

        :raises CreationError: one that runs could not be told; all others were.
        """
        plan = self._surroundings.plan
        common = plan.hosts_file(())
        await self._surroundings.fabric.request("hosts", text=common)

        def hosts(networks: Collection[str]) -> str:
            return plan.hosts_file(networks) if self._has_twins else common

        self._rooms.stations.tell_hosts(lambda network: hosts([network]))
        await self._rooms.control.tell_hosts()

        async def write(machine: AsyncMachine) -> None:
            if not machine.can("files"):
                self._surroundings.tell(machine.name, "note", "not told of names: it has no files")
                return
            try:
                await machine.write_names(hosts(machine.planned.networks))
            except (FabricError, OSError) as error:
                raise CreationError(f"{machine.who}: names of the others: {error}") from error

        failures = await each_that_runs(self._surroundings.handles(), write, self._note_failure)
        failures += await self.refresh_roles()
        await self._run.describe(self._surroundings.name, self._description())
        self.hand_over()
        raise_first(failures)

    async def tell_ways(self) -> None:
        """Keep on disk by which way machines are reached, if there is anything to tell."""
        if any(machine.way is not None for machine in self._surroundings.handles()):
            await self._run.describe(self._surroundings.name, self._description())

    def _description(self) -> dict[str, Any]:
        """What is planned, and by which way each machine is reached that no agent of ours is in."""
        description = sketch(self._surroundings.plan)
        for machine in self._surroundings.handles():
            if machine.way is not None and machine.name in description["machines"]:
                description["machines"][machine.name]["way"] = machine.way
        return description

    def hand_over(self) -> None:
        """Leave what others need to run Ansible in it."""
        try:
            hand_over(self._surroundings.plan, self._surroundings.folder)
        except (AnsibleError, OSError) as error:
            self._surroundings.tell("", "note", f"no Ansible from the command line: {error}")

    async def refresh_roles(self) -> list[CreationError]:
        """Have the services of machines know who there is; returns what went wrong."""

        async def do(machine: AsyncMachine) -> None:
            for role in machine.planned.roles:
                await refresh(machine, role)

        return await each_that_runs(self._surroundings.handles(), do, self._note_failure)

    def _note_failure(self, machine: AsyncMachine, error: CreationError) -> None:
        self._surroundings.tell(machine.name, "note", str(error).splitlines()[0])
