"""Layouts: the class is the declaration, the instance is the environment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_carthage.bridge import Blocks
from pytest_carthage.live.operations import LayoutOperations, unknown
from pytest_carthage.live.searches import OFFERING, WITH_ROLE
from pytest_carthage.planning.declaration import ATTRIBUTE, Declaration

if TYPE_CHECKING:
    import pytest

    from pytest_carthage.live.environment import AsyncLayout
    from pytest_carthage.live.machines.machine import MachineHandle
    from pytest_carthage.live.resolved import Subscriber
    from pytest_carthage.live.rooms import Rooms
    from pytest_carthage.planning.plan import Plan

__all__ = ["Layout"]


class Layout(Blocks, LayoutOperations, Declaration, machinery=True):
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

    subscribers: ClassVar[Sequence[Subscriber]] = ()

    #: ``Shop.offering("postgres")``: name to machine, of those with a role that offers a service;
    #: declarations, and on a live layout handles
    offering = OFFERING
    #: ``Shop.with_role(Postgres)``: name to machine, of those with a role of a class
    with_role = WITH_ROLE

    #: the same as awaitables, for any event loop
    aio: AsyncLayout

    def __init__(self, aio: AsyncLayout) -> None:
        self.aio = aio

    # The declaration.

    @classmethod
    def fixture(cls, *, name: str | None = None) -> Any:
        """A session-scoped fixture that builds this layout, yields it and tears it down.

        :param name: name of the fixture, by default the variable's to which it is assigned.
        """
        import pytest

        def layout(request: pytest.FixtureRequest) -> Iterator[Layout]:
            __tracebackhide__ = True
            from pytest_carthage.door import door_of

            yield from door_of(request, f"layout {cls.__name__!r}").layout_fixture(cls, request)

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
        return self.aio.name

    @property
    def folder(self) -> Path:
        """Private folder of the environment, removed with it."""
        return self.aio.folder

    @property
    def plan(self) -> Plan:
        """All that was decided before anything existed, and the machines added since."""
        return self.aio.plan

    @property
    def _rooms(self) -> Rooms:
        return self.aio._rooms

    def __carthage_handle__(self, name: str) -> MachineHandle:
        try:
            return self.aio.machines[name].sync
        except KeyError:
            raise AttributeError(unknown(self.plan, name)) from None

    def __getitem__(self, name: str) -> MachineHandle:
        try:
            return self.aio.machines[name].sync
        except KeyError:
            raise KeyError(unknown(self.plan, name)) from None

    def __iter__(self) -> Iterator[MachineHandle]:
        return iter([machine.sync for machine in self.aio.handles()])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {', '.join(self.plan.machines)}>"

    if not TYPE_CHECKING:  # a misspelt member stays a type error; self["name"] is for the others

        def __getattr__(self, name):
            if name.startswith("_") or name == "aio":
                raise AttributeError(name)
            try:
                return self.aio.machines[name].sync
            except KeyError:
                raise AttributeError(unknown(self.plan, name)) from None
