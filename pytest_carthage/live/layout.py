"""Layouts: the class is the declaration, the instance is the environment."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from pytest_carthage.bridge import Blocks
from pytest_carthage.live.operations import LayoutOperations, unknown
from pytest_carthage.live.searches import OFFERING, WITH_ROLE
from pytest_carthage.model.mistakes.declaring import declaring
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place, author_frame
from pytest_carthage.model.scope import ATTRIBUTE as SCOPE
from pytest_carthage.model.scope import Scope, Scoped, check_scope
from pytest_carthage.planning.declaration import ATTRIBUTE, Declaration

if TYPE_CHECKING:
    import pytest

    from pytest_carthage.labs.documents import Remark
    from pytest_carthage.labs.lab import Here, Images, Lab
    from pytest_carthage.live.environment import AsyncLayout
    from pytest_carthage.live.machines.machine import MachineHandle
    from pytest_carthage.live.resolved import Subscriber
    from pytest_carthage.live.rooms import Rooms
    from pytest_carthage.planning.plan import Plan

__all__ = ["Layout", "here"]

L = TypeVar("L", bound="Layout")


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

    #: what of a lab this layout does not have, or has otherwise: file, line and what it is
    not_taken: ClassVar[Sequence[Remark]] = ()

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
    @declaring("layout fixture", own=1, reads=False)
    def fixture(cls, *, name: str | None = None, scope: Scope = "session") -> Any:
        """A fixture that builds this layout, yields it and tears it down.

        :param name: name of the fixture, by default the variable's to which it is assigned.
        :param scope: how long an environment lasts: the whole ``"session"``, or a ``"package"``,
            ``"module"``, ``"class"`` or ``"function"``; the next one gets an environment of its
            own. Stages follow.
        :raises LayoutError: there is no such scope.
        """
        import pytest

        check_scope(scope, f"layout {cls.__name__!r}", f"{cls.__name__}.fixture(scope={{}})")

        def layout(request: pytest.FixtureRequest) -> Iterator[Layout]:
            __tracebackhide__ = True
            from pytest_carthage.door import door_of

            yield from door_of(request, f"layout {cls.__name__!r}").layout_fixture(cls, request)

        layout.__doc__ = cls.__doc__
        layout.__module__ = cls.__module__
        setattr(layout, ATTRIBUTE, cls)
        scoped = Scoped(name=name, scope=scope)
        setattr(layout, SCOPE, scoped)
        fixture: Any = pytest.fixture(scope=scope, name=name)(layout)
        setattr(fixture, ATTRIBUTE, cls)
        setattr(fixture, SCOPE, scoped)
        return fixture

    # Labs.

    @classmethod
    @declaring("lab", own=1, reads=False)
    def from_containerlab(
        cls, path: str | Path, *, images: Images = MappingProxyType({})
    ) -> type[Self]:
        """The layout of a topology of containerlab, whose nodes are of a Linux kind.

        What of it is not taken is in :attr:`not_taken`, and a warning lists it once.

        :param path: relative: of the folder of the file in which this is written.
        :param images: the image that stands for a reference: one of yours, another reference, or
            None for a machine over the host's files; any other is taken from podman's store.
        :raises LayoutError: something in it is wrong, with its file and line, or an image is not
            there.
        """
        from pytest_carthage.labs.containerlab import read_containerlab

        return _of_lab(cls, read_containerlab(_lab_at(path), here(images)))

    @classmethod
    @declaring("lab", own=1, reads=False)
    def from_kathara(
        cls, folder: str | Path, *, images: Images = MappingProxyType({})
    ) -> type[Self]:
        """The layout of a lab of Kathará: ``lab.conf``, ``*.startup``, and machines' folders.

        All else is as in :meth:`from_containerlab`.
        """
        from pytest_carthage.labs.kathara import read_kathara

        return _of_lab(cls, read_kathara(_lab_at(folder), here(images)))

    @classmethod
    @declaring("lab", own=1, reads=False)
    def from_compose(
        cls,
        path: str | Path,
        *,
        images: Images = MappingProxyType({}),
        on: str | None = "podman",
    ) -> type[Self]:
        """The layout of a file of compose: services are machines, and networks what they are.

        All else is as in :meth:`from_containerlab`.

        :param on: target of its services: ``"podman"``, whose containers run an image as it says,
            or None for system containers.
        """
        from pytest_carthage.labs.compose import read_compose

        return _of_lab(cls, read_compose(_lab_at(path), here(images), on=on))

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
                raise AttributeError(unknown(self.plan, name, dir(type(self)))) from None


def here(images: Images, near: Path | None = None) -> Here:
    """What a lab finds that becomes a layout.

    :param near: folder that relative paths are of, where it is not the lab's own.
    """
    from pytest_carthage.images.host_store import entry_point
    from pytest_carthage.labs.lab import Here

    reserved = frozenset(name for name in dir(Layout) if not name.startswith("_"))
    return Here(images=images, reserved=reserved, entry_points=entry_point, near=near)


def _lab_at(path: str | Path) -> Path:
    """Where a lab is, by a path that an author has written.

    :raises LayoutError: nothing is there.
    """
    place = Place.of_author()
    whole = Path(place.file).absolute().parent / path
    if not whole.exists():
        remedy = "a path from the folder of this file"
        raise Mistake(what=f"there is no {whole}", remedy=remedy, place=place).error("lab")
    return whole


def _of_lab(cls: type[L], lab: Lab) -> type[L]:
    """The class of a lab; what is not taken of it is warned of."""
    from pytest_carthage.images.host_store import image_ids

    if lab.references and (error := lab.missing(image_ids())) is not None:
        raise error
    place = Place.of_author()
    words = {
        "__doc__": f"{lab.title}, a lab of {lab.kind}.",
        "__module__": author_frame().f_globals.get("__name__", cls.__module__),
    }
    made = cls.of(lab.class_name, {**words, **lab.declared()})
    made.not_taken = tuple(lab.sorted_remarks)
    if lab.remarks:
        rows = "".join(f"\n  {remark}" for remark in made.not_taken)
        text = f"lab {lab.file.name}: the layout has not all of it as it is there:{rows}"
        warnings.warn_explicit(text, UserWarning, place.file, place.line)
    return made
