"""Refreshes: the machines of a layout learn who there is. None fails without a word."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from pytest_carthage.errors import CarthageError, CreationError
from pytest_carthage.model.mistakes.culprit import Authored
from pytest_carthage.work.files.scope import Scope

if TYPE_CHECKING:
    from pytest_carthage.live.machines.machine import AsyncMachine
    from pytest_carthage.model.role import Role

__all__ = ["each_that_runs", "raise_first", "refresh"]


async def refresh(machine: AsyncMachine, role: Role) -> None:
    """Have a role of a machine know who there is.

    :raises CreationError: it failed.
    """
    method = type(role).refresh
    with Authored(f"{machine.who}: refresh of role {type(role).__name__}", CreationError, method):
        await role.refresh(machine.within(Scope.of_method(method, role)))


async def each_that_runs(
    machines: Iterable[AsyncMachine],
    do: Callable[[AsyncMachine], Awaitable[None]],
    failed: Callable[[AsyncMachine, CreationError], None],
) -> list[CreationError]:
    """Have each machine that runs do something; returns what went wrong.

    One that does not run learns when it starts, and so does one that is stopped meanwhile.

    :param failed: is told of each failure.
    """

    async def attempt(machine: AsyncMachine) -> CreationError | None:
        if not machine.is_up():
            return None
        try:
            await do(machine)
        except CreationError as error:
            if not machine.is_up() and isinstance(error.__cause__, CarthageError | OSError):
                return None
            failed(machine, error)
            return error
        return None

    tried = await asyncio.gather(*(attempt(machine) for machine in machines))
    return [error for error in tried if error is not None]


def raise_first(errors: Sequence[CreationError]) -> None:
    """Raise the first of several failures, if there is one; the others are notes of it."""
    for error in errors[1:]:
        errors[0].add_note(str(error))
    if errors:
        raise errors[0]
