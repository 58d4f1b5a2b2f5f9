"""Welcomes: what roles of machines do for each other machine of their layout."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pytest_carthage.errors import CarthageError, CreationError
from pytest_carthage.model.mistakes.culprit import described, passes_through
from pytest_carthage.model.role import Role
from pytest_carthage.work.files.scope import Scope

if TYPE_CHECKING:
    from pytest_carthage.live.machines.machine import AsyncMachine

__all__ = ["Welcome"]


class Welcome:
    """Has each machine with a role that welcomes meet each other one, once per start of it."""

    def __init__(self) -> None:
        self._up: dict[str, AsyncMachine] = {}
        self._hosts: dict[str, AsyncMachine] = {}
        self._met: set[tuple[str, str]] = set()
        #: newcomer to what has those who welcome it take turns
        self._turns: dict[str, asyncio.Lock] = {}

    async def arrive(self, machine: AsyncMachine) -> None:
        """A machine is up, its own tasks are still to come: those that are ready welcome it.

        :raises CreationError: a role failed to.
        """
        self._up[machine.name] = machine
        for host in list(self._hosts.values()):
            await self._meet(host, machine)

    async def open(self, machine: AsyncMachine) -> None:
        """A machine is ready: it welcomes those that are up already.

        :raises CreationError: a role failed to.
        """
        if not _welcoming(machine):
            return
        self._hosts[machine.name] = machine
        try:
            async with asyncio.TaskGroup() as group:
                for newcomer in list(self._up.values()):
                    group.create_task(self._meet(machine, newcomer))
        except BaseExceptionGroup as errors:
            first = errors.exceptions[0]
            raise first from first.__cause__

    async def again(self, machine: AsyncMachine) -> None:
        """A machine is up again: what it had been given may be gone.

        :raises CreationError: a role failed to.
        """
        self._met = {(host, newcomer) for host, newcomer in self._met if newcomer != machine.name}
        await self.arrive(machine)

    def leave(self, name: str) -> None:
        """A machine is no more."""
        self._up.pop(name, None)
        self._hosts.pop(name, None)
        self._met = {pair for pair in self._met if name not in pair}

    async def _meet(self, host: AsyncMachine, newcomer: AsyncMachine) -> None:
        pair = host.name, newcomer.name
        if host == newcomer or pair in self._met or not (host.is_up() and newcomer.is_up()):
            return
        self._met.add(pair)
        async with self._turns.setdefault(newcomer.name, asyncio.Lock()):
            await self._let_meet(host, newcomer)

    async def _let_meet(self, host: AsyncMachine, newcomer: AsyncMachine) -> None:
        for role in _welcoming(host):
            scope = Scope.of_method(type(role).welcome, role)
            try:
                await role.welcome(host.within(scope), newcomer.within(scope))
            except BaseException as error:
                if passes_through(error):
                    raise
                self._met.discard((host.name, newcomer.name))
                if isinstance(error, CarthageError | OSError) and not (
                    host.is_up() and newcomer.is_up()
                ):
                    return  # they meet when it is started again
                raise CreationError(
                    f"role {type(role).__name__} of machine {host.name!r} could not welcome"
                    f" machine {newcomer.name!r}: {described(error, type(role).welcome)}"
                ) from error


def _welcoming(machine: AsyncMachine) -> list[Role]:
    return [role for role in machine.planned.roles if type(role).welcome is not Role.welcome]
