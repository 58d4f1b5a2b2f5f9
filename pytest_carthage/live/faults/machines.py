"""Frozen and crashed machines."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from pytest_carthage.errors import FaultError
from pytest_carthage.live.faults.cables import ports_of
from pytest_carthage.live.faults.registry import Fault, Faults
from pytest_carthage.planning.plan import PlannedMachine
from pytest_carthage.provider import Freezes

__all__ = ["FaultyMachine", "crash", "freeze"]


class FaultyMachine(Protocol):
    """A live machine, as its faults see it."""

    planned: PlannedMachine
    #: what a fault has made of it
    out_of_order: Literal["frozen", "crashed"] | None

    @property
    def is_off(self) -> bool:
        """Whether it is stopped."""
        ...

    async def has_crashed(self) -> None:
        """Take in that it went off without a goodbye."""
        ...

    @property
    def freezer(self) -> Freezes | None:
        """What freezes it in place of the fabric."""
        ...

    def powered(self) -> object:
        """Its switch.

        :raises CarthageError: it has none.
        """
        ...

    async def switched_on(self) -> None:
        """Start it, until it is ready."""
        ...


def freeze(faults: Faults, machine: FaultyMachine) -> Fault:
    """Stop all processes of a machine at once; its kernel goes on, and answers pings."""
    name = machine.planned.name

    async def ask() -> dict[str, Any]:
        _check_on(faults, machine, "freeze")
        machine.out_of_order = "frozen"
        try:
            if machine.freezer is not None:
                await machine.freezer.freeze()
                return {}
            return await faults.ask(kind="freeze", machine=name)
        except BaseException:
            machine.out_of_order = None
            raise

    async def undo(answer: dict[str, Any]) -> None:
        if machine.freezer is not None:
            await machine.freezer.thaw()
        else:
            await faults.heal(answer["number"])
        if machine.out_of_order == "frozen":
            machine.out_of_order = None

    return faults.opening(
        "freeze",
        f"machine {name} frozen",
        {("machine", name)},
        ask,
        who=_who(faults, name),
        undo=undo,
    )


def crash(faults: Faults, machine: FaultyMachine) -> Fault:
    """Switch a machine off without a goodbye to anybody; healing starts it again.

    :raises CarthageError: its target cannot start it again.
    """
    name = machine.planned.name
    machine.powered()

    async def ask() -> dict[str, Any]:
        _check_on(faults, machine, "crash")
        answer: dict[str, Any] = {}
        traits = machine.planned.traits
        if not traits.outside and not traits.has_own_kernel:
            ports = [port for link in machine.planned.links for port in ports_of(link)]
            answer = await faults.ask(kind="crash", machine=name, ports=ports)
        await machine.has_crashed()
        return answer

    async def undo(answer: dict[str, Any]) -> None:
        if faults.reaches.closed or machine.out_of_order != "crashed":
            return  # somebody has started it again
        try:
            faults.knows.handle(name)
        except KeyError:
            return  # it was removed
        await machine.switched_on()

    return faults.opening(
        "crash",
        f"machine {name} crashed",
        {("machine", name)},
        ask,
        who=_who(faults, name),
        undo=undo,
    )


def _who(faults: Faults, name: str) -> str:
    return f"machine {name!r} of layout {faults.layout!r}"


def _check_on(faults: Faults, machine: FaultyMachine, verb: str) -> None:
    if machine.is_off:
        raise FaultError(
            f"{_who(faults, machine.planned.name)}: cannot {verb} it: it is stopped; try: start()"
        )
