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
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from pytest_carthage.access.disturbance import (
    CAPABILITIES,
    AsyncDisturbance,
    Disturbance,
    Impairment,
    cables_of,
    impair,
    lacking,
    within,
)
from pytest_carthage.errors import CarthageError, FaultError, HostError
from pytest_carthage.portal import OnPortal, Opening, on_core

if TYPE_CHECKING:
    from pytest_carthage.access.machine import AsyncMachine
    from pytest_carthage.access.surroundings import Surroundings
    from pytest_carthage.model.layout import AsyncLayout, Layout
    from pytest_carthage.planning.plan import Plan

__all__ = [
    "CAPABILITIES",
    "KINDS",
    "AsyncStorm",
    "Schedule",
    "ScheduledFault",
    "Storm",
    "lacking",
    "replay",
    "replay_aio",
    "schedule",
    "storm",
    "storm_aio",
]

Kind = Literal[
    "loss",
    "delay",
    "jitter",
    "rate",
    "duplicate",
    "corrupt",
    "down",
    "partition",
    "freeze",
    "crash",
]
#: kinds of faults that a storm draws from unless told otherwise: all but crash
KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != "crash")
_IMPAIRMENTS: Mapping[str, tuple[str, float, float]] = {
    "loss": ("loss_pct", 1.0, 30.0),
    "delay": ("delay_ms", 5.0, 200.0),
    "jitter": ("jitter_ms", 1.0, 50.0),
    "rate": ("rate_mbit", 0.5, 50.0),
    "duplicate": ("duplicate_pct", 1.0, 20.0),
    "corrupt": ("corrupt_pct", 0.1, 5.0),
}
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledFault:
    """One fault of a storm; times are seconds from the storm's begin."""

    at_s: float
    for_s: float
    kind: Kind
    #: machine that it hits; empty for a partition
    machine: str = ""
    #: interface whose link it hits; empty for a partition or a machine's fault
    interface: str = ""
    #: values of an impairment, as :meth:`.LinkHandle.impair` takes them
    values: Mapping[str, float] = field(default_factory=dict)
    #: machines of each side of a partition
    groups: tuple[tuple[str, ...], ...] = ()

    @property
    def ends_s(self) -> float:
        """When it heals."""
        return self.at_s + self.for_s

    def __str__(self) -> str:
        if self.kind == "partition":
            what = "partition " + " | ".join(" ".join(group) for group in self.groups)
        elif self.interface:
            values = " ".join(f"{name}={value:g}" for name, value in self.values.items())
            what = f"{self.machine}.{self.interface} {values or self.kind}"
        else:
            what = f"{self.machine} {self.kind}"
        return f"{self.at_s:7.3f} s to {self.ends_s:7.3f} s  {what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What a storm will do; equal seeds, plans and parameters give equal schedules."""

    seed: int | None
    for_s: float
    faults: tuple[ScheduledFault, ...]

    @property
    def summary(self) -> str:
        """One line about it."""
        return f"storm of {self.for_s:g} s, seed {self.seed}, {len(self.faults)} faults"

    def __str__(self) -> str:
        return "\n".join([self.summary, *(f"  {fault}" for fault in self.faults)])

    def as_json(self) -> str:
        """The schedule as text for a file, to be read by :meth:`of_json`."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def of_json(cls, text: str | Path) -> Schedule:
        """Read what :meth:`as_json` wrote, or a file with it.

        :raises ValueError: it is no schedule.
        """
        source = text.read_text() if isinstance(text, Path) else text
        try:
            data: dict[str, Any] = json.loads(source)
            if data.pop("format") != _FORMAT:
                raise ValueError("another format")
            faults = tuple(
                ScheduledFault(**{**fault, "groups": tuple(map(tuple, fault["groups"]))})
                for fault in data.pop("faults")
            )
            return cls(faults=faults, **data)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            where = str(text) if isinstance(text, Path) else "this text"
            raise ValueError(f"{where} holds no schedule of faults: {error}") from error


def schedule(
    plan: Plan | Layout,
    *,
    seed: int,
    for_s: float,
    kinds: Iterable[str] = KINDS,
    per_s: float = 1.0,
    lasts_s: tuple[float, float] = (0.2, 2.0),
    machines: Iterable[str] | None = None,
    networks: Iterable[str] | None = None,
) -> Schedule:
    """Draw a schedule: a pure function of its arguments.

    No link or machine has two faults at once that could not be in force together, and all end
    within ``for_s``.

    :param kinds: loss, delay, jitter, rate, duplicate, corrupt, down, partition, freeze, crash.
    :param per_s: how many faults begin per second, on average.
    :param lasts_s: least and most seconds that a fault lasts.
    :param machines: names of those that it may hit, or whose links; all by default.
    :param networks: names of those whose links it may hit; all by default.
    :raises ValueError: a parameter makes no sense, or nothing is left to hit.
    :raises LookupError: there is no such machine or network.
    """
    plan = cast("Plan", getattr(plan, "plan", plan))
    chosen = _chosen_kinds(kinds)
    shortest, longest = lasts_s
    if not 0 < for_s < 1e6:
        raise ValueError(f"for_s={for_s!r}: a storm lasts more than 0 s")
    if not 0 < per_s <= 1000:
        raise ValueError(f"per_s={per_s!r} is not between 0 and 1000")
    if not 0 < shortest <= longest:
        raise ValueError(f"lasts_s={lasts_s!r}: not 0 < least <= most")
    names = _known(machines, plan.machines, "machine", plan.layout)
    nets = set(_known(networks, plan.networks, "network", plan.layout))
    links = [
        (name, link.interface)
        for name in names
        for link in plan.machines[name].links
        if link.network in nets and cables_of(link)
    ]
    chosen = [
        kind
        for kind in chosen
        if (
            len(names) >= 2
            if kind == "partition"
            else bool(names if kind in _OF_MACHINE else links)
        )
    ]
    if not chosen:
        raise ValueError(f"layout {plan.layout!r}: nothing is left that this storm could hit")

    chance = random.Random(f"{seed}")
    busy: list[tuple[float, float, frozenset[tuple[str, ...]]]] = []
    faults = []
    at_s = chance.expovariate(per_s)
    while at_s < for_s:
        lasts = min(chance.uniform(shortest, longest), for_s - at_s)
        drawn = _draw(chance, chance.choice(chosen), names, links)
        keys = _keys(drawn)
        # drawn values are used up also where the fault is left out: its successors do not move
        free = all(end <= at_s or not keys & taken for _, end, taken in busy)
        if free and lasts > 0.001:
            busy.append((at_s, at_s + lasts, keys))
            faults.append(
                ScheduledFault(at_s=round(at_s, 3), for_s=max(0.001, round(lasts, 3)), **drawn)
            )
        at_s += chance.expovariate(per_s)
    return Schedule(seed=seed, for_s=for_s, faults=tuple(faults))


_OF_MACHINE = ("freeze", "crash")


def _chosen_kinds(kinds: Iterable[str]) -> list[Kind]:
    wanted = [kinds] if isinstance(kinds, str) else list(kinds)
    unknown = [kind for kind in wanted if kind not in CAPABILITIES]
    if unknown:
        raise ValueError(f"no fault {unknown[0]!r}; there are: {', '.join(CAPABILITIES)}")
    return cast("list[Kind]", [kind for kind in CAPABILITIES if kind in wanted])


def _known(
    wanted: Iterable[Any] | None, there: Mapping[str, object], what: str, layout: str
) -> list[str]:
    if wanted is None:
        return list(there)
    names = {one if isinstance(one, str) else one.name for one in wanted}
    for name in sorted(names):
        if name not in there:
            raise LookupError(
                f"layout {layout!r} has no {what} {name!r}; it has: {', '.join(there)}"
            )
    return [name for name in there if name in names]


def _draw(
    chance: random.Random, kind: Kind, names: Sequence[str], links: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    if kind == "partition":
        mixed = chance.sample(list(names), len(names))
        cut = chance.randrange(1, len(mixed))
        return {
            "kind": kind,
            "groups": (tuple(sorted(mixed[:cut])), tuple(sorted(mixed[cut:]))),
        }
    if kind in _OF_MACHINE:
        return {"kind": kind, "machine": chance.choice(list(names))}
    machine, interface = chance.choice(list(links))
    drawn: dict[str, Any] = {"kind": kind, "machine": machine, "interface": interface}
    if kind in _IMPAIRMENTS:
        name, least, most = _IMPAIRMENTS[kind]
        values = {name: round(chance.uniform(least, most), 2)}
        if kind == "jitter":
            values = {"delay_ms": values["jitter_ms"], **values}
        drawn["values"] = values
    return drawn


def _keys(drawn: Mapping[str, Any]) -> frozenset[tuple[str, ...]]:
    """What cannot have another fault at the same time."""
    kind = drawn["kind"]
    if kind == "partition":
        return frozenset({("partition",)})
    if kind in _OF_MACHINE:
        return frozenset({("machine", drawn["machine"])})
    group = "impair" if kind in _IMPAIRMENTS else kind
    return frozenset({(group, drawn["machine"], drawn["interface"])})


class AsyncStorm(AsyncDisturbance):
    """A storm that has begun; it goes on in the background until its schedule ends or it is healed.

    To heal it is to end it: everything that it began is healed.
    """

    def __init__(self, surroundings: Surroundings, plan: Schedule) -> None:
        seed = "replayed" if plan.seed is None else f"seed {plan.seed}"
        super().__init__(surroundings, "storm", f"storm {seed}", frozenset(), self._end)
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
        begin = time.monotonic()
        within.set(self)
        async with asyncio.TaskGroup() as group:
            for fault in self.schedule.faults:
                group.create_task(self._carry_out(fault, begin))

    async def _carry_out(self, fault: ScheduledFault, begin: float) -> None:
        await asyncio.sleep(max(0.0, begin + fault.at_s - time.monotonic()))
        try:
            begun = await self._opening(fault)
        except (CarthageError, LookupError) as error:
            # a machine that is off, or an impairment of the test's own, is in the way
            self.failures.append(f"{fault}: {str(error).splitlines()[0]}")
            return
        self.done.append(begun)
        await asyncio.sleep(max(0.0, begin + fault.ends_s - time.monotonic()))
        try:
            await begun.heal()
        except CarthageError as error:
            self.failures.append(f"{fault}: {str(error).splitlines()[0]}")

    def _opening(self, fault: ScheduledFault) -> Opening[AsyncDisturbance]:
        if fault.kind == "partition":
            from pytest_carthage.access.disturbance import partition

            return partition(self._surroundings, *fault.groups)
        machine: AsyncMachine = self._surroundings.handle(fault.machine)
        if fault.kind == "freeze":
            return machine.freeze()
        if fault.kind == "crash":
            return machine.crash()
        link = machine.link(fault.interface)
        if fault.kind == "down":
            return link.down()
        return impair(link, Impairment(**fault.values))

    @on_core
    async def wait(self) -> None:
        """Wait until the schedule is over; everything is healed then."""
        if self._task is not None:
            await asyncio.shield(self._task)
        await self.heal()

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            (ended,) = await asyncio.gather(self._task, return_exceptions=True)
            if isinstance(ended, Exception):
                self.failures.append(f"the storm itself: {ended!r}")
        errors = []
        for fault in [
            one for one in reversed(self._surroundings.disturbances) if self._is_own(one)
        ]:
            try:
                await fault.heal()
            except CarthageError as error:
                errors.append(f"{fault.subject}: {error}")
        self.detail["failures"] = self.failures
        if errors:
            raise FaultError(f"{self.subject}: not all was healed:\n" + "\n".join(errors))

    def _is_own(self, fault: AsyncDisturbance) -> bool:
        return fault.part_of is self and fault.is_active


class Storm(Disturbance):
    """A storm that has begun: the synchronous form of :class:`AsyncStorm`."""

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

    def wait(self) -> None:
        """Wait until the schedule is over; everything is healed then."""
        self.aio.portal.call(self.aio.wait)

    def __exit__(self, *exc: object) -> None:
        if isinstance(exc[1], BaseException):
            exc[1].add_note(f"this was in a {self.schedule}")
        self.heal()


class _StormOpening(Opening[AsyncStorm]):
    """Tells an error that leaves the block what it was in."""

    def __init__(self, surroundings: Surroundings, plan: Schedule) -> None:
        super().__init__(_Begin(surroundings, plan).begin)
        self._schedule = plan

    async def __aexit__(self, *exc: object) -> None:
        if isinstance(exc[1], BaseException):
            exc[1].add_note(f"this was in a {self._schedule}")
        await super().__aexit__(*exc)


class _Begin:
    def __init__(self, surroundings: Surroundings, plan: Schedule) -> None:
        self.portal = surroundings.portal
        self._surroundings = surroundings
        self._schedule = plan

    @on_core
    async def begin(self) -> AsyncStorm:
        await asyncio.to_thread(_check, self._surroundings, self._schedule)
        begun = AsyncStorm(self._surroundings, self._schedule)
        self._surroundings.disturbances.append(begun)
        self._surroundings.tell(f"fault {begun.subject}", "start", self._schedule.summary)
        begun.start()
        return begun


def _surroundings(layout: Layout | AsyncLayout) -> Surroundings:
    environment: Any = layout._environment.aio
    return cast("Surroundings", environment)


def _check(surroundings: Surroundings, plan: Schedule) -> None:
    problems = lacking(fault.kind for fault in plan.faults)
    if problems:
        raise HostError(problems)
    for fault in plan.faults:
        named = {fault.machine, *(name for group in fault.groups for name in group)} - {""}
        for name in sorted(named - set(surroundings.plan.machines)):
            having = ", ".join(surroundings.plan.machines)
            raise LookupError(
                f"layout {surroundings.plan.layout!r} has no machine {name!r}, which the "
                f"schedule's {str(fault).strip()!r} is about; its machines are: {having}"
            )


def replay_aio(shop: AsyncLayout | Layout, plan: Schedule) -> Opening[AsyncStorm]:
    """As :func:`replay`: ``async with``, or ``await`` and later ``heal()``."""
    return _StormOpening(_surroundings(shop), plan)


def replay(shop: Layout, plan: Schedule) -> Storm:
    """Do what a schedule says, in the background, from now on.

    :raises HostError: this host cannot do one of its faults; nothing has begun.
    :raises LookupError: one is about a machine that the layout does not have.
    """
    environment: OnPortal = _surroundings(shop)
    opening = cast("Opening[AsyncDisturbance]", replay_aio(shop, plan))
    return Storm.of(opening, environment)


def storm(shop: Layout, *, seed: int, for_s: float = 10.0, **parameters: Any) -> Storm:
    """Draw a schedule for this layout and begin it: a context manager, healed at its end.

    Parameters are those of :func:`schedule`; an error that leaves the block tells the seed and
    the schedule.
    """
    plan = schedule(shop, seed=seed, for_s=for_s, **parameters)
    return replay(shop, plan)


def storm_aio(
    shop: AsyncLayout | Layout, *, seed: int, for_s: float = 10.0, **parameters: Any
) -> Opening[AsyncStorm]:
    """As :func:`storm`: ``async with``, or ``await`` and later ``heal()``."""
    plan = schedule(_surroundings(shop).plan, seed=seed, for_s=for_s, **parameters)
    return replay_aio(shop, plan)
