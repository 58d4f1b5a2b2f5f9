"""Machines, as declared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, overload

from pytest_carthage.model.fault import Fault
from pytest_carthage.model.image import Image
from pytest_carthage.model.network import Address, NetworkConfig, NetworkLink
from pytest_carthage.model.place import Place
from pytest_carthage.model.role import Role, distinct

if TYPE_CHECKING:
    from pytest_carthage.access.handle import MachineHandle
    from pytest_carthage.model.layout import Layout

__all__ = [
    "Condition",
    "Forward",
    "Limits",
    "Machine",
    "command",
    "file",
    "interface_fault",
    "log",
    "port",
    "unit",
]

_GROUP = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LONGEST_INTERFACE_BYTES = 15  # IFNAMSIZ - 1, linux/if.h
_RESERVED_INTERFACES = {"lo", "all", "default", ".", ".."}  # see Documentation/networking/ip-sysctl


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a machine may use at most; None: no limit of its own."""

    memory_mib: int | None = None
    #: processors' worth of time, as in 0.5
    cpus: float | None = None
    #: number of processes and threads
    pids: int | None = None


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of a router that leads to another machine: ``Forward("wan0", 80, to="web")``."""

    #: where it is asked for
    interface: str
    port: int
    #: a machine, by its name or as it is declared, or an address
    to: str | Address | Machine = field(kw_only=True)
    #: port there; None: the same
    to_port: int | None = field(default=None, kw_only=True)
    protocol: Literal["tcp", "udp"] = field(default="tcp", kw_only=True)
    place: Place = field(default_factory=Place.of_author, kw_only=True, compare=False, repr=False)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong with it, whatever the machine is."""
        found: list[tuple[str, str]] = []
        to: object = self.to
        for name in ("port", "to_port"):
            value = getattr(self, name)
            if value is None and name == "to_port":
                continue
            if type(value) is not int or not 0 < value < 65536:
                found.append((f"forward: {name} {value!r} is not from 1 to 65535", f"{name}=80"))
        if self.protocol not in ("tcp", "udp"):
            found.append((f"forward: protocol {self.protocol!r} is unknown", 'protocol="tcp"'))
        if not isinstance(to, str | IPv4Address | IPv6Address | Machine):
            found.append((f"forward: to={self.to!r} is of a wrong type", 'to="web"'))
        return tuple(Fault(what=what, remedy=remedy, place=self.place) for what, remedy in found)


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that must hold before a machine counts as ready.

    Made by :func:`port`, :func:`unit`, :func:`command`, :func:`file` and :func:`log`.
    """

    kind: Literal["port", "unit", "command", "file", "log"]
    #: what to look for; a port is its decimal number
    value: str
    #: who runs the command
    user: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"


def port(number: int) -> Condition:
    """Something listens on this TCP port, on any address of the machine."""
    return Condition("port", str(number))


def unit(name: str) -> Condition:
    """This systemd unit is active."""
    return Condition("unit", name)


def command(line: str, *, user: str | None = None) -> Condition:
    """This command exits with status 0."""
    return Condition("command", line, user)


def file(path: str) -> Condition:
    """This path exists."""
    return Condition("file", path)


def log(text: str) -> Condition:
    """This text has appeared in the machine's log."""
    return Condition("log", text)


@dataclass(frozen=True, slots=True, eq=False, init=False, repr=False)
class Machine:
    """One machine of a layout. On the class it is this declaration, on the live layout a handle.

    :param image: the root file system; the ``netns`` target uses the host's own instead.
    :param links: interface name (at most 15 bytes) to link.
    :param roles: what the machine is for.
    :param on: the target that realises it; by default what the option or the layout says,
        then ``podman`` for a machine with an image and ``netns`` for one without.
    :param hostname: by default the member's name, with ``-`` for ``_``.
    :param command: the main process; text is given to ``/bin/sh -c``.
    :param init: ``"systemd"``, or None for a small init of the target's own.
    :param env: environment of everything that is run in the machine.
    :param forward: forward packets between the links.
    :param masquerade: interfaces behind whose address everything that leaves there hides
        (implies ``forward``).
    :param forwards: ports that lead to other machines (implies ``forward``).
    :param routes: destination subnet (or ``"default"``) to next hop, which is an address on the
        network of one of the links, whole or as it ends (``".254"``).
    :param wait_for: conditions that must hold before the machine counts as ready.
    :param ready_timeout_s: how long to wait for them.
    :param limits: memory, processors, number of processes.
    :param groups: Ansible groups.
    :param variables: Ansible host variables.
    :param after: machines (or names of machines) that must be ready before this one is made.
    """

    image: Image | None
    links: NetworkConfig
    roles: tuple[Role, ...]
    on: str | None
    hostname: str | None
    command: tuple[str, ...] | None
    init: Literal["systemd"] | None
    env: Mapping[str, str]
    forward: bool
    masquerade: tuple[str, ...]
    forwards: tuple[Forward, ...]
    routes: Mapping[str, str | Address]
    wait_for: tuple[Condition, ...]
    ready_timeout_s: float
    limits: Limits | None
    groups: tuple[str, ...]
    variables: Mapping[str, Any]
    after: tuple[str | Machine, ...]
    place: Place = field(init=False)
    faults: tuple[Fault, ...] = field(init=False)
    #: its roles and those of its image, taken to their parts, in the order of their tasks
    parts: tuple[Role, ...] = field(init=False)
    #: :attr:`links` without those that its roles give it
    own_links: NetworkConfig = field(init=False)

    def __init__(
        self,
        image: Image | None = None,
        *,
        links: Mapping[str, NetworkLink] = MappingProxyType({}),
        roles: Iterable[Role] = (),
        on: str | None = None,
        hostname: str | None = None,
        command: str | Sequence[str] | None = None,
        init: Literal["systemd"] | None = None,
        env: Mapping[str, str] = MappingProxyType({}),
        forward: bool = False,
        masquerade: str | Iterable[str] = (),
        forwards: Forward | Iterable[Forward] = (),
        routes: Mapping[str, str | Address] = MappingProxyType({}),
        wait_for: Condition | Iterable[Condition] = (),
        ready_timeout_s: float = 60.0,
        limits: Limits | None = None,
        groups: str | Iterable[str] = (),
        variables: Mapping[str, Any] = MappingProxyType({}),
        after: str | Machine | Iterable[str | Machine] = (),
    ) -> None:
        reading = _Reading(Place.of_author())
        if isinstance(command, str):
            command = ("/bin/sh", "-c", command)
        values = {
            "image": reading.image(image),
            "links": reading.links(links),
            "roles": reading.roles(roles),
            "on": reading.text("on", on, 'on="podman"'),
            "hostname": reading.text("hostname", hostname, 'hostname="web"'),
            "command": reading.command(command),
            "init": reading.init(init, command),
            "env": reading.env(env),
            "forward": reading.flag("forward", forward),
            "masquerade": reading.several("masquerade", masquerade, str, 'masquerade="eth0"'),
            "forwards": reading.several(
                "forwards", forwards, Forward, 'forwards=[Forward("wan0", 80, to="web")]'
            ),
            "routes": reading.routes(routes),
            "wait_for": reading.conditions(wait_for),
            "ready_timeout_s": reading.duration("ready_timeout_s", ready_timeout_s),
            "limits": reading.limits(limits),
            "groups": reading.groups(groups),
            "variables": reading.mapping("variables", variables, 'variables={"tier": "front"}'),
            "after": reading.several("after", after, str | Machine, "after=[db]"),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        parts = () if reading.faults else _parts(self.image, self.roles)
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "own_links", self.links)
        given = {name: link for one in parts for name, link in one.links.items()}
        if given:
            missing = {name: link for name, link in given.items() if name not in self.links}
            object.__setattr__(self, "links", reading.links({**self.links, **missing}))
        object.__setattr__(self, "place", reading.place)
        object.__setattr__(self, "faults", tuple(reading.faults))

    def replace(self, **changes: Any) -> Machine:
        """The same declaration with some arguments changed."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        kept["links"] = self.own_links
        return Machine(**{**kept, **changes})

    def copied(self) -> Machine:
        """An equal declaration, of the same place, that is another machine."""
        copy = self.replace()
        object.__setattr__(copy, "place", self.place)
        return copy

    @overload
    def __get__(self, instance: None, owner: type) -> Machine: ...

    @overload
    def __get__(self, instance: Layout, owner: type) -> MachineHandle: ...

    def __get__(self, instance: Layout | None, owner: type) -> Machine | MachineHandle:
        if instance is None:
            return self
        from pytest_carthage.model.layout import Layout

        holder: object = instance
        if isinstance(holder, Layout):
            return holder[_name_in(owner, self)]
        return self

    def __repr__(self) -> str:
        parts = [self.image.name] if self.image else []
        return f"<Machine {' '.join([*parts, *self.links])}>".replace(" >", ">")


def _parts(image: Image | None, roles: tuple[Role, ...]) -> tuple[Role, ...]:
    """The image's roles, then the machine's own; one that it has twice is one."""
    of_image = () if image is None else image.roles
    return distinct([*of_image, *(part for role in roles for part in role.parts)])


def _name_in(owner: type, machine: Machine) -> str:
    for base in owner.__mro__:
        for name, value in vars(base).items():
            if value is machine:
                return name
    raise AttributeError(f"{machine!r} is no member of {owner.__name__}")


class _Reading:
    """Reads a machine's arguments once: normalises the good, collects the faults of the bad."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.faults: list[Fault] = []

    def fault(self, what: str, remedy: str, place: Place | None = None) -> None:
        self.faults.append(Fault(what=what, remedy=remedy, place=place or self.place))

    def wrong(self, argument: str, value: object, remedy: str) -> None:
        self.fault(f"{argument}={value!r} is of a wrong type ({type(value).__name__})", remedy)

    def image(self, image: object) -> Image | None:
        if image is None:
            return None
        if isinstance(image, Image):
            self.faults.extend(image.faults)
            return image
        hint = f"Image.oci({image!r})" if isinstance(image, str) else 'Image.debian("bookworm")'
        self.wrong("image", image, hint)
        return None

    def links(self, links: object) -> NetworkConfig:
        read: dict[str, NetworkLink] = {}
        example = 'links={"eth0": lan.at(".1")}'
        for interface, link in self.mapping("links", links, example).items():
            if not isinstance(link, NetworkLink):
                self.fault(f"interface {interface!r} is {link!r} instead of a link", example)
                continue
            wrong = next(
                (
                    f"interface name {name!r} {fault}"
                    for name in (interface, *link.bond)
                    if (fault := interface_fault(name)) is not None
                ),
                None,
            )
            if wrong is not None:
                self.fault(wrong, 'a name such as "eth0"', link.place)
                continue
            for found in link.faults:
                self.fault(f"{found.what} (interface {interface!r})", found.remedy, found.place)
            read[interface] = link
        return NetworkConfig(read)

    def roles(self, roles: object) -> tuple[Role, ...]:
        if isinstance(roles, Role):
            roles = (roles,)
        found = self.several("roles", roles, object, "roles=[Router()]")
        for role in found:
            if isinstance(role, type) and issubclass(role, Role):
                self.fault(
                    f"role {role.__name__} is a class instead of a role",
                    f"roles=[{role.__name__}()]",
                )
            elif not isinstance(role, Role):
                self.wrong("roles", role, "roles=[Router()]")
            else:
                self.faults += role.faults(self.place)
        return tuple(role for role in found if isinstance(role, Role))

    def text(self, argument: str, value: object, remedy: str) -> str | None:
        if value is None:
            return None
        if isinstance(value, str) and value:
            return value
        if value == "":
            self.fault(f"{argument} is empty", f"{remedy}, or leave it out")
        else:
            self.wrong(argument, value, remedy)
        return None

    def flag(self, argument: str, value: object) -> bool:
        if not isinstance(value, bool):
            self.wrong(argument, value, f"{argument}=True")
        return bool(value)

    def command(self, command: object) -> tuple[str, ...] | None:
        if command is None:
            return None
        words = self.several("command", command, str, 'command=["sleep", "infinity"]')
        if not words:
            self.fault("command is empty", 'command=["sleep", "infinity"], or leave it out')
        return words or None

    def init(self, init: object, command: object) -> Literal["systemd"] | None:
        if init is None:
            return None
        if init != "systemd":
            self.fault(f"init {init!r} is unknown", 'init="systemd", or leave it out')
            return None
        if command is not None:
            self.fault(
                "command and init='systemd' exclude each other, each is the main process",
                "a systemd unit, or leave one of them out",
            )
        return "systemd"

    def env(self, env: object) -> Mapping[str, str]:
        example = 'env={"LANG": "C.UTF-8"}'
        read = self.mapping("env", env, example)
        for name, value in read.items():
            if not name or "=" in name or "\0" in name:
                self.fault(f"env has no variable name in {name!r}", example)
            if not isinstance(value, str):
                self.wrong(f"env[{name!r}]", value, f"env={{{name!r}: {str(value)!r}}}")
        return read

    def routes(self, routes: object) -> Mapping[str, str | Address]:
        example = 'routes={"10.1.0.0/16": ".254"}'
        read = self.mapping("routes", routes, example)
        for destination, via in read.items():
            if not isinstance(via, str | IPv4Address | IPv6Address):
                self.wrong(f"routes[{destination!r}]", via, example)
        return read

    def conditions(self, conditions: object) -> tuple[Condition, ...]:
        example = "wait_for=[port(80)]"
        found = self.several("wait_for", conditions, Condition, example)
        for condition in found:
            value = condition.value
            if not isinstance(value, str) or not value:
                self.fault(f"wait_for: {condition.kind} of what? It is {value!r}", example)
            elif condition.kind == "port" and not (value.isdecimal() and 0 < int(value) < 65536):
                self.fault(f"wait_for: {value!r} is not a port from 1 to 65535", example)
            elif condition.kind == "file" and not value.startswith("/"):
                self.fault(f"wait_for: path {value!r} does not start with /", f'file("/{value}")')
            elif condition.kind == "unit" and self._is_no_unit(value):
                self.fault(f"wait_for: {value!r} is not the name of a unit", 'unit("nginx")')
        return found

    @staticmethod
    def _is_no_unit(name: str) -> bool:
        return not re.fullmatch(r"[A-Za-z0-9:_.\\@-]+", name, re.ASCII) or name.startswith("-")

    def duration(self, argument: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong(argument, value, f"{argument}=60")
            return 60.0
        if not 0 < value < float("inf"):
            self.fault(f"{argument} {value!r} is not a positive number", f"{argument}=60")
        return float(value)

    def limits(self, limits: object) -> Limits | None:
        if limits is None:
            return None
        if not isinstance(limits, Limits):
            self.wrong("limits", limits, "limits=Limits(memory_mib=256)")
            return None
        for name, kinds in (("memory_mib", int), ("cpus", int | float), ("pids", int)):
            value = getattr(limits, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kinds) or value <= 0:
                self.fault(
                    f"limit {name}={value!r} is not a positive number",
                    f"limits=Limits({name}={'0.5' if name == 'cpus' else '256'})",
                )
        return limits

    def groups(self, groups: object) -> tuple[str, ...]:
        found = self.several("groups", groups, str, 'groups=["web"]')
        for group in found:
            if not _GROUP.fullmatch(group):
                self.fault(
                    f"group {group!r} is not a name that Ansible takes",
                    f'groups=["{re.sub("[^A-Za-z0-9_]", "_", group) or "web"}"]',
                )
        return found

    def mapping(self, argument: str, value: object, remedy: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            self.wrong(argument, value, remedy)
            return MappingProxyType({})
        for key in value:
            if not isinstance(key, str):
                self.fault(f"{argument} has a key of a wrong type: {key!r}", remedy)
        return MappingProxyType({k: v for k, v in value.items() if isinstance(k, str)})

    def several(self, argument: str, value: object, kind: Any, remedy: str) -> tuple[Any, ...]:
        if isinstance(value, str) or (kind is not object and isinstance(value, kind)):
            value = (value,)
        if isinstance(value, Mapping) or not isinstance(value, Iterable):
            self.wrong(argument, value, remedy)
            return ()
        found = tuple(value)
        for one in found:
            if not isinstance(one, kind):
                self.wrong(argument, one, remedy)
        return tuple(one for one in found if isinstance(one, kind))


def interface_fault(name: object) -> str | None:
    """What is wrong with the name of an interface; None: nothing."""
    if not isinstance(name, str) or not name:
        return "is no name"
    if len(name.encode()) > _LONGEST_INTERFACE_BYTES:
        return (
            f"has {len(name.encode())} bytes, the kernel takes at most {_LONGEST_INTERFACE_BYTES}"
        )
    if name in _RESERVED_INTERFACES or not re.fullmatch(r"[!-~]+", name) or set(name) & set("/:%"):
        return "is one that the kernel refuses or keeps for itself"
    return None
