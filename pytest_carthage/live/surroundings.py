"""What the rooms of a live layout ask of it: three small promises that its environment keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pytest_carthage.events import Kind
from pytest_carthage.fabric.spec import PlaceKind
from pytest_carthage.handles.channel import Channel
from pytest_carthage.planning.plan import Plan, PlannedMachine
from pytest_carthage.portal import Portal

__all__ = ["Knows", "Reaches", "Surroundings", "Tells"]

H_co = TypeVar("H_co", covariant=True)


class Tells(Protocol):
    """Who tells whoever watches, and the record."""

    @property
    def name(self) -> str:
        """Name of the environment."""
        ...

    def tell(self, subject: str, kind: Kind, text: str = "", begin: float | None = None) -> None:
        """Tell of an event; ``begin`` (monotonic) gives its duration."""
        ...


class Knows(Protocol[H_co]):
    """Who knows the plan and the handles."""

    #: everything that is planned by now
    plan: Plan

    def handle(self, name: str) -> H_co:
        """The live machine of this name.

        :raises KeyError: there is none.
        """
        ...

    def handles(self) -> Sequence[H_co]:
        """All live machines, in the order of the plan."""
        ...


class Reaches(Protocol):
    """Who reaches the fabric."""

    @property
    def portal(self) -> Portal:
        """The event loop that everything happens on."""
        ...

    @property
    def fabric(self) -> Channel:
        """Connection to the environment's fabric."""
        ...

    @property
    def folder(self) -> Path:
        """Private folder of the environment, removed with it."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it has ended, and with it whatever was in its fabric."""
        ...

    @property
    def place(self) -> Callable[[PlannedMachine, PlaceKind], Awaitable[Mapping[str, Any]]]:
        """Have the fabric make what is planned, see :class:`~pytest_carthage.provider.Context`."""
        ...


class Surroundings(Tells, Knows[H_co], Reaches, Protocol[H_co]):
    """All three, for who needs each."""
