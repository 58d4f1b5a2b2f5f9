"""The class side of layouts: what a class body declares, checked when the class is created."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar, Self

from pytest_carthage.errors import LayoutError
from pytest_carthage.model.image import Image
from pytest_carthage.model.machine import Machine
from pytest_carthage.model.mistakes.declaring import unforeseen
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.mistakes.value import shown
from pytest_carthage.model.names import member_mistake
from pytest_carthage.model.network import Network
from pytest_carthage.model.packages import Packages
from pytest_carthage.planning.rules import Decided, Neighbourhood, decide

__all__ = ["ATTRIBUTE", "Declaration"]

#: classes whose attributes every layout has
_MACHINERY: list[type] = []

#: names of classes: they are parts of paths
_NAME = r"\w{1,200}"

#: attribute of the fixture function that holds its layout
ATTRIBUTE = "__carthage_layout__"

Member = Network | Image | Machine
#: what every layout has, for its author to choose
_CHOICES = ("target", "subscribers", "packages")


class Declaration:
    """Networks, images and machines, declared as attributes of a subclass.

    A subclass has what its parents have; it replaces a member by declaring it anew and removes it
    by setting it to None.

    :raises LayoutError: a declaration is wrong.
    """

    #: realises the machines that do not choose themselves, where no option says otherwise
    target: ClassVar[str | None] = None
    #: are told, as each becomes known, what links have and how they are known outside: functions
    #: of a :class:`.LinkResolved` or a :class:`.PublicAddressKnown`, async or not
    subscribers: ClassVar[Sequence[Callable[[Any], Any]]] = ()
    #: what its machines may install beside what their images have: ``"open"``, names of packages,
    #: or :class:`.Packages`
    packages: ClassVar[str | Sequence[str] | Packages] = ()
    #: where it is declared
    __carthage_place__: ClassVar[Place]

    def __init_subclass__(
        cls, *, without: Iterable[str] = (), machinery: bool = False, **options: Any
    ) -> None:
        super().__init_subclass__(**options)
        cls.__carthage_place__ = Place.of_author()
        if machinery:  # the class of live layouts: its attributes are no author's
            _MACHINERY.extend(base for base in cls.__mro__ if base not in (*_MACHINERY, object))
            return
        for name in (without,) if isinstance(without, str) else without:
            if name not in _members(cls):
                raise _layout_mistake(
                    cls, f"without={name!r}: there is no such member", "the name of a member"
                )
            setattr(cls, name, None)
        try:
            _check_members(cls)
            _decide(cls)
        except LayoutError as error:
            # the message names the author's line: how it was found is of no use to them
            raise error.with_traceback(None) from error.__cause__
        except Exception as error:
            raise unforeseen(f"layout {cls.__name__!r}", error) from error

    @classmethod
    def of(cls, name: str, members: Mapping[str, object]) -> type[Self]:
        """A layout made from what its class body would hold, for layouts that a program writes.

        :raises LayoutError: a declaration is wrong, or a name is none.
        """
        given = _plain(name)
        if given is None or not re.fullmatch(_NAME, given):
            raise _refused(
                f"layout: {shown(name)} is no name for a class", 'Layout.of("Shop", {...})'
            )
        for key in members:
            plain = _plain(key)
            if plain is None or not plain.isprintable() or plain == "__slots__":
                raise _refused(
                    f"layout {given!r}: {shown(key)} is no name of a member",
                    'Layout.of("Shop", {"lan": Network(...)})',
                )
        caller = sys._getframe(1).f_globals.get("__name__", cls.__module__)
        try:
            return type(given, (cls,), {"__module__": caller, **members})
        except LayoutError:
            raise
        except Exception as error:  # Python's own, about what a class body may hold
            raise unforeseen(f"layout {given!r}", error) from error

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
        """Name to image, in the order of declaration; each is called as its attribute is."""
        images: Mapping[str, Image] = _only(cls, Image)
        return MappingProxyType({name: replace(one, name=name) for name, one in images.items()})

    @classmethod
    def decided(cls) -> Mapping[str, Decided]:
        """Name of a machine to its addresses, routes and order."""
        return _decide(cls)


def _members(cls: type[Declaration]) -> dict[str, Member]:
    """Name to member; what a parent declares first stays first, also when it is replaced."""
    members: dict[str, Member] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Member):
                members[name] = value
            else:
                members.pop(name, None)
    return members


def _only(cls: type[Declaration], kind: type[Any]) -> Mapping[str, Any]:
    members = _members(cls).items()
    return MappingProxyType({name: value for name, value in members if isinstance(value, kind)})


def _names_of(cls: type[Declaration]) -> dict[int, list[str]]:
    """Identity of a declaration, of this layout or a parent, to the names that it has.

    What a subclass replaces or removes keeps its name here: a link to a network that is replaced
    leads to its replacement.
    """
    by_identity: dict[int, list[str]] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Member):
                names = by_identity.setdefault(id(value), [])
                names.extend([name] if name not in names else [])
    return by_identity


def _layout_mistake(cls: type[Declaration], what: str, remedy: str) -> LayoutError:
    mistake = Mistake(what=what, remedy=remedy, place=Place.of_author())
    return mistake.error(f"layout {cls.__name__!r}")


def _plain(name: object) -> str | None:
    """A name as plain text; None: it is none."""
    if issubclass(type(name), str):
        return str.__str__(name)
    return None  # whatever its class says of itself


def _refused(what: str, remedy: str) -> LayoutError:
    who, _, what = what.partition(": ")
    return Mistake(what=what, remedy=remedy, place=Place.of_author()).error(who)


def _check_members(cls: type[Declaration]) -> None:
    """What can be said about each member by itself."""
    for name, value in list(vars(cls).items()):
        if isinstance(value, type) and issubclass(value, Network | Machine | Image):
            raise _layout_mistake(
                cls,
                f"member {name!r} is the class {value.__name__} instead of a declaration",
                f"{name} = {value.__name__}(...)",
            )
        if not isinstance(value, Member):
            if _is_plain(value) and _shadows_machinery(name) and name not in _CHOICES:
                raise _layout_mistake(
                    cls, f"member {name!r} hides what every layout has", f"my_{name} = ..."
                )
            continue
        kind = type(value).__name__.lower()
        subject = f"{kind} {name!r} of layout {cls.__name__!r}"
        if name.startswith("_") or _shadows_machinery(name):
            raise Mistake(
                what=f"a member cannot be called {name!r}, layouts use that name themselves",
                remedy=f"{kind}_{name.lstrip('_')} = ...",
                place=value.place,
            ).error(subject)
        # machines have rules of their own, which are narrower
        if not isinstance(value, Machine) and (wrong := member_mistake(name)) is not None:
            raise Mistake(
                what=f"the {kind}'s name {wrong}", remedy=f"{kind}_1 = ...", place=value.place
            ).error(subject)
        for mistake in value.mistakes:
            raise mistake.error(subject)
        if isinstance(value, Network) and value.name != name:
            raise Mistake(
                what=f"this network is called {value.name!r} already",
                remedy=f"one name for it, or another {value!r}",
                place=value.place,
            ).error(subject)
    subscribers: object = cls.subscribers
    if not isinstance(subscribers, tuple | list) or not all(map(callable, subscribers)):
        raise _layout_mistake(
            cls, f"subscribers {subscribers!r} is no list of functions", "subscribers = [function]"
        )
    try:
        Packages.of(cls.packages)
    except ValueError as error:
        what, _, remedy = str(error).partition("; try: ")
        raise _layout_mistake(cls, f"packages: {what}", remedy) from None
    except LayoutError as error:
        raise LayoutError(f"layout {cls.__name__!r}: {error}") from error.__cause__
    if not (cls.target is None or isinstance(cls.target, str)):
        raise _layout_mistake(
            cls,
            f"target {cls.target!r} is not the name of a target",
            'target = "the name of a target"',
        )
    _tell_apart(cls)


def _shadows_machinery(name: str) -> bool:
    return not name.startswith("_") and any(
        name in vars(base) or name in inspect.get_annotations(base) for base in _MACHINERY
    )


def _is_plain(value: object) -> bool:
    """Neither None nor a method or property with which a subclass extends what layouts do."""
    return value is not None and not hasattr(type(value), "__get__")


def _tell_apart(cls: type[Declaration]) -> None:
    """One machine object under a second name is a second machine, so it gets its own object."""
    taken: set[int] = set()
    for base in cls.__mro__[1:]:
        taken.update(id(value) for value in vars(base).values() if isinstance(value, Machine))
    for name, value in list(vars(cls).items()):
        if isinstance(value, Machine):
            if id(value) in taken:
                setattr(cls, name, value.copied())
            taken.add(id(value))


def _decide(cls: type[Declaration]) -> dict[str, Decided]:
    networks = cls.networks()
    _refuse_same_vlan(cls, networks)
    names = _names_of(cls)

    def network_of(network: Network) -> tuple[str, Network] | None:
        candidates = (name for name in names.get(id(network), ()) if name in networks)
        name = next(candidates, None)
        return None if name is None else (name, networks[name])

    def machine_of(machine: Machine) -> Sequence[str]:
        return names.get(id(machine), ())

    around = Neighbourhood(
        layout=cls.__name__, networks=networks, network_of=network_of, machine_of=machine_of
    )
    return decide(cls.machines(), around)


def _refuse_same_vlan(cls: type[Declaration], networks: Mapping[str, Network]) -> None:
    having: dict[int, str] = {}
    for name, network in networks.items():
        if network.vlan_id is None:
            continue
        other = having.setdefault(network.vlan_id, name)
        if other != name:
            raise Mistake(
                what=f"vlan_id {network.vlan_id} is that of network {other!r}",
                remedy="another number",
                place=network.place,
            ).error(f"network {name!r} of layout {cls.__name__!r}")
