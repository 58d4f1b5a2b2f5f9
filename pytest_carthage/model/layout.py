"""Layouts: the class is the declaration, the instance is the environment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, overload

from pytest_carthage.errors import LayoutError
from pytest_carthage.model.fault import Fault
from pytest_carthage.model.image import Image
from pytest_carthage.model.machine import Machine
from pytest_carthage.model.network import Network
from pytest_carthage.model.place import Place
from pytest_carthage.model.role import Role, several
from pytest_carthage.model.rules import Decided, Neighbourhood, decide

if TYPE_CHECKING:
    from pytest_carthage.access.ansible import PlaybookResult
    from pytest_carthage.access.capture import AsyncCapture, Capture
    from pytest_carthage.access.disturbance import AsyncDisturbance, Disturbance, Group
    from pytest_carthage.access.gate import AsyncGate, Gate, GateRecord
    from pytest_carthage.access.handle import MachineHandle
    from pytest_carthage.access.inside import Inside
    from pytest_carthage.access.machine import AsyncMachine
    from pytest_carthage.access.resolved import Subscriber
    from pytest_carthage.access.sealing import SealReport
    from pytest_carthage.access.span import AsyncSpan, Span
    from pytest_carthage.model.live import LiveEnvironment
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.portal import Opening

__all__ = ["AsyncLayout", "Layout"]

#: attribute of the fixture function that holds its layout
ATTRIBUTE = "__carthage_layout__"

Member = Network | Image | Machine
#: what every layout has, for its author to choose
_CHOICES = ("target", "subscribers")

Sought = TypeVar("Sought")


def _offers(roles: Iterable[Role], service: str) -> bool:
    return any(service in several(role.offers) for role in roles)


def _has(roles: Iterable[Role], kind: type[Role]) -> bool:
    given: object = kind
    if not (isinstance(given, type) and issubclass(given, Role)):
        raise TypeError(f"with_role({kind!r}): that is no class of roles; try: with_role(Postgres)")
    return any(isinstance(role, kind) for role in roles)


class _Search(Generic[Sought]):
    """Name to machine, of those whose roles are as sought.

    On the class these are declarations, on a live layout handles.
    """

    def __init__(self, fits: Callable[[Iterable[Role], Sought], bool]) -> None:
        self._fits = fits

    @overload
    def __get__(
        self, instance: None, owner: type[Layout]
    ) -> Callable[[Sought], Mapping[str, Machine]]: ...

    @overload
    def __get__(
        self, instance: Layout, owner: type[Layout]
    ) -> Callable[[Sought], Mapping[str, MachineHandle]]: ...

    def __get__(
        self, instance: Layout | None, owner: type[Layout]
    ) -> Callable[[Sought], Mapping[str, Machine] | Mapping[str, MachineHandle]]:
        def search(sought: Sought) -> Mapping[str, Machine] | Mapping[str, MachineHandle]:
            if instance is None:
                declared = owner.machines()
                return {
                    name: one for name, one in declared.items() if self._fits(one.parts, sought)
                }
            return {name: instance[name] for name in self.names(instance.plan, sought)}

        return search

    def names(self, plan: Plan, sought: Sought) -> Sequence[str]:
        """The machines of a plan."""
        return [name for name, one in plan.machines.items() if self._fits(one.roles, sought)]


_OFFERING: _Search[str] = _Search(_offers)
_WITH_ROLE: _Search[type[Role]] = _Search(_has)


class Layout:
    """Networks, images and machines, declared as attributes of a subclass.

    On the class, an attribute is what was declared. On an instance, which only a fixture makes,
    a machine is its live handle. A subclass has what its parents have; it replaces a member by
    declaring it anew and removes it by setting it to None. The class is checked when it is
    created::

        class Pair(Layout):
            lan = Network("10.0.0.0/24")
            one = Machine(links={"eth0": lan.at(".1")})
            two = Machine(links={"eth0": lan.at(".2")})

        pair = Pair.fixture()

    :raises LayoutError: a declaration is wrong.
    """

    #: realises the machines that do not choose themselves, where no option says otherwise
    target: ClassVar[str | None] = None
    #: are told, as each becomes known, what links have and how they are known outside: functions
    #: of a :class:`.LinkResolved` or a :class:`.PublicAddressKnown`, async or not
    subscribers: ClassVar[Sequence[Subscriber]] = ()

    #: ``Shop.offering("postgres")``: name to machine, of those with a role that offers a service;
    #: declarations, and on a live layout handles
    offering = _OFFERING
    #: ``Shop.with_role(Postgres)``: name to machine, of those with a role of a class
    with_role = _WITH_ROLE

    _environment: LiveEnvironment

    def __init__(self, environment: LiveEnvironment) -> None:
        self._environment = environment

    def __init_subclass__(cls, *, without: Iterable[str] = (), **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in (without,) if isinstance(without, str) else without:
            if name not in _members(cls):
                raise _layout_fault(
                    cls, f"without={name!r}: there is no such member", "the name of a member"
                )
            setattr(cls, name, None)
        try:
            _check_members(cls)
            _decide(cls)
        except LayoutError as error:
            # the message names the author's line: how it was found is of no use to them
            raise error.with_traceback(None) from None

    # The declaration.

    @classmethod
    def of(cls, name: str, members: Mapping[str, object]) -> type[Self]:
        """A layout made from what its class body would hold, for layouts that a program writes."""
        caller = sys._getframe(1).f_globals.get("__name__", cls.__module__)
        return type(name, (cls,), {"__module__": caller, **members})

    @classmethod
    def machines(cls) -> Mapping[str, Machine]:
        """Name to machine, in the order of declaration."""
        return _only(cls, Machine)

    @classmethod
    def networks(cls) -> Mapping[str, Network]:
        """Name to network, in the order of declaration."""
        return _only(cls, Network)

    @classmethod
    def images(cls) -> Mapping[str, Image]:
        """Name to image, in the order of declaration."""
        return _only(cls, Image)

    @classmethod
    def decided(cls) -> Mapping[str, Decided]:
        """Name of a machine to its addresses, routes and order."""
        return _decide(cls)

    @classmethod
    def fixture(cls, *, name: str | None = None) -> Any:
        """A session-scoped fixture that builds this layout, yields it and tears it down.

        :param name: name of the fixture, by default the variable's to which it is assigned.
        """
        import pytest

        def layout(request: pytest.FixtureRequest) -> Iterator[Layout]:
            __tracebackhide__ = True
            from pytest_carthage.plugin.live import layout_fixture

            yield from layout_fixture(cls, request)

        layout.__doc__ = cls.__doc__
        layout.__module__ = cls.__module__
        setattr(layout, ATTRIBUTE, cls)
        fixture: Any = pytest.fixture(scope="session", name=name)(layout)
        setattr(fixture, ATTRIBUTE, cls)
        return fixture

    # The environment.

    @property
    def name(self) -> str:
        """Name of the environment, as ``pytest-carthage ls`` lists it."""
        return self._environment.name

    @property
    def folder(self) -> Path:
        """Private folder of the environment, removed with it."""
        return self._environment.folder

    @property
    def plan(self) -> Plan:
        """All that was decided before anything existed, and the machines added since."""
        return self._environment.plan

    @property
    def aio(self) -> AsyncLayout:
        """The same, to be awaited."""
        return AsyncLayout(self._environment, type(self).__name__)

    def add(self, machine: Machine, *, name: str) -> MachineHandle:
        """Build one more machine, which the layout did not know; returns when it is ready.

        :raises LayoutError: the declaration does not fit the layout.
        :raises CreationError: it could not be created, or never became ready.
        """
        return self._environment.add(name, machine)

    def remove(self, name: str) -> None:
        """Destroy one machine.

        :raises KeyError: there is no such machine.
        """
        if name not in self:
            raise KeyError(_unknown(type(self).__name__, name, self._environment.plan))
        self._environment.remove(name)

    def ansible(
        self,
        playbook: str | Path,
        *,
        extra_vars: Mapping[str, Any] | None = None,
        limit: str | Sequence[str] | None = None,
        tags: str | Sequence[str] | None = None,
        check: bool = False,
        timeout_s: float = 3600,
        inventory_extra: str | Path | Sequence[str | Path] | None = None,
    ) -> PlaybookResult:
        """Run ``ansible-playbook`` against the machines of this layout.

        :param limit: machines and groups, in Ansible's pattern language or as a list.
        :param check: only tell what would change.
        :param inventory_extra: further inventory sources, for their groups and variables.
        :raises AnsibleError: a play failed, or could not be started.
        :raises TimeLimitError: it did not end in time.
        """
        result: PlaybookResult = self._environment.ansible(
            playbook,
            extra_vars=extra_vars,
            limit=limit,
            tags=tags,
            check=check,
            timeout_s=timeout_s,
            inventory_extra=inventory_extra,
        )
        return result

    # faults, gates, captures

    def partition(self, *groups: Group) -> Disturbance:
        """Cut the machines of each group off from those of the other groups, until it heals.

        A group is a machine, or a set of machines, as handles or names; a machine that is in no
        group goes on reaching everybody.

        :raises LookupError: there is no such machine; ValueError: one is in two groups.
        """
        return self._environment.partition(*groups)

    def gate(self, machine: str | MachineHandle, *, to: str, for_s: float = 60.0) -> Gate:
        """Let a machine reach one TCP port of one host outside, as long as the block runs.

        The gate listens inside the machine, and relays: no route leads out.

        :param to: ``"host:port"``, resolved where the test runs.
        :param for_s: the gate closes by itself after this time.
        :raises GateError: the name does not resolve, or the machine cannot listen.
        """
        given: Any = machine  # what is no machine is told of when the gate opens
        name: str = getattr(given, "name", given)
        return self._environment.gate(name, to=to, for_s=for_s)

    @property
    def gates(self) -> Sequence[GateRecord]:
        """Every gate that was opened, in their order: who, to where, when, and what passed."""
        return tuple(gate.record for gate in tuple(self._environment.aio.gates))

    def capture(self, network: str, filter: str = "") -> Capture:
        """Capture what is sent on a network while the block runs (pcap-filter(7))."""
        return self._environment.capture(network, filter)

    def assert_sealed(self, *, timeout_s: float = 30.0) -> SealReport:
        """Prove by observation that no packet leaves this layout, and none comes in.

        :raises AssertionError: one did; tells which, from where and to whom.
        """
        return self._environment.assert_sealed(timeout_s=timeout_s)

    def inside(self, network: str) -> Inside:
        """Run blocking code of this thread in a network of the layout, while the block runs.

        :raises HostError: not root.
        """
        return self._environment.inside(network)

    def span(self, other: Layout, network: str) -> Span:
        """Make one network of two: this layout's, and the other live layout's of that name."""
        return self._environment.span(other._environment, network)

    def __getitem__(self, name: str) -> MachineHandle:
        try:
            return self._environment.handle(name)
        except KeyError:
            raise KeyError(_unknown(type(self).__name__, name, self._environment.plan)) from None

    def __iter__(self) -> Iterator[MachineHandle]:
        return iter(self._environment.handles())

    def __contains__(self, name: object) -> bool:
        return name in self._environment.plan.machines

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {', '.join(self.plan.machines)}>"

    if not TYPE_CHECKING:  # a misspelt member stays a type error; self["name"] is for the others

        def __getattr__(self, name):
            if name.startswith("_"):
                raise AttributeError(name)
            try:
                return self._environment.handle(name)
            except KeyError:
                raise AttributeError(
                    _unknown(type(self).__name__, name, self._environment.plan)
                ) from None


class AsyncLayout:
    """A live layout whose operations are awaited; its attributes are the async handles."""

    __slots__ = ("_environment", "_layout")

    def __init__(self, environment: LiveEnvironment, layout: str) -> None:
        self._environment = environment
        self._layout = layout

    async def add(self, machine: Machine, *, name: str) -> AsyncMachine:
        """As :meth:`Layout.add`."""
        return await self._environment.aio.add(name, machine)

    async def remove(self, name: str) -> None:
        """As :meth:`Layout.remove`."""
        if name not in self:
            raise KeyError(_unknown(self._layout, name, self._environment.plan))
        await self._environment.aio.remove(name)

    async def ansible(
        self,
        playbook: str | Path,
        *,
        extra_vars: Mapping[str, Any] | None = None,
        limit: str | Sequence[str] | None = None,
        tags: str | Sequence[str] | None = None,
        check: bool = False,
        timeout_s: float = 3600,
        inventory_extra: str | Path | Sequence[str | Path] | None = None,
    ) -> PlaybookResult:
        """As :meth:`Layout.ansible`."""
        result: PlaybookResult = await self._environment.aio.ansible(
            playbook,
            extra_vars=extra_vars,
            limit=limit,
            tags=tags,
            check=check,
            timeout_s=timeout_s,
            inventory_extra=inventory_extra,
        )
        return result

    def offering(self, service: str) -> Mapping[str, AsyncMachine]:
        """As :attr:`Layout.offering`."""
        return {name: self[name] for name in _OFFERING.names(self._environment.plan, service)}

    def with_role(self, kind: type[Role]) -> Mapping[str, AsyncMachine]:
        """As :attr:`Layout.with_role`."""
        return {name: self[name] for name in _WITH_ROLE.names(self._environment.plan, kind)}

    def partition(self, *groups: Group) -> Opening[AsyncDisturbance]:
        """As :meth:`Layout.partition`."""
        return self._environment.aio.partition(*groups)

    def gate(
        self, machine: str | AsyncMachine | MachineHandle, *, to: str, for_s: float = 60.0
    ) -> Opening[AsyncGate]:
        """As :meth:`Layout.gate`."""
        given: Any = machine  # what is no machine is told of when the gate opens
        name: str = getattr(given, "name", given)
        return self._environment.aio.gate(name, to=to, for_s=for_s)

    @property
    def gates(self) -> Sequence[GateRecord]:
        """As :attr:`Layout.gates`."""
        return tuple(gate.record for gate in tuple(self._environment.aio.gates))

    def capture(self, network: str, filter: str = "") -> Opening[AsyncCapture]:
        """As :meth:`Layout.capture`."""
        return self._environment.aio.capture(network, filter)

    async def assert_sealed(self, *, timeout_s: float = 30.0) -> SealReport:
        """As :meth:`Layout.assert_sealed`."""
        return await self._environment.aio.assert_sealed(timeout_s=timeout_s)

    def span(self, other: AsyncLayout, network: str) -> Opening[AsyncSpan]:
        """As :meth:`Layout.span`."""
        return self._environment.aio.span(other._environment.aio, network)

    def __getitem__(self, name: str) -> AsyncMachine:
        try:
            return self._environment.aio.handle(name)
        except KeyError:
            raise KeyError(_unknown(self._layout, name, self._environment.plan)) from None

    def __getattr__(self, name: str) -> AsyncMachine:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._environment.aio.handle(name)
        except KeyError:
            unknown = _unknown(self._layout, name, self._environment.plan)
            raise AttributeError(unknown) from None

    def __iter__(self) -> Iterator[AsyncMachine]:
        return iter(self._environment.aio.handles())

    def __contains__(self, name: object) -> bool:
        return name in self._environment.plan.machines


def _unknown(layout: str, name: str, plan: Plan) -> str:
    having = ", ".join(plan.machines) or "none"
    return f"layout {layout!r} has no machine {name!r}; its machines are: {having}"


def _members(cls: type[Layout]) -> dict[str, Member]:
    """Name to member; what a parent declares first stays first, also when it is replaced."""
    found: dict[str, Member] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Member):
                found[name] = value
            else:
                found.pop(name, None)
    return found


def _only(cls: type[Layout], kind: type[Any]) -> Mapping[str, Any]:
    members = _members(cls).items()
    return MappingProxyType({name: value for name, value in members if isinstance(value, kind)})


def _names_of(cls: type[Layout]) -> dict[int, list[str]]:
    """Identity of a declaration, of this layout or a parent, to the names that it has.

    What a subclass replaces or removes keeps its name here: a link to a network that is replaced
    leads to its replacement.
    """
    found: dict[int, list[str]] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Member):
                names = found.setdefault(id(value), [])
                names.extend([name] if name not in names else [])
    return found


def _layout_fault(cls: type[Layout], what: str, remedy: str) -> LayoutError:
    fault = Fault(what=what, remedy=remedy, place=Place.of_author())
    return fault.error(f"layout {cls.__name__!r}")


def _check_members(cls: type[Layout]) -> None:
    """What can be said about each member by itself."""
    for name, value in list(vars(cls).items()):
        if isinstance(value, type) and issubclass(value, Network | Machine | Image):
            raise _layout_fault(
                cls,
                f"member {name!r} is the class {value.__name__} instead of a declaration",
                f"{name} = {value.__name__}(...)",
            )
        if not isinstance(value, Member):
            if _is_plain(value) and _shadows_machinery(name) and name not in _CHOICES:
                raise _layout_fault(
                    cls, f"member {name!r} hides what every layout has", f"my_{name} = ..."
                )
            continue
        kind = type(value).__name__.lower()
        who = f"{kind} {name!r} of layout {cls.__name__!r}"
        if name.startswith("_") or _shadows_machinery(name):
            raise Fault(
                what=f"a member cannot be called {name!r}, layouts use that name themselves",
                remedy=f"{kind}_{name.lstrip('_')} = ...",
                place=value.place,
            ).error(who)
        for fault in value.faults:
            raise fault.error(who)
        if isinstance(value, Network) and value.name != name:
            raise Fault(
                what=f"this network is called {value.name!r} already",
                remedy=f"one name for it, or another {value!r}",
                place=value.place,
            ).error(who)
    subscribers: object = cls.subscribers
    if not isinstance(subscribers, tuple | list) or not all(map(callable, subscribers)):
        raise _layout_fault(
            cls, f"subscribers {subscribers!r} is no list of functions", "subscribers = [function]"
        )
    if not (cls.target is None or isinstance(cls.target, str)):
        raise _layout_fault(
            cls, f"target {cls.target!r} is not the name of a target", 'target = "podman"'
        )
    _tell_apart(cls)


def _shadows_machinery(name: str) -> bool:
    return not name.startswith("_") and name in vars(Layout)


def _is_plain(value: object) -> bool:
    """Neither None nor a method or property with which a subclass extends what layouts do."""
    return value is not None and not hasattr(value, "__get__")


def _tell_apart(cls: type[Layout]) -> None:
    """One machine object under a second name is a second machine, so it gets its own object."""
    seen: set[int] = set()
    for base in cls.__mro__[1:]:
        seen.update(id(value) for value in vars(base).values() if isinstance(value, Machine))
    for name, value in list(vars(cls).items()):
        if isinstance(value, Machine):
            if id(value) in seen:
                setattr(cls, name, value.copied())
            seen.add(id(value))


def _decide(cls: type[Layout]) -> dict[str, Decided]:
    networks = cls.networks()
    _refuse_same_vlan(cls, networks)
    names = _names_of(cls)

    def network_of(network: Network) -> tuple[str, Network] | None:
        known = (name for name in names.get(id(network), ()) if name in networks)
        name = next(known, None)
        return None if name is None else (name, networks[name])

    def machine_of(machine: Machine) -> Sequence[str]:
        return names.get(id(machine), ())

    around = Neighbourhood(
        layout=cls.__name__, networks=networks, network_of=network_of, machine_of=machine_of
    )
    return decide(cls.machines(), around)


def _refuse_same_vlan(cls: type[Layout], networks: Mapping[str, Network]) -> None:
    having: dict[int, str] = {}
    for name, network in networks.items():
        if network.vlan_id is None:
            continue
        other = having.setdefault(network.vlan_id, name)
        if other != name:
            raise Fault(
                what=f"vlan_id {network.vlan_id} is that of network {other!r}",
                remedy="another number",
                place=network.place,
            ).error(f"network {name!r} of layout {cls.__name__!r}")
