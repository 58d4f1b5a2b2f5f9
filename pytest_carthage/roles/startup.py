"""Commands that a machine runs whenever it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_carthage.model.keys.key import digest
from pytest_carthage.model.role import Role
from pytest_carthage.model.task import machine_task

if TYPE_CHECKING:
    from pytest_carthage.roles.served import Served

__all__ = ["Startup"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup(Role):
    """Runs commands by ``/bin/sh`` when the machine is made, and at each later start of it.

    The first one that fails at the first start fails the machine's creation. At a later start all
    are run, whatever each of them gives: what was set in its network may be there still.
    """

    #: each for ``/bin/sh -c``, one after the other
    commands: tuple[str, ...] = ()

    @machine_task("run the commands of its startup")
    async def start(self, machine: Served) -> None:
        """Run them for the first time."""
        mark = self._mark
        await machine.run(f"mkdir -p /var/lib/{mark} /run/{mark}")
        for command in self.commands:
            await machine.run(command)

    async def refresh(self, machine: Served) -> None:
        """Run them again where the machine has been started again."""
        mark = self._mark  # what is in /run is of this life alone
        anew = await machine.run(f"test -d /var/lib/{mark} && mkdir /run/{mark}", check=False)
        if anew.ok:
            for command in self.commands:
                await machine.run(command, check=False)

    @property
    def _mark(self) -> str:
        return f"carthage-startup-{digest(list(self.commands))[:12]}"
