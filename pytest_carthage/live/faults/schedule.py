"""Schedules of faults: drawn from a seed, kept as text, carried out by storms."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

from pytest_carthage.handles.capability import Capability
from pytest_carthage.live.faults.cables import cables_of
from pytest_carthage.live.faults.probing import CAPABILITIES
from pytest_carthage.planning.plan import Plan

__all__ = ["KINDS", "Schedule", "ScheduledFault", "schedule"]


class Planned(Protocol):
    """A live layout."""

    @property
    def plan(self) -> Plan:
        """What is planned by now."""
        ...


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
#: what a machine's target has to be able to do; of links it is whether they have a cable
_NEEDED: Mapping[str, Capability] = {"partition": "links", "freeze": "freeze", "crash": "power"}
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
            subject = "partition " + " | ".join(" ".join(group) for group in self.groups)
        elif self.interface:
            values = " ".join(f"{name}={value:g}" for name, value in self.values.items())
            subject = f"{self.machine}.{self.interface} {values or self.kind}"
        else:
            subject = f"{self.machine} {self.kind}"
        return f"{self.at_s:7.3f} s to {self.ends_s:7.3f} s  {subject}"


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
    plan: Plan | Planned,
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
    :param machines: names of those that it may hit, or whose links; by default all, as far as
        their targets can.
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
    hit = {
        kind: [
            name
            for name in names
            if machines is not None or plan.machines[name].traits.can(capability)
        ]
        for kind, capability in _NEEDED.items()
    }
    chosen = [
        kind
        for kind in chosen
        if (len(hit[kind]) > (kind == "partition") if kind in hit else bool(links))
    ]
    if not chosen:
        raise ValueError(f"layout {plan.layout!r}: nothing is left that this storm could hit")

    chance = random.Random(f"{seed}")
    busy: list[tuple[float, float, frozenset[tuple[str, ...]]]] = []
    faults = []
    at_s = chance.expovariate(per_s)
    while at_s < for_s:
        lasts = min(chance.uniform(shortest, longest), for_s - at_s)
        drawn = _draw(chance, chance.choice(chosen), hit, links)
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
    chance: random.Random,
    kind: Kind,
    hit: Mapping[str, Sequence[str]],
    links: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    if kind == "partition":
        mixed = chance.sample(list(hit[kind]), len(hit[kind]))
        cut = chance.randrange(1, len(mixed))
        return {
            "kind": kind,
            "groups": (tuple(sorted(mixed[:cut])), tuple(sorted(mixed[cut:]))),
        }
    if kind in _OF_MACHINE:
        return {"kind": kind, "machine": chance.choice(list(hit[kind]))}
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
