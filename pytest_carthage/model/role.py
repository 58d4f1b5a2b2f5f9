"""Roles: what a machine or an image is for."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pytest_carthage.errors import CarthageError
from pytest_carthage.handles.capability import CAPABILITIES, Capability
from pytest_carthage.model.keys.key import Anchor, Unkeyed, content, digest
from pytest_carthage.model.mistakes.culprit import described
from pytest_carthage.model.mistakes.declaring import refusal_of_call
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.mistakes.value import Unreadable, probed
from pytest_carthage.model.names import group_mistake, interface_mistake, is_package
from pytest_carthage.model.network import NetworkLink
from pytest_carthage.model.parameters import Parameters, check_parameters, inherit_annotations
from pytest_carthage.model.task import Step, Task

if TYPE_CHECKING:
    from pytest_carthage.model.forward import Forward

__all__ = ["Role", "distinct", "several"]

SomeRole = TypeVar("SomeRole", bound="Role")
#: classes of one name may have one key, where only their machine tasks differ
Identity = tuple[type["Role"], str]


class Role:
    """What a machine or an image is for: packages, tasks, and what it offers to others.

    Subclass it as a frozen dataclass, whose fields are its parameters, and override any of the
    properties with a class attribute, a field that has a default, or a property::

        @dataclass(frozen=True, slots=True, kw_only=True)
        class Cache(Role):
            packages = ("redis-server",)
            offers = ("cache",)
            port: int = 6379

            @filesystem_task("configure")
            async def configure(self, fs: AsyncFilesystem) -> None:
                await fs.template("redis.conf.j2", "/etc/redis/redis.conf")

            @machine_task("start")
            async def start(self, machine: AsyncMachine) -> None:
                await machine.run("service redis-server start")

    Tasks are done in the order in which they stand, a subclass's after its base's. One that a
    subclass defines anew stands in the place of the base's; ``install = None`` leaves it out.

    :raises LayoutError: a parameter is unknown, or its value is not what its annotation says.
    """

    __slots__ = ("declared_at",)

    #: where it is written: relative paths among its parameters are of that file's folder
    declared_at: Place

    if not TYPE_CHECKING:  # what it takes is told by the dataclass that a subclass is
        __signature__ = Parameters()

        def __new__(cls, *given, **named):  # noqa: D102
            check_parameters(cls, given, named)
            role = super().__new__(cls)
            object.__setattr__(role, "declared_at", Place.of_author())
            return role

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        inherit_annotations(cls)
        for name in ("__init__", "__post_init__"):
            if inspect.isfunction(own := vars(cls).get(name)) and not hasattr(own, _MAPPED):
                setattr(cls, name, _mapped(own))

    @property
    def packages(self) -> Sequence[str]:
        """Debian packages that it needs."""
        return ()

    @property
    def includes(self) -> Sequence[Role]:
        """Roles that it consists of; they come before it."""
        return ()

    @property
    def offers(self) -> Sequence[str]:
        """Names of the services that it offers to other machines."""
        return ()

    @property
    def needs(self) -> Sequence[str]:
        """Names of the services that a role of the layout must offer.

        A machine that offers one is ready before those that need it, unless it waits for them.
        """
        return ()

    @property
    def links(self) -> Mapping[str, NetworkLink]:
        """Links that its machine gets where it has none of that name: interface to link."""
        return MappingProxyType({})

    @property
    def programs(self) -> Mapping[str, str]:
        """Programs of the host that it needs where the machine's root is the host's: to package."""
        return MappingProxyType({})

    @property
    def uses(self) -> Sequence[Capability]:
        """What its tasks ask of the machine beside commands and files, as ``("freeze",)``.

        A layout that puts it on a target which lacks that is refused before anything is built.
        """
        return ()

    @property
    def serves_dhcp(self) -> bool:
        """Whether it serves DHCP: machines that ask on its networks are made after it."""
        return False

    @property
    def forward(self) -> bool:
        """Whether the machine forwards packets between its links."""
        return False

    @property
    def masquerade(self) -> str | Sequence[str]:
        """Interfaces behind whose address everything that leaves there hides (implies forward)."""
        return ()

    @property
    def forwards(self) -> Sequence[Forward]:
        """Ports of the machine that lead to other machines (implies forward)."""
        return ()

    @property
    def groups(self) -> Sequence[str]:
        """Ansible groups that the machine is in."""
        return ()

    async def refresh(self, machine: Any) -> None:
        """Called when machines joined or left, and when this one was started again."""

    async def welcome(self, own: Any, newcomer: Any) -> None:
        """Called for each other machine of the layout: once both run, and after each start of it.

        A newcomer is welcomed before its own machine tasks, where ``own`` is ready by then, as it
        is where the newcomer needs what ``own`` offers.
        """

    # looking, without building anything

    def but(self: SomeRole, **parameters: Any) -> SomeRole:
        """The same role with other parameters, as for one machine.

        :raises LayoutError: a parameter is unknown, or its value is not what its annotation says.
        """
        if not is_dataclass(self):
            check_parameters(type(self), (), parameters)
        return replace(self, **parameters)  # type: ignore[type-var]

    @property
    def parts(self) -> tuple[Role, ...]:
        """The roles that it consists of, in the order of their tasks; itself is the last.

        :raises LayoutError: its :attr:`includes` are no roles, or go in a circle.
        """
        try:
            return _gathered(self)
        except _Wrong as wrong:
            raise wrong.mistake(Place.of_author()).error(f"role {wrong.role}") from wrong.__cause__

    def tasks(self, kind: Literal["filesystem", "machine"] | None = None) -> tuple[Task, ...]:
        """Its own tasks in their order; those of :attr:`includes` are theirs."""
        names: dict[str, None] = {}
        for cls in reversed(type(self).__mro__):
            names.update(dict.fromkeys(n for n, one in vars(cls).items() if isinstance(one, Task)))
        members = (inspect.getattr_static(type(self), name) for name in names)
        return tuple(
            task for task in members if isinstance(task, Task) and kind in (None, task.kind)
        )

    @property
    def steps(self) -> tuple[Step, ...]:
        """What it does to an image, one layer each; without :attr:`includes`."""
        steps = [Step.of_task(task, self) for task in self.tasks("filesystem")]
        if self.packages:
            from pytest_carthage.model.mistakes.place import Place

            ordered = tuple(sorted({str(package) for package in _listed(self.packages)}))
            steps.insert(0, Step.of_packages(ordered, Place.of_author(), self))
        return tuple(steps)

    @property
    def parameters(self) -> Any:
        """Its class and the values of its fields, as JSON can hold them.

        :raises Unkeyed: a value has no key.
        """
        return self.parameters_near(None)

    def parameters_near(self, anchor: Anchor) -> Any:
        """Its :attr:`parameters`; paths near a folder are told from there.

        :raises Unkeyed: a value has no key.
        """
        own: object = self
        names = [one.name for one in fields(own)] if is_dataclass(own) else list(_state_of(own))
        values = {name: content(getattr(self, name), anchor) for name in names}
        return [type(self).__qualname__, values]

    def __content__(self) -> Any:
        return [self.parameters, [step.key for step in self.steps]]

    @property
    def key(self) -> str:
        """Key of what it does to an image: equal for roles that do the same (hexadecimal)."""
        try:
            return digest([self.parameters, [step.key for step in self.steps]])
        except Unkeyed:
            return f"{type(self).__qualname__}-{id(self):x}"

    def mistakes(self, place: Place) -> tuple[Mistake, ...]:
        """What is wrong with it and its parts, where it was put to use at ``place``."""
        try:
            parts = _gathered(self)
        except _Wrong as wrong:
            mistake = wrong.mistake(place)
            return (replace(mistake, what=f"role {wrong.role} {mistake.what}"),)
        return tuple(
            Mistake(what=f"role {type(one).__name__} {what}", remedy=remedy, place=place)
            for one in parts
            for what, remedy in _mistakes(one)
        )


def _mapped(function: Callable[..., None]) -> Callable[..., None]:
    """What makes a role, with all that it raises told as a mistake of whoever wrote it there."""

    @functools.wraps(function)
    def make(self: Role, *args: Any, **kwargs: Any) -> None:
        try:
            function(self, *args, **kwargs)
        except CarthageError:
            raise
        except Exception as error:
            if function.__name__ == "__post_init__":
                kwargs = {one.name: getattr(self, one.name, ...) for one in fields(self)}  # type: ignore[arg-type]
            kind = f"role {type(self).__name__}"
            refusal = refusal_of_call(
                kind,
                function,
                (self, *args),
                kwargs,
                error,
                own=1,
                remedy="what the role takes",
            )
            raise refusal from refusal.__cause__

    setattr(make, _MAPPED, True)
    return make


def several(value: str | Iterable[str]) -> tuple[str, ...]:
    """Names, where one may stand for itself."""
    return (value,) if isinstance(value, str) else tuple(value)


def distinct(roles: Iterable[Role]) -> tuple[Role, ...]:
    """Roles without those that are there before in the same class and with the same parameters."""
    by_identity: dict[Identity, Role] = {}
    for role in roles:
        by_identity.setdefault((type(role), role.key), role)
    return tuple(by_identity.values())


class _Wrong(Exception):
    """A role cannot be taken to its parts."""

    def __init__(self, role: Role, what: str, remedy: str) -> None:
        super().__init__(what)
        self.role = type(role).__name__
        self.what = what
        self.remedy = remedy

    def mistake(self, place: Place) -> Mistake:
        """It as a mistake of what is declared at ``place``."""
        return Mistake(what=self.what, remedy=self.remedy, place=place, cause=self.__cause__)


def _gathered(role: Role) -> tuple[Role, ...]:
    parts: dict[Identity, Role] = {}
    _gather(role, {}, parts)
    return tuple(parts.values())


def _ask(role: Role) -> None:
    """Have a role say all that others will ask of it.

    :raises _Wrong: a property of the author's failed.
    """
    for name in _SAYS:
        try:
            probed(getattr(role, name))
        except Unreadable as error:
            raise _Wrong(role, f"has {name} that nobody can read: {error}", f"other {name}") from (
                error.__cause__
            )
        except Exception as error:
            raise _Wrong(
                role,
                f"cannot say its {name}: {described(error)}",
                f"{name} that follow from the role's parameters",
            ) from error


def _gather(role: Role, path: Mapping[Identity, Role], parts: dict[Identity, Role]) -> None:
    _ask(role)
    identity = type(role), role.key
    if identity in path or len(path) > _DEEPEST:
        names = [type(one).__name__ for one in (*path.values(), role)][-6:]
        circle = " includes ".join(names)
        raise _Wrong(role, f"includes itself: {circle}", "leave one of them out")
    around = {**path, identity: role}
    includes: object = role.includes
    for included in includes if isinstance(includes, tuple | list) else (includes,):
        if not isinstance(included, Role):
            name = included.__name__ if isinstance(included, type) else "Nginx"
            raise _Wrong(
                role, f"includes {included!r}, which is no role", f"includes = ({name}(),)"
            )
        _gather(included, around, parts)
    parts.setdefault(identity, role)


def _mistakes(role: Role) -> Iterator[tuple[str, str]]:
    """What is wrong with one role, and what can be written instead."""
    name = type(role).__name__
    for package in _listed(role.packages):
        if not is_package(package):
            yield (
                f"asks for {package!r}, which is no name of a Debian package",
                f'packages = ("nginx",) in {name}',
            )
    for attribute, example in _NAMES.items():
        for entry in _listed(getattr(role, attribute)):
            if not isinstance(entry, str) or not entry:
                yield f"has {entry!r} in {attribute}, which is no name", f"{attribute} = {example}"
    for group in _listed(role.groups):
        wrong = group_mistake(group)
        if isinstance(group, str) and group and wrong is not None:
            yield (
                f"has {group!r} in groups, which {wrong}",
                f'groups = ("{re.sub("[^A-Za-z0-9_]", "_", group)}",)',
            )
    for capability in _listed(role.uses):
        if not isinstance(capability, str) or capability not in CAPABILITIES:
            yield (
                f"has {capability!r} in uses, which is nothing that machines can be asked for",
                f"one of {', '.join(CAPABILITIES)}",
            )
    for attribute in ("forward", "serves_dhcp"):
        flag: object = getattr(role, attribute)
        if not isinstance(flag, bool):
            yield f"has {attribute} = {flag!r}", f"{attribute} = True"
    programs: object = role.programs
    if not isinstance(programs, Mapping):
        yield f"has {programs!r} as programs", 'programs to their packages, as {"nginx": "nginx"}'
    links: object = role.links
    if not isinstance(links, Mapping):
        yield f"has {links!r} as links", 'links as a mapping, as {"mon0": self.network.at("auto")}'
    else:
        for interface, link in links.items():
            if not isinstance(link, NetworkLink):
                yield f"has {link!r} as link {interface!r}", "network.at(...)"
            elif (wrong := interface_mistake(interface)) is not None:
                yield f"has a link whose interface name {interface!r} {wrong}", 'a name as "mon0"'
    yield from _wrong_tasks(role)
    if role.tasks("filesystem"):
        try:
            content(role.parameters)
        except Unkeyed as error:
            yield (
                f"has tasks of the file system and a parameter without a key: {error}",
                "text, numbers, paths, tuples and frozen dataclasses as parameters",
            )


def _wrong_tasks(role: Role) -> Iterator[tuple[str, str]]:
    whose: dict[str, type] = {}
    for cls in type(role).__mro__:
        for name, member in vars(cls).items():
            if isinstance(member, Task):
                whose[name] = cls
    for name, cls in whose.items():
        member = inspect.getattr_static(type(role), name)
        if member is None:
            continue
        kind = getattr(vars(cls)[name], "kind", "filesystem")
        if not isinstance(member, Task):
            yield (
                f"has {name}, which is a task of {cls.__name__}, as something that is none",
                f"@{kind}_task above it, or {name} = None to leave it out",
            )
            continue
        try:
            inspect.signature(member.function).bind(role, object())
        except TypeError as error:
            takes = "machine" if member.kind == "machine" else "fs"
            yield f"has task {name}, which cannot be called: {error}", f"def {name}(self, {takes})"


def _listed(value: object) -> Iterable[object]:
    return value if isinstance(value, tuple | list | set | frozenset) else (value,)


def _state_of(role: object) -> Mapping[str, Any]:
    return getattr(role, "__dict__", {})


#: what marks a function of :func:`_mapped`
_MAPPED = "__carthage_mapped__"
#: attributes that may be properties of an author's
_SAYS = (
    "packages",
    "includes",
    "offers",
    "needs",
    "links",
    "programs",
    "uses",
    "serves_dhcp",
    "forward",
    "masquerade",
    "forwards",
    "groups",
)
#: attributes that are names, and what they look like
_NAMES = {
    "offers": '("postgres",)',
    "needs": '("postgres",)',
    "groups": '("databases",)',
    "masquerade": '("wan0",)',
}
#: roles that are made anew each time include each other for ever
_DEEPEST = 50
