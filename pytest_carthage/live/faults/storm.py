"""Faults as a schedule: drawn from a seed, run in the background, replayed exactly.

::

    with storm(shop, seed=7, for_s=10):
        ...                             # what must hold while the network is like that

Single faults begin at handles: ``shop.web.link("eth0").impair(loss_pct=5)``, ``.down()``,
``shop.partition({shop.web}, {shop.db})``, ``shop.db.freeze()``, ``.crash()``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Protocol

from pytest_carthage import clock
from pytest_carthage.bridge import Opening, on_core, operation
from pytest_carthage.errors import CarthageError, FaultError, HostError
from pytest_carthage.live.faults.cuts import partition
from pytest_carthage.live.faults.disturbance import (
    AsyncDisturbance,
    Disturbance,
    DisturbanceOperations,
    within,
)
from pytest_carthage.live.faults.impairment import Impairment
from pytest_carthage.live.faults.links import down, impair
from pytest_carthage.live.faults.machines import crash, freeze
from pytest_carthage.live.faults.probing import lacking
from pytest_carthage.live.faults.registry import Fault, Faults
from pytest_carthage.live.faults.schedule import Schedule, ScheduledFault, schedule
from pytest_carthage.planning.plan import Plan

__all__ = ["AsyncStorm", "Storm", "replay", "replay_aio", "storm", "storm_aio"]


class StormOperations(DisturbanceOperations):
    """What can be done with a storm that has begun."""

    @operation
    async def wait(self) -> None:
        """Wait until the schedule is over; everything is healed then."""
        await self.over()
        await self.heal()

    async def over(self) -> None:
        """Wait until the schedule is over."""
        raise NotImplementedError


class AsyncStorm(AsyncDisturbance, StormOperations):
    """A storm that has begun; it goes on in the background until its schedule ends or it is healed.

    To heal it is to end it: everything that it began is healed.
    """

    def __init__(self, faults: Faults, plan: Schedule) -> None:
        seed = "replayed" if plan.seed is None else f"seed {plan.seed}"
        super().__init__(
            faults.tells, faults.portal, "storm", f"storm {seed}", frozenset(), self._end
        )
        self._faults = faults
        #: what was to be done
        self.schedule = plan
        #: what was done, with its times
        self.done: list[AsyncDisturbance] = []
        #: faults that could not begin, or not be healed in time, and why
        self.failures: list[str] = []
        self.detail = {"seed": plan.seed, "schedule": json.loads(plan.as_json())["faults"]}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; on the event loop that everything happens on."""
        self._task = asyncio.create_task(self._blow())

    async def _blow(self) -> None:
        begin = clock.monotonic_s()
        within.set(self)
        async with asyncio.TaskGroup() as group:
            for fault in self.schedule.faults:
                group.create_task(self._carry_out(fault, begin))

    async def _carry_out(self, fault: ScheduledFault, begin: float) -> None:
        await asyncio.sleep(max(0.0, begin + fault.at_s - clock.monotonic_s()))
        try:
            begun = await self._opening(fault)
        except (CarthageError, LookupError) as error:
            # a machine that is off, or an impairment of the test's own, is in the way
            self.failures.append(f"{fault}: {str(error).splitlines()[0]}")
            return
        self.done.append(begun)
        await asyncio.sleep(max(0.0, begin + fault.ends_s - clock.monotonic_s()))
        try:
            await begun.heal()
        except CarthageError as error:
            self.failures.append(f"{fault}: {str(error).splitlines()[0]}")

    def _opening(self, fault: ScheduledFault) -> Fault:
        if fault.kind == "partition":
            return partition(self._faults, *fault.groups)
        machine = self._faults.knows.handle(fault.machine)
        if fault.kind == "freeze":
            return freeze(self._faults, machine)
        if fault.kind == "crash":
            return crash(self._faults, machine)
        link = machine.link(fault.interface)
        if fault.kind == "down":
            return down(self._faults, link)
        return impair(self._faults, link, Impairment(**fault.values))

    async def over(self) -> None:
        """Wait until the schedule is over."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            (ended,) = await asyncio.gather(self._task, return_exceptions=True)
            if isinstance(ended, Exception):
                self.failures.append(f"the storm itself: {ended!r}")
        errors = []
        for fault in [one for one in reversed(self._faults.begun) if self._is_own(one)]:
            try:
                await fault.heal()
            except CarthageError as error:
                errors.append(f"{fault.subject}: {error}")
        self.detail["failures"] = self.failures
        if errors:
            raise FaultError(f"{self.subject}: not all was healed:\n" + "\n".join(errors))

    def _is_own(self, fault: AsyncDisturbance) -> bool:
        return fault.part_of is self and fault.is_active


class Storm(Disturbance, StormOperations):
    """A storm that has begun: the form of :class:`AsyncStorm` for callers that wait."""

    aio: AsyncStorm

    @property
    def schedule(self) -> Schedule:
        """What was to be done."""
        return self.aio.schedule

    @property
    def done(self) -> Sequence[AsyncDisturbance]:
        """What was done, with its times."""
        return tuple(self.aio.done)

    @property
    def failures(self) -> Sequence[str]:
        """Faults that could not begin, or not be healed in time, and why."""
        return tuple(self.aio.failures)

    def __exit__(self, *exc: object) -> None:
        if isinstance(exc[1], BaseException):
            exc[1].add_note(f"this was in a {self.schedule}")
        self.heal()


class _StormOpening(Opening[AsyncStorm, Storm]):
    """Tells an error that leaves the block what it was in."""

    def __init__(self, faults: Faults, plan: Schedule) -> None:
        super().__init__(_Begin(faults, plan).begin, Storm.of)
        self._schedule = plan

    async def __aexit__(self, *exc: object) -> None:
        if isinstance(exc[1], BaseException):
            exc[1].add_note(f"this was in a {self._schedule}")
        await super().__aexit__(*exc)


class _Begin:
    def __init__(self, faults: Faults, plan: Schedule) -> None:
        self.portal = faults.portal
        self._faults = faults
        self._schedule = plan

    @on_core
    async def begin(self) -> AsyncStorm:
        await asyncio.to_thread(_check, self._faults.knows.plan, self._schedule)
        begun = AsyncStorm(self._faults, self._schedule)
        self._faults.begun.append(begun)
        self._faults.tells.tell(f"fault {begun.subject}", "start", self._schedule.summary)
        begun.start()
        return begun


class Faulty(Protocol):
    """A live layout, in either of its faces."""

    @property
    def _faults(self) -> Faults:
        """Its faults."""
        ...

    @property
    def plan(self) -> Plan:
        """What is planned by now."""
        ...


def _check(plan: Plan, schedule: Schedule) -> None:
    problems = lacking(fault.kind for fault in schedule.faults)
    if problems:
        raise HostError(problems)
    for fault in schedule.faults:
        named = {fault.machine, *(name for group in fault.groups for name in group)} - {""}
        for name in sorted(named - set(plan.machines)):
            having = ", ".join(plan.machines)
            raise LookupError(
                f"layout {plan.layout!r} has no machine {name!r}, which the "
                f"schedule's {str(fault).strip()!r} is about; its machines are: {having}"
            )


def replay_aio(shop: Faulty, plan: Schedule) -> Opening[AsyncStorm, Storm]:
    """As :func:`replay`: ``async with``, or ``await`` and later ``heal()``."""
    return _StormOpening(shop._faults, plan)


def replay(shop: Faulty, plan: Schedule) -> Storm:
    """Do what a schedule says, in the background, from now on.

    :raises HostError: this host cannot do one of its faults; nothing has begun.
    :raises LookupError: one is about a machine that the layout does not have.
    """
    return replay_aio(shop, plan).blocking(shop._faults.portal)


def storm(shop: Faulty, *, seed: int, for_s: float = 10.0, **parameters: Any) -> Storm:
    """Draw a schedule for this layout and begin it: a context manager, healed at its end.

    Parameters are those of :func:`schedule`; an error that leaves the block tells the seed and
    the schedule.
    """
    plan = schedule(shop, seed=seed, for_s=for_s, **parameters)
    return replay(shop, plan)


def storm_aio(
    shop: Faulty, *, seed: int, for_s: float = 10.0, **parameters: Any
) -> Opening[AsyncStorm, Storm]:
    """As :func:`storm`: ``async with``, or ``await`` and later ``heal()``."""
    plan = schedule(shop, seed=seed, for_s=for_s, **parameters)
    return replay_aio(shop, plan)
