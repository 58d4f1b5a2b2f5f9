"""Machines, as declared."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv6Address, ip_interface
from itertools import islice
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeVar, overload

from pytest_carthage.model.addresses.resolution import is_special
from pytest_carthage.model.forward import Forward
from pytest_carthage.model.image import Image
from pytest_carthage.model.mistakes.declaring import declared, declaring
from pytest_carthage.model.mistakes.member import Member
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.mistakes.value import shown
from pytest_carthage.model.names import (
    group_mistake,
    interface_mistake,
    inventory_mistake,
    is_user,
)
from pytest_carthage.model.network import Address, NetworkConfig, NetworkLink
from pytest_carthage.model.on import On
from pytest_carthage.model.role import Role, distinct
from pytest_carthage.model.strings import variables_mistake, words_mistake
from pytest_carthage.model.variables import variable_mistake

__all__ = [
    "Condition",
    "Forward",
    "Holder",
    "Limits",
    "Machine",
    "Privileges",
    "command",
    "file",
    "log",
    "port",
    "screen",
    "unit",
]

#: limit to what it is, at least and at most. Of memory: LONG_MAX bytes. Of processors: 1 ms in a
#: period, see sched/core.c. Of processes: one beside the machine's own first, PID_MAX_LIMIT.
_LIMITS: Mapping[str, tuple[Any, float, float]] = MappingProxyType(
    {
        "memory_mib": (int, 1, 2**43 - 1),
        "cpus": (int | float, 0.01, 100_000),
        "pids": (int, 2, 2**22),
    }
)

_LONGEST_TEXT = 4096  # PATH_MAX; names are shorter by their own rules

H = TypeVar("H")
H_co = TypeVar("H_co", covariant=True)


#: more than anybody writes down
_MOST_ITEMS = 10_000


class Holder(Protocol[H_co]):
    """An instance that has handles of the machines that its class declares."""

    def __carthage_handle__(self, name: str) -> H_co:
        """The handle of a machine."""
        ...


@declared("limits")
@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a machine may use at most; None: no limit of its own."""

    memory_mib: int | None = None
    #: processors' worth of time, as in 0.5
    cpus: float | None = None
    #: number of processes and threads
    pids: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Privileges:
    """What a machine may do on the host, beyond what its target gives to all."""

    privileged: bool = False
    #: names as in capabilities(7), without ``CAP_``; or ``ALL``
    capabilities: tuple[str, ...] = ()
    #: paths on the host; more than one word: ``PATH:PATH IN THE MACHINE:rwm``
    devices: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """Arguments of a machine by which they were asked for."""
        asked = {
            "privileged": self.privileged,
            "capabilities": self.capabilities,
            "devices": self.devices,
        }
        return tuple(f"{name}=" for name, value in asked.items() if value)


@declared("condition")
@dataclass(frozen=True, slots=True)
class Condition:
    """Something that must hold before a machine counts as ready.

    Made by :func:`port`, :func:`unit`, :func:`command`, :func:`file` and :func:`log`; a role may
    have others.
    """

    kind: Literal["port", "unit", "command", "file", "log", "rebooted", "exited", "screen", "asked"]
    #: what to look for; a port is its decimal number
    value: str
    #: who runs the command
    user: str | None = None
    #: of a kind ``"asked"``: is given the live machine, for coroutines, and returns in words what
    #: is still to come; empty: nothing
    ask: Callable[[Any], Awaitable[str]] | None = None

    def __str__(self) -> str:
        if self.kind == "asked":
            return self.value
        return f"{self.kind} {self.value}".rstrip()


_CONDITIONS = ("port", "unit", "command", "file", "log", "rebooted", "exited", "screen", "asked")


@declaring("condition port()")
def port(number: int) -> Condition:
    """Something listens on this TCP port, on any address of the machine."""
    return Condition("port", str(number))


@declaring("condition unit()")
def unit(name: str) -> Condition:
    """This systemd unit is active."""
    return Condition("unit", name)


@declaring("condition command()")
def command(line: str, *, user: str | None = None) -> Condition:
    """This command exits with status 0."""
    return Condition("command", line, user)


@declaring("condition file()")
def file(path: str) -> Condition:
    """This path exists."""
    return Condition("file", path)


@declaring("condition log()")
def log(text: str) -> Condition:
    """This text has appeared in the machine's log."""
    return Condition("log", text)


def rebooted() -> Condition:
    """The machine has rebooted by itself, since that was last waited for, and is ready again."""
    return Condition("rebooted", "")


@declaring("condition screen()")
def screen(text: str) -> Condition:
    """This text is on the machine's screen, as far as it is recognised.

    Blanks do not count, nor which of several characters it is that look alike, as ``0`` and ``O``.
    It takes tesseract(1) on this host.
    """
    return Condition("screen", text)


@declaring("condition exited()")
def exited(status: int | None = None) -> Condition:
    """The machine's main process has ended: with this status, or with any.

    An end after which it is started again counts once, however often it is waited for.

    :param status: a negative one is the number of the signal that ended it.
    """
    return Condition("exited", "" if status is None else str(status))


@dataclass(frozen=True, slots=True, eq=False, init=False, repr=False)
class Machine(Member):
    """One machine of a layout. On the class it is this declaration, on the live layout a handle.

    :param image: the root file system; targets whose machines share the host's do without.
    :param links: interface name (at most 15 bytes) to link.
    :param roles: what the machine is for.
    :param on: the target that realises it, by its name or with settings (:class:`Vm`,
        :class:`Ssh`); by default what the option or the layout says, then the default one of
        those whose roots are images', or the host's where there is none.
    :param hostname: by default the member's name, with ``-`` for ``_``.
    :param command: the main process; text is given to ``/bin/sh -c``.
    :param restart: when the main process is started again after it has ended: ``"no"``,
        ``"on-failure"`` (with a status other than 0), ``"on-failure:3"`` (three times at most) or
        ``"always"``. It comes after 0.1 s, then after twice the time each, up to a minute; after a
        life of 10 s it begins anew.
    :param init: ``"systemd"``, or None for a small init of the target's own.
    :param env: environment of everything that is run in the machine.
    :param loopback: addresses of its own that are on no network, as routers have them: text such as
        ``"10.255.0.1"``, at most one of each family, which no other machine has.
    :param forward: forward packets between the links.
    :param masquerade: interfaces behind whose address everything that leaves there hides
        (implies ``forward``).
    :param forwards: ports that lead to other machines (implies ``forward``).
    :param routes: destination subnet (or ``"default"``) to next hop, which is an address on the
        network of one of the links, whole or as it ends (``".254"``).
    :param wait_for: conditions that must hold before the machine counts as ready.
    :param ready_timeout_s: how long to wait for them; four times as long where processors are
        emulated.
    :param limits: memory, processors, number of processes.
    :param strict_settings: refuse what sets something of the host's kernel, as ``vm.swappiness``;
        by default that succeeds on a machine with an image, and nothing comes of it.
    :param privileged: give it all rights over the host, as ``podman run --privileged`` does.
    :param capabilities: capabilities of the host's root that it has beside those of its target,
        as in ``["SYS_NICE"]``; ``"ALL"``: all of them.
    :param devices: devices of the host that it may use: ``"/dev/kvm"``, or with another name and
        with rights ``"/dev/sdx:/dev/xvda:r"``.
    :param groups: Ansible groups.
    :param variables: Ansible host variables.
    :param inventory_hostname: what Ansible calls it, where that is not the member's name: the name
        of production's inventory, as in ``"web1.prod.example"``. Other machines know it by that
        name, too.
    :param after: machines (or names of machines) that must be ready before this one is made.
    """

    image: Image | None
    links: NetworkConfig
    roles: tuple[Role, ...]
    on: str | On | None
    hostname: str | None
    command: tuple[str, ...] | None
    restart: str
    init: Literal["systemd"] | None
    env: Mapping[str, str]
    loopback: tuple[Address, ...]
    forward: bool
    masquerade: tuple[str, ...]
    forwards: tuple[Forward, ...]
    routes: Mapping[str, str | Address]
    wait_for: tuple[Condition, ...]
    ready_timeout_s: float
    limits: Limits | None
    strict_settings: bool
    privileged: bool
    capabilities: tuple[str, ...]
    devices: tuple[str, ...]
    groups: tuple[str, ...]
    variables: Mapping[str, Any]
    inventory_hostname: str | None
    after: tuple[str | Machine, ...]
    place: Place = field(init=False)
    mistakes: tuple[Mistake, ...] = field(init=False)
    #: its roles and those of its image, taken to their parts, in the order of their tasks
    parts: tuple[Role, ...] = field(init=False)
    #: :attr:`links` without those that its roles give it
    own_links: NetworkConfig = field(init=False)
    #: the class and the name that it was first declared as
    declared_as: tuple[str, str] | None = field(init=False)

    @declaring("machine", own=1)
    def __init__(
        self,
        image: Image | None = None,
        *,
        links: Mapping[str, NetworkLink] = MappingProxyType({}),
        roles: Iterable[Role] = (),
        on: str | On | None = None,
        hostname: str | None = None,
        command: str | Sequence[str] | None = None,
        restart: str = "no",
        init: Literal["systemd"] | None = None,
        env: Mapping[str, str] = MappingProxyType({}),
        loopback: str | Address | Iterable[str | Address] = (),
        forward: bool = False,
        masquerade: str | Iterable[str] = (),
        forwards: Forward | Iterable[Forward] = (),
        routes: Mapping[str, str | Address] = MappingProxyType({}),
        wait_for: Condition | Iterable[Condition] = (),
        ready_timeout_s: float = 60.0,
        limits: Limits | None = None,
        strict_settings: bool = False,
        privileged: bool = False,
        capabilities: str | Iterable[str] = (),
        devices: str | Iterable[str] = (),
        groups: str | Iterable[str] = (),
        variables: Mapping[str, Any] = MappingProxyType({}),
        inventory_hostname: str | None = None,
        after: str | Machine | Iterable[str | Machine] = (),
    ) -> None:
        reading = _Reading(Place.of_author())
        if isinstance(command, str):
            command = ("/bin/sh", "-c", command) if command.strip() else ()
        values = {
            "image": reading.image(image),
            "links": reading.links(links),
            "roles": reading.roles(roles),
            "on": reading.on(on),
            "hostname": reading.text("hostname", hostname, 'hostname="web"'),
            "command": reading.command(command),
            "restart": reading.restart(restart, image, command, init),
            "init": reading.init(init, command),
            "env": reading.env(env),
            "loopback": reading.loopback(loopback),
            "forward": reading.flag("forward", forward),
            "masquerade": reading.several("masquerade", masquerade, str, 'masquerade="eth0"'),
            "forwards": reading.several(
                "forwards", forwards, Forward, 'forwards=[Forward("wan0", 80, to="web")]'
            ),
            "routes": reading.routes(routes),
            "wait_for": reading.conditions(wait_for),
            "ready_timeout_s": reading.duration("ready_timeout_s", ready_timeout_s),
            "limits": reading.limits(limits),
            "strict_settings": reading.flag("strict_settings", strict_settings),
            "privileged": reading.flag("privileged", privileged),
            "capabilities": reading.capabilities(capabilities),
            "devices": reading.devices(devices),
            "groups": reading.groups(groups),
            "variables": reading.variables(variables),
            "inventory_hostname": reading.inventory_hostname(inventory_hostname),
            "after": reading.several("after", after, str | Machine, "after=[db]"),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        parts = () if reading.mistakes else _parts(self.image, self.roles)
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "own_links", self.links)
        given = {name: link for one in parts for name, link in one.links.items()}
        if given:
            missing = {name: link for name, link in given.items() if name not in self.links}
            object.__setattr__(self, "links", reading.links({**self.links, **missing}))
        object.__setattr__(self, "declared_as", None)
        object.__setattr__(self, "place", reading.place)
        object.__setattr__(self, "mistakes", tuple(reading.mistakes))

    def __set_name__(self, owner: type, name: str) -> None:
        if self.declared_as is None:
            object.__setattr__(self, "declared_as", (owner.__name__, name))

    @property
    def _called(self) -> str:
        return repr(self) if self.declared_as is None else ".".join(self.declared_as)

    @property
    def _alive(self) -> str:
        if self.declared_as is None:
            return ""
        layout, name = self.declared_as
        return f"{layout.lower()}.{name}"

    @property
    def target(self) -> str | None:
        """Name of the target that it chooses; None: it does not."""
        return self.on.target if isinstance(self.on, On) else self.on

    @property
    def privileges(self) -> Privileges:
        """What it may do on the host."""
        return Privileges(
            privileged=self.privileged, capabilities=self.capabilities, devices=self.devices
        )

    def replace(self, **changes: Any) -> Machine:
        """The same declaration with some arguments changed; mistakes of this one stay in it."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        kept["links"] = self.own_links
        replaced = Machine(**{**kept, **changes})
        # what was wrong is not among the values: without its mistakes it would just be left out
        object.__setattr__(
            replaced, "mistakes", tuple(dict.fromkeys([*self.mistakes, *replaced.mistakes]))
        )
        return replaced

    def copied(self) -> Machine:
        """An equal declaration, of the same place, that is another machine."""
        copy = self.replace()
        object.__setattr__(copy, "place", self.place)
        return copy

    @overload
    def __get__(self, instance: None, owner: type) -> Machine: ...

    @overload
    def __get__(self, instance: Holder[H], owner: type) -> H: ...

    def __get__(self, instance: Holder[H] | None, owner: type) -> Machine | H:
        handle_of = getattr(instance, "__carthage_handle__", None)
        if handle_of is None:  # the class itself, or an instance of some other class
            return self
        handle: H = handle_of(_name_in(owner, self))
        return handle

    def __repr__(self) -> str:
        parts = [self.image.name] if self.image else []
        return f"<Machine {' '.join([*parts, *self.links])}>".replace(" >", ">")


def restarted_twice(restart: str, place: Place) -> Mistake:
    """A machine with systemd has a policy for what systemd starts again by itself."""
    return Mistake(
        what=f"restart={restart!r} and init='systemd' exclude each other: systemd starts services"
        " again by itself",
        remedy="Restart= in the unit, or leave restart= out",
        place=place,
    )


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
    """Reads a machine's arguments once: normalises the good, collects the mistakes of the bad."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.mistakes: list[Mistake] = []

    def mistake(self, what: str, remedy: str, place: Place | None = None) -> None:
        self.mistakes.append(Mistake(what=what, remedy=remedy, place=place or self.place))

    def wrong(self, argument: str, value: object, remedy: str) -> None:
        self.mistake(
            f"{argument}={shown(value)} is of a wrong type ({type(value).__name__})", remedy
        )

    def image(self, image: object) -> Image | None:
        if image is None:
            return None
        if isinstance(image, Image):
            self.mistakes.extend(image.mistakes)
            return image
        hint = f"Image.oci({image!r})" if isinstance(image, str) else 'Image.debian("bookworm")'
        self.wrong("image", image, hint)
        return None

    def links(self, links: object) -> NetworkConfig:
        read: dict[str, NetworkLink] = {}
        example = 'links={"eth0": lan.at(".1")}'
        for interface, link in self.mapping("links", links, example).items():
            if not isinstance(link, NetworkLink):
                self.mistake(f"interface {interface!r} is {link!r} instead of a link", example)
                continue
            wrong = next(
                (
                    f"interface name {name!r} {mistake}"
                    for name in (interface, *link.bond)
                    if (mistake := interface_mistake(name)) is not None
                ),
                None,
            )
            if wrong is not None:
                self.mistake(wrong, 'a name such as "eth0"', link.place)
                continue
            for link_mistake in link.mistakes:
                self.mistake(
                    f"{link_mistake.what} (interface {interface!r})",
                    link_mistake.remedy,
                    link_mistake.place,
                )
            read[interface] = link
        return NetworkConfig(read)

    def roles(self, roles: object) -> tuple[Role, ...]:
        if isinstance(roles, Role):
            roles = (roles,)
        given = self.several("roles", roles, object, "roles=[Router()]")
        for role in given:
            if isinstance(role, type) and issubclass(role, Role):
                self.mistake(
                    f"role {role.__name__} is a class instead of a role",
                    f"roles=[{role.__name__}()]",
                )
            elif not isinstance(role, Role):
                self.wrong("roles", role, "roles=[Router()]")
            else:
                self.mistakes += role.mistakes(self.place)
        return tuple(role for role in given if isinstance(role, Role))

    def text(self, argument: str, value: object, remedy: str) -> str | None:
        if value is None:
            return None
        if isinstance(value, str) and value:
            if not value.isprintable() or len(value) > _LONGEST_TEXT:
                self.mistake(f"{argument} {shown(value)} is no text of one line", remedy)
            return value
        if value == "":
            self.mistake(f"{argument} is empty", f"{remedy}, or leave it out")
        else:
            self.wrong(argument, value, remedy)
        return None

    def on(self, on: object) -> str | On | None:
        if isinstance(on, On):
            self.mistakes.extend(on.mistakes)
            return on
        if isinstance(on, type) and issubclass(on, On):
            self.mistake(
                f"on={on.__name__} is a class instead of settings", f"on={on.__name__}(...)"
            )
            return None
        return self.text("on", on, 'on="the name of a target"')

    def flag(self, argument: str, value: object) -> bool:
        if not isinstance(value, bool):
            self.wrong(argument, value, f"{argument}=True")
        return bool(value)

    def command(self, command: object) -> tuple[str, ...] | None:
        if command is None:
            return None
        before = len(self.mistakes)
        example = 'command=["sleep", "infinity"]'
        words = self.several("command", command, str, example)
        if len(self.mistakes) > before:
            return words or None
        if not words:
            self.mistake("command is empty", f"{example}, or leave it out")
        elif (mistake := words_mistake(words)) is not None:
            self.mistake(f"command: {mistake}", example)
        return words or None

    def restart(self, restart: object, image: object, command: object, init: object) -> str:
        if not isinstance(restart, str):
            self.wrong("restart", restart, 'restart="on-failure"')
            return "no"
        if not re.fullmatch(r"no|always|on-failure(:[1-9][0-9]*)?", restart, re.ASCII):
            self.mistake(
                f"restart policy {restart!r} is unknown",
                'one of "no", "on-failure", "on-failure:3" (or another number), "always"',
            )
            return "no"
        if restart != "no" and init == "systemd":
            self.mistakes.append(restarted_twice(restart, self.place))
        elif restart != "no" and command is None and image is None:
            self.mistake(
                f"restart={restart!r} is about the main process, and the machine has none",
                'command=["..."], or leave restart= out',
            )
        return restart

    def init(self, init: object, command: object) -> Literal["systemd"] | None:
        if init is None:
            return None
        if init != "systemd":
            self.mistake(f"init {init!r} is unknown", 'init="systemd", or leave it out')
            return None
        if command is not None:
            self.mistake(
                "command and init='systemd' exclude each other, each is the main process",
                "a systemd unit, or leave one of them out",
            )
        return "systemd"

    def env(self, env: object) -> Mapping[str, str]:
        example = 'env={"LANG": "C.UTF-8"}'
        read = self.mapping("env", env, example)
        for name, value in read.items():
            if not isinstance(value, str):
                self.wrong(f"env[{shown(name)}]", value, f"env={{{name!r}: {shown(value)!r}}}")
        texts = {name: value for name, value in read.items() if isinstance(value, str)}
        if (mistake := variables_mistake(texts)) is not None:
            self.mistake(mistake, example)
        return MappingProxyType(texts)

    def loopback(self, loopback: object) -> tuple[Address, ...]:
        example = 'loopback="10.255.0.1"'
        given = self.several("loopback", loopback, str | IPv4Address | IPv6Address, example)
        read: dict[int, Address] = {}
        for value in given:
            try:
                address = ip_interface(value)
            except ValueError:
                self.wrong("loopback", value, example)
                continue
            if address.network.num_addresses > 1:
                self.mistake(
                    f"loopback={str(value)!r} is a whole network", f'loopback="{address.ip}"'
                )
            elif is_special(address.ip):
                self.mistake(
                    f"loopback={str(value)!r} is an address that no machine can have", example
                )
            elif address.version in read:
                self.mistake(f"loopback has a second address of IPv{address.version}", example)
            else:
                read[address.version] = address.ip
        return tuple(read[version] for version in sorted(read))

    def routes(self, routes: object) -> Mapping[str, str | Address]:
        example = 'routes={"10.1.0.0/16": ".254"}'
        read = self.mapping("routes", routes, example)
        for destination, via in read.items():
            if not isinstance(via, str | IPv4Address | IPv6Address):
                self.wrong(f"routes[{destination!r}]", via, example)
        return read

    def conditions(self, conditions: object) -> tuple[Condition, ...]:
        example = "wait_for=[port(80)]"
        given = self.several("wait_for", conditions, Condition, example)
        for condition in given:
            value = condition.value
            user: object = condition.user
            if user is not None and (not isinstance(user, str) or not is_user(user)):
                self.mistake(f"wait_for: user {shown(user)} is no name of a user", 'user="www"')
            kind: object = condition.kind
            if not isinstance(kind, str) or kind not in _CONDITIONS:
                self.mistake(
                    f"wait_for: there is no condition {shown(kind)}",
                    f"{example}, or one of {', '.join(_CONDITIONS[:5])}",
                )
            elif condition.kind == "rebooted":
                self.mistake(
                    "wait_for: a machine that is new has not rebooted",
                    "machine.wait_for(rebooted()) in a test or a stage",
                )
            elif condition.kind == "exited":
                self.mistake(
                    "wait_for: a machine whose main process ends at once is refused",
                    "machine.wait_for(exited()) in a test or a stage",
                )
            elif condition.kind == "asked":
                self.mistake(
                    f"wait_for: {condition} may wait for machines that are not there yet",
                    "machine.wait_for(...) in a test or a stage",
                )
            elif not isinstance(value, str) or not value:
                self.mistake(f"wait_for: {condition.kind} of what? It is {value!r}", example)
            elif condition.kind == "port" and not (value.isdecimal() and 0 < int(value) < 65536):
                self.mistake(f"wait_for: {value!r} is not a port from 1 to 65535", example)
            elif condition.kind == "file" and not value.startswith("/"):
                self.mistake(f"wait_for: path {value!r} does not start with /", f'file("/{value}")')
            elif condition.kind == "unit" and self._is_no_unit(value):
                self.mistake(f"wait_for: {value!r} is not the name of a unit", 'unit("nginx")')
        return given

    @staticmethod
    def _is_no_unit(name: str) -> bool:
        return not re.fullmatch(r"[A-Za-z0-9:_.\\@-]+", name, re.ASCII) or name.startswith("-")

    def duration(self, argument: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong(argument, value, f"{argument}=60")
            return 60.0
        if not 0 < value < float("inf"):
            self.mistake(f"{argument} {value!r} is not a positive number", f"{argument}=60")
        return float(value)

    def limits(self, limits: object) -> Limits | None:
        if limits is None:
            return None
        if not isinstance(limits, Limits):
            self.wrong("limits", limits, "limits=Limits(memory_mib=256)")
            return None
        for name, (kinds, least, most) in _LIMITS.items():
            value = getattr(limits, name)
            if value is None:
                continue
            remedy = f"limits=Limits({name}={'0.5' if name == 'cpus' else '256'})"
            is_number = isinstance(value, kinds) and not isinstance(value, bool)
            if not is_number or not 0 < value < float("inf"):
                self.mistake(f"limit {name}={shown(value)} is not a positive number", remedy)
            elif not least <= value <= most:
                self.mistake(
                    f"limit {name}={value!r} is not from {least} to {most}, as the kernel takes it",
                    remedy,
                )
        return limits

    def capabilities(self, capabilities: object) -> tuple[str, ...]:
        example = 'capabilities=["SYS_NICE"]'
        given = self.several("capabilities", capabilities, str, example)
        names = tuple(name.upper().removeprefix("CAP_") for name in given)
        for name in names:
            if not re.fullmatch(r"[A-Z][A-Z_]*", name):
                self.mistake(f"capability {name!r} is no name of capabilities(7)", example)
        return names

    def devices(self, devices: object) -> tuple[str, ...]:
        example = 'devices=["/dev/fuse"]'
        given = self.several("devices", devices, str, example)
        for device in given:
            if not re.fullmatch(r"/dev/[^:]+(:/[^:]+)?(:[rwm]+)?", device):
                self.mistake(
                    f"device {device!r} is not a path in /dev, alone or followed by"
                    " :/PATH IN THE MACHINE, by :rwm or by both",
                    example,
                )
        return given

    def variables(self, variables: object) -> Mapping[str, Any]:
        example = 'variables={"tier": "front"}'
        read = self.mapping("variables", variables, example)
        for name, value in read.items():
            if (wrong := variable_mistake(name, value)) is not None:
                self.mistake(f"variable {shown(name)} {wrong}", example)
        return read

    def groups(self, groups: object) -> tuple[str, ...]:
        given = self.several("groups", groups, str, 'groups=["web"]')
        for group in given:
            if (wrong := group_mistake(group)) is not None:
                self.mistake(
                    f"group {group!r} {wrong}",
                    f'groups=["{re.sub("[^A-Za-z0-9_]", "_", group) or "web"}"]',
                )
        return given

    def inventory_hostname(self, name: str | None) -> str | None:
        remedy = 'inventory_hostname="web1.prod.example"'
        text = self.text("inventory_hostname", name, remedy)
        if text is not None and (wrong := inventory_mistake(text)) is not None:
            self.mistake(f"inventory_hostname {shown(text)} {wrong}", remedy)
        return text

    def mapping(self, argument: str, value: object, remedy: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            self.wrong(argument, value, remedy)
            return MappingProxyType({})
        for key in value:
            if not isinstance(key, str):
                self.mistake(f"{argument} has a key of a wrong type: {key!r}", remedy)
        return MappingProxyType({k: v for k, v in value.items() if isinstance(k, str)})

    def several(self, argument: str, value: object, kind: Any, remedy: str) -> tuple[Any, ...]:
        if isinstance(value, str) or (kind is not object and isinstance(value, kind)):
            value = (value,)
        if isinstance(value, Mapping) or not isinstance(value, Iterable):
            self.wrong(argument, value, remedy)
            return ()
        items = tuple(islice(value, _MOST_ITEMS))
        if len(items) == _MOST_ITEMS:
            self.mistake(f"{argument} has {_MOST_ITEMS} values or more, or no end", remedy)
            return ()
        for item in items:
            if not isinstance(item, kind):
                self.wrong(argument, item, remedy)
        return tuple(one for one in items if isinstance(one, kind))
