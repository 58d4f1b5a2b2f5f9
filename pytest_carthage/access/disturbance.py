"""Live faults: bad and pulled cables, cuts between machines, frozen and crashed machines.

A fault is in force when the call that began it returns, and until it is healed: by ``heal()``,
by the end of its ``with`` block, or at the end of the test or fixture that began it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence, Set
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from pytest_carthage.errors import (
    CarthageError,
    FabricError,
    FaultError,
    HostError,
    Problem,
)
from pytest_carthage.portal import OnPortal, Opening, Portal, on_core

if TYPE_CHECKING:
    from pytest_carthage.access.handle import MachineHandle
    from pytest_carthage.access.link import AsyncLink
    from pytest_carthage.access.machine import AsyncMachine
    from pytest_carthage.access.surroundings import Surroundings
    from pytest_carthage.planning.plan import PlannedLink

__all__ = [
    "CAPABILITIES",
    "AsyncDisturbance",
    "Direction",
    "Disturbance",
    "Group",
    "Impairment",
    "active",
    "cables_of",
    "lacking",
    "partition",
    "within",
]

#: what ``carthage_needs`` may name
CAPABILITIES = (
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
)
Kind = Literal["impair", "down", "partition", "freeze", "crash", "storm"]
Direction = Literal["both", "to", "from"]
#: machines of one side: one, or a set of them, as handles or names
Group: TypeAlias = (
    "str | MachineHandle | AsyncMachine | Iterable[str | MachineHandle | AsyncMachine]"
)

#: kinds of links that have a cable of their own
_WITH_CABLE = ("bridged", "bond", "trunk")
_PROBE_S = 30.0


#: the storm that the running task belongs to
within: ContextVar[AsyncDisturbance | None] = ContextVar("within", default=None)


class AsyncDisturbance:
    """A fault that has begun; every coroutine may be awaited from any event loop."""

    def __init__(
        self,
        surroundings: Surroundings,
        kind: Kind,
        subject: str,
        keys: Set[tuple[str, ...]],
        heal: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self.portal: Portal = surroundings.portal
        #: impair, down, partition, freeze, crash or storm
        self.kind = kind
        #: what has happened to whom, as in ``link web.eth0 down``
        self.subject = subject
        #: name of the environment
        self.environment = surroundings.name
        #: UNIX time at which it was in force
        self.began_s = time.time()
        #: UNIX time at which it was healed; None: it is in force
        self.healed_s: float | None = None
        #: more about it, for the record
        self.detail: dict[str, Any] = {}
        #: the storm that it belongs to
        self.part_of: AsyncDisturbance | None = within.get()
        self._keys = keys
        self._surroundings = surroundings
        self._begin = time.monotonic()
        self._undo = heal
        self._healing: asyncio.Task[None] | None = None

    @property
    def is_active(self) -> bool:
        """Whether it is in force."""
        return self.healed_s is None

    @on_core
    async def heal(self) -> None:
        """End it; to end it twice is no error.

        :raises CarthageError: it cannot be ended; what is not as it was is in the message.
        """
        if self.healed_s is not None:
            return
        healing = self._healing
        if healing is None or healing.done():  # it has failed: once more
            healing = self._healing = asyncio.ensure_future(self._heal())
        await asyncio.shield(healing)

    async def _heal(self) -> None:
        try:
            await self._undo()
        except CarthageError as error:
            self._tell("failed", f"not healed: {str(error).splitlines()[0]}")
            raise
        self.healed_s = time.time()
        self._tell("done", "healed")

    async def aclose(self) -> None:
        """As :meth:`heal`."""
        await self.heal()

    def _tell(self, kind: Literal["done", "failed"], text: str) -> None:
        self._surroundings.tell(f"fault {self.subject}", kind, text, self._begin)

    def record(self) -> dict[str, Any]:
        """What it is and when it was, for a report."""
        return {
            "kind": self.kind,
            "what": self.subject,
            "began_s": round(self.began_s, 6),
            "healed_s": None if self.healed_s is None else round(self.healed_s, 6),
            **({"part_of": self.part_of.subject} if self.part_of is not None else {}),
            **self.detail,
        }

    def __repr__(self) -> str:
        state = "in force" if self.is_active else "healed"
        return f"<fault {self.subject}: {state}>"


class Disturbance:
    """A fault that has begun: the synchronous form of :class:`AsyncDisturbance`.

    As a context manager, it heals at the end of the block.
    """

    def __init__(self, aio: AsyncDisturbance) -> None:
        #: the same as awaitables, for any event loop
        self.aio = aio

    @classmethod
    def of(cls, opening: Opening[AsyncDisturbance], environment: OnPortal) -> Self:
        """Begin it now."""

        async def begin() -> AsyncDisturbance:
            return await opening

        return cls(environment.portal.call(begin))

    @property
    def kind(self) -> Kind:
        """Impair, down, partition, freeze, crash or storm."""
        return self.aio.kind

    @property
    def subject(self) -> str:
        """What has happened to whom, as in ``link web.eth0 down``."""
        return self.aio.subject

    @property
    def is_active(self) -> bool:
        """Whether it is in force."""
        return self.aio.is_active

    def heal(self) -> None:
        """End it; to end it twice is no error.

        :raises CarthageError: it cannot be ended; what is not as it was is in the message.
        """
        self.aio.portal.call(self.aio.heal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.heal()

    def __repr__(self) -> str:
        return repr(self.aio)


def active(surroundings: Surroundings) -> Sequence[AsyncDisturbance]:
    """Faults of an environment that are in force, the oldest first."""
    return [one for one in tuple(surroundings.disturbances) if one.is_active]


class _Beginning:
    """Begins one fault on the portal's event loop, and lets nothing be begun halfway."""

    def __init__(
        self,
        surroundings: Surroundings,
        kind: Kind,
        subject: str,
        keys: Set[tuple[str, ...]],
        begin: Callable[[], Coroutine[Any, Any, AsyncDisturbance]],
        *,
        who: str,
    ) -> None:
        self.portal = surroundings.portal
        self._surroundings = surroundings
        self._kind = kind
        self._subject = subject
        self._keys = keys
        self._start = begin
        self._who = who

    @on_core
    async def begin(self) -> AsyncDisturbance:
        for other in active(self._surroundings):
            if other._keys & self._keys:
                raise FaultError(
                    f"{self._who}: cannot begin {self._subject!r}: {other.subject!r} is in force "
                    f"since {_clock(other.began_s)}; try: heal() that first"
                )
        taken = AsyncDisturbance(
            self._surroundings, self._kind, self._subject, self._keys, _nothing
        )
        self._surroundings.disturbances.append(taken)  # nobody else begins it meanwhile
        starting = asyncio.ensure_future(self._start())
        try:
            try:
                begun = await asyncio.shield(starting)
            except asyncio.CancelledError:
                # what the fabric has begun by then must not stay
                with contextlib.suppress(CarthageError):
                    await (await starting)._undo()
                raise
        except FabricError as error:
            raise self._refused(error) from error
        finally:
            self._surroundings.disturbances.remove(taken)
        self._surroundings.disturbances.append(begun)
        self._surroundings.tell(f"fault {self._subject}", "start")
        return begun

    def _refused(self, error: FabricError) -> CarthageError:
        if error.errno == 95:  # EOPNOTSUPP
            seen = str(error).partition(": ")[2] or str(error)
            return HostError([lack(self._subject, seen)])
        return error


async def _nothing() -> None:
    return None


def _clock(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))


def _opening(
    surroundings: Surroundings,
    kind: Kind,
    subject: str,
    keys: Set[tuple[str, ...]],
    ask: Callable[[], Coroutine[Any, Any, dict[str, Any]]],
    *,
    who: str,
    undo: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> Opening[AsyncDisturbance]:
    """``ask`` returns what the fabric answered."""

    async def begin() -> AsyncDisturbance:
        answer = await ask()

        async def heal() -> None:
            if undo is not None:
                await undo()
                return
            try:
                await surroundings.fabric.request("heal", number=answer["number"])
            except FabricError:
                if not surroundings.closed:  # else it went with all the rest
                    raise

        begun = AsyncDisturbance(surroundings, kind, subject, keys, heal)
        if answer.get("mechanism"):
            begun.detail["by"] = answer["mechanism"]
        return begun

    return Opening(_Beginning(surroundings, kind, subject, keys, begin, who=who).begin)


# links


@dataclass(frozen=True, slots=True, kw_only=True)
class Impairment:
    """How bad a link is; what is None is as good as it was."""

    loss_pct: float | None = None
    delay_ms: float | None = None
    jitter_ms: float | None = None
    rate_mbit: float | None = None
    duplicate_pct: float | None = None
    corrupt_pct: float | None = None

    def __post_init__(self) -> None:
        given = self.given
        if not given:
            raise ValueError(
                "nothing to impair; try: impair(loss_pct=1), or another of "
                + ", ".join(f"{name}=" for name in _NAMES)
            )
        for name, value in given.items():
            if not _is_number(value):
                raise ValueError(f"{name}={value!r} is not a number")
            if value < 0:
                raise ValueError(f"{name}={value!r} is negative")
            if name.endswith("_pct") and value > 100:
                raise ValueError(f"{name}={value!r} is more than 100 %")
            if name.endswith("_ms") and value > 3_600_000:
                raise ValueError(f"{name}={value!r} is more than an hour")
        if self.rate_mbit is not None and not 0.001 <= self.rate_mbit <= 1_000_000:
            raise ValueError(
                f"rate_mbit={self.rate_mbit!r} is not between 0.001 and 1000000; "
                "try: down() for a link that carries nothing"
            )

    @property
    def given(self) -> Mapping[str, float]:
        """What was asked for: name to value."""
        values = {name: getattr(self, name) for name in _NAMES}
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        return ", ".join(
            f"{name.partition('_')[0]} {value:g} {_UNITS[name.partition('_')[2]]}"
            for name, value in self.given.items()
        )

    def spec(self, seed: int) -> dict[str, float]:
        """As the fabric takes it: shares, seconds and bits per second."""
        return {
            "loss": (self.loss_pct or 0) / 100,
            "delay_s": (self.delay_ms or 0) / 1e3,
            "jitter_s": (self.jitter_ms or 0) / 1e3,
            "rate_bps": (self.rate_mbit or 0) * 1e6,
            "duplicate": (self.duplicate_pct or 0) / 100,
            "corrupt": (self.corrupt_pct or 0) / 100,
            "seed": seed,
        }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


_NAMES = ("loss_pct", "delay_ms", "jitter_ms", "rate_mbit", "duplicate_pct", "corrupt_pct")
_UNITS = {"pct": "%", "ms": "ms", "mbit": "Mbit/s"}


def cables_of(planned: PlannedLink) -> Sequence[tuple[str, str]]:
    """The ports in the fabric by which a link leads to a bridge, each with its bridge.

    None for a link that stands on another one, or shares its cable.
    """
    if planned.kind == "bond":
        return [(port, planned.bridge) for _, port in planned.members]
    if planned.kind == "trunk":
        return [(vlan.port, vlan.bridge) for vlan in planned.vlans]
    return [(planned.port, planned.bridge)] if planned.kind in _WITH_CABLE else []


def _ports_of(planned: PlannedLink) -> Sequence[str]:
    """Ports that carry a link's signal."""
    if planned.kind == "trunk":
        return [planned.port]
    return [port for port, _ in cables_of(planned)]


def _who(link: AsyncLink) -> str:
    return f"link {link.machine.name}.{link.interface}"


def _check_cable(link: AsyncLink) -> None:
    if not cables_of(link.planned):
        over = " or ".join(f"link {name!r}" for name in link.planned.over)
        raise ValueError(
            f"{_who(link)} of layout {link.machine.surroundings.plan.layout!r}: a link of kind "
            f"{link.planned.kind!r} has no cable of its own; "
            f"try: {over or 'the links of the machines at its other ends'}"
        )


def impair(
    link: AsyncLink, impairment: Impairment, direction: Direction = "both"
) -> Opening[AsyncDisturbance]:
    """Make a link bad, seen from its machine: what goes ``to`` it, comes ``from`` it, or both."""
    if direction not in ("both", "to", "from"):
        raise ValueError(f"{_who(link)}: direction={direction!r}; try: 'both', 'to' or 'from'")
    _check_cable(link)
    surroundings = link.machine.surroundings
    name, interface = link.machine.name, link.interface
    ways = ("to", "from") if direction == "both" else (direction,)
    where = {"both": "", "to": " to it", "from": " from it"}[direction]
    subject = f"{_who(link)} {impairment}{where}"
    seed = zlib.crc32(subject.encode())
    network = surroundings.plan.networks.get(link.planned.network)
    is_wire = network is not None and network.kind == "point-to-point"

    async def ask() -> dict[str, Any]:
        reply, _ = await surroundings.fabric.request(
            "disturb",
            kind="impair",
            machine=name,
            cables=[
                {"port": port, "bridge": bridge, "wire": is_wire}
                for port, bridge in cables_of(link.planned)
            ],
            ways={way: impairment.spec(seed + number) for number, way in enumerate(ways)},
        )
        return reply

    keys = {("impair", name, interface, way) for way in ways}
    return _opening(surroundings, "impair", subject, keys, ask, who=_who(link))


def down(link: AsyncLink) -> Opening[AsyncDisturbance]:
    """Pull a link's cable: no carrier, neither here nor at the other end of a wire."""
    _check_cable(link)
    surroundings = link.machine.surroundings
    name = link.machine.name

    async def ask() -> dict[str, Any]:
        reply, _ = await surroundings.fabric.request(
            "disturb",
            kind="down",
            machine=name,
            ports=list(_ports_of(link.planned)),
            neighbours=_neighbours(surroundings, surroundings.plan.machines, link.network),
        )
        return reply

    keys = {("down", name, link.interface)}
    return _opening(surroundings, "down", f"{_who(link)} down", keys, ask, who=_who(link))


# cuts


def _names(surroundings: Surroundings, group: Any) -> list[str]:
    members = [group] if isinstance(group, str) or hasattr(group, "planned") else group
    if not isinstance(members, Iterable):
        raise TypeError(f"partition: {group!r} is neither a machine nor a set of machines")
    found = []
    for member in members:
        name = member if isinstance(member, str) else getattr(member, "name", None)
        if not isinstance(name, str):
            raise TypeError(f"partition: {member!r} is not a machine; try: its handle or its name")
        if name not in surroundings.plan.machines:
            having = ", ".join(surroundings.plan.machines)
            raise LookupError(
                f"layout {surroundings.plan.layout!r} has no machine {name!r}; "
                f"its machines are: {having}"
            )
        found.append(name)
    return sorted(dict.fromkeys(found))


def partition(surroundings: Surroundings, *groups: Any) -> Opening[AsyncDisturbance]:
    """Cut the machines of each group off from those of the others.

    :raises LookupError: there is no such machine.
    :raises ValueError: fewer than two groups, an empty one, or a machine in two of them.
    """
    layout = surroundings.plan.layout
    sides = [_names(surroundings, group) for group in groups]
    if len(sides) < 2:
        raise ValueError(
            f"layout {layout!r}: a partition has at least two groups; try: ({{a}}, {{b}})"
        )
    if not all(sides):
        raise ValueError(f"layout {layout!r}: a partition's group is empty")
    seen: dict[str, int] = {}
    for number, side in enumerate(sides):
        for name in side:
            if name in seen:
                raise ValueError(
                    f"layout {layout!r}: machine {name!r} is in two groups of a partition"
                )
            seen[name] = number

    async def ask() -> dict[str, Any]:
        described = [_described(surroundings, side) for side in sides]
        together = [name for side in sides for name in side]
        reply, _ = await surroundings.fabric.request(
            "disturb",
            kind="partition",
            groups=described,
            neighbours=_neighbours(surroundings, together),
        )
        return reply

    text = " | ".join(" ".join(side) for side in sides)
    return _opening(
        surroundings, "partition", f"partition {text}", set(), ask, who=f"layout {layout!r}"
    )


def _described(surroundings: Surroundings, side: Sequence[str]) -> dict[str, Any]:
    """A group as the fabric takes it."""
    machines = surroundings.plan.machines
    own = [link for name in side for link in machines[name].links]
    addresses = {str(address.ip) for link in own for address in link.addresses}
    shared: dict[str, list[str]] = {}
    for name, machine in machines.items():
        if name in side:
            continue
        for link in machine.links:
            for address in link.addresses:
                if str(address.ip) in addresses:
                    ports = [port for port, _ in cables_of(link)]
                    shared.setdefault(str(address.ip), []).extend(ports)
    return {
        "machines": list(side),
        "ports": [port for link in own for port, _ in cables_of(link)],
        "addresses": sorted(addresses),
        "shared": shared,
    }


def _neighbours(
    surroundings: Surroundings, names: Iterable[str], network: str | None = None
) -> dict[str, Any]:
    """What hardware addresses they have on their networks, and who is on which network."""
    hardware: dict[str, dict[str, str]] = {}
    on: dict[str, list[str]] = {}
    for name in names:
        for link in surroundings.plan.machines[name].links:
            if network in (None, link.network):
                known = hardware.setdefault(link.network, {})
                known.update({str(address.ip): link.mac for address in link.addresses})
                on.setdefault(name, []).append(link.network)
    return {"hardware": hardware, "machines": on}


# machines


def _check_on(machine: AsyncMachine, what: str) -> None:
    if machine.is_off:
        raise FaultError(
            f"machine {machine.name!r} of layout {machine.surroundings.plan.layout!r}: "
            f"cannot {what} it: it is stopped; try: start()"
        )


def freeze(machine: AsyncMachine) -> Opening[AsyncDisturbance]:
    """Stop all processes of a machine at once; its kernel goes on, and answers pings."""
    surroundings, name = machine.surroundings, machine.name

    async def ask() -> dict[str, Any]:
        _check_on(machine, "freeze")
        machine.out_of_order = "frozen"
        try:
            reply, _ = await surroundings.fabric.request("disturb", kind="freeze", machine=name)
        except BaseException:
            machine.out_of_order = None
            raise
        return {**reply, "machine": name}

    async def undo_of(answer: Mapping[str, Any]) -> None:
        try:
            await surroundings.fabric.request("heal", number=answer["number"])
        except FabricError:
            if not surroundings.closed:
                raise
        if machine.out_of_order == "frozen":
            machine.out_of_order = None

    return _of_machine(machine, "freeze", f"machine {name} frozen", ask, undo_of)


def crash(machine: AsyncMachine) -> Opening[AsyncDisturbance]:
    """Switch a machine off without a goodbye to anybody; healing starts it again.

    :raises CarthageError: its target cannot start it again.
    """
    surroundings, name = machine.surroundings, machine.name
    machine.powered()

    async def ask() -> dict[str, Any]:
        _check_on(machine, "crash")
        ports = [port for link in machine.planned.links for port in _ports_of(link)]
        reply, _ = await surroundings.fabric.request(
            "disturb", kind="crash", machine=name, ports=ports
        )
        await machine.has_crashed()
        return reply

    async def undo_of(answer: Mapping[str, Any]) -> None:
        if surroundings.closed or machine.out_of_order != "crashed":
            return  # somebody has started it again
        try:
            surroundings.handle(name)
        except KeyError:
            return  # it was removed
        await machine.start()

    return _of_machine(machine, "crash", f"machine {name} crashed", ask, undo_of)


def _of_machine(
    machine: AsyncMachine,
    kind: Kind,
    subject: str,
    ask: Callable[[], Coroutine[Any, Any, dict[str, Any]]],
    undo: Callable[[Mapping[str, Any]], Coroutine[Any, Any, None]],
) -> Opening[AsyncDisturbance]:
    surroundings = machine.surroundings
    answer: dict[str, Any] = {}

    async def asked() -> dict[str, Any]:
        answer.update(await ask())
        return answer

    async def heal() -> None:
        await undo(answer)

    keys = {("machine", machine.name)}
    who = f"machine {machine.name!r} of layout {surroundings.plan.layout!r}"
    return _opening(surroundings, kind, subject, keys, asked, who=who, undo=heal)


# what can be done here


def lack(what: str, seen: str) -> Problem:
    """The problem of a host that cannot do a fault."""
    is_nft = "there is no nft" in seen
    return Problem(
        who="faults",
        what=f"{what} cannot be done on this host: {seen}",
        remedy="apt-get install nftables"
        if is_nft
        else "a kernel with netem, or with ifb and nftables",
        packages=("nftables",) if is_nft else (),
    )


def lacking(names: Iterable[str]) -> Sequence[Problem]:
    """What this host lacks for faults of these kinds; they are tried, in namespaces of their own.

    :param names: of :data:`CAPABILITIES`.
    :raises ValueError: there is no such kind.
    """
    wanted = sorted(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in CAPABILITIES]
    if unknown:
        raise ValueError(f"no fault {unknown[0]!r}; there are: {', '.join(CAPABILITIES)}")
    if untried := [name for name in wanted if name not in _tried]:
        _tried.update(_try(untried))
    found = ((name, _tried[name]) for name in wanted)
    return [lack(name, seen) for name, seen in found if seen is not None]


#: kind of fault to what this host lacks for it, as far as it was tried
_tried: dict[str, str | None] = {}


def _try(names: Sequence[str]) -> Mapping[str, str | None]:
    package = str(Path(__file__).resolve().parents[2])
    code = (
        f"import sys; sys.path.insert(0, {package!r})\n"
        "from pytest_carthage.fabric.disturb import main\nmain(sys.argv[1:])"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code, *names],
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            check=False,
            cwd="/",
            env=dict(os.environ),
        )
    except subprocess.TimeoutExpired:
        return dict.fromkeys(names, f"no answer after {_PROBE_S:g} s")
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return dict.fromkeys(names, said[-1] if said else f"status {done.returncode}")
    answer: Mapping[str, str | None] = json.loads(done.stdout)
    return answer
