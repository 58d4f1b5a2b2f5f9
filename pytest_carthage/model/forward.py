"""Ports of routers that lead to other machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Literal, Protocol, runtime_checkable

from pytest_carthage.model.mistakes.declaring import declared
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.mistakes.value import shown
from pytest_carthage.model.network import Address

__all__ = ["Destination", "Forward"]


@runtime_checkable
class Destination(Protocol):
    """A machine, as it is declared."""

    @property
    def hostname(self) -> str | None:
        """What it calls itself, where that is not its name."""
        ...

    @property
    def links(self) -> Mapping[str, Any]:
        """Interface name to link."""
        ...


@declared("forward")
@dataclass(frozen=True, slots=True)
class Forward:
    """A port of a router that leads to another machine: ``Forward("wan0", 80, to="web")``."""

    #: where it is asked for
    interface: str
    port: int
    #: a machine, by its name or as it is declared, or an address
    to: str | Address | Destination = field(kw_only=True)
    #: port there; None: the same
    to_port: int | None = field(default=None, kw_only=True)
    protocol: Literal["tcp", "udp"] = field(default="tcp", kw_only=True)
    place: Place = field(default_factory=Place.of_author, kw_only=True, compare=False, repr=False)

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """What is wrong with it, whatever the machine is."""
        mistakes: list[tuple[str, str]] = []
        to: object = self.to
        interface: object = self.interface
        if not isinstance(interface, str) or not interface:
            mistakes.append(
                (
                    f"forward: {shown(interface)} is no name of an interface",
                    'Forward("eth0", 80, to="web")',
                )
            )
        for name in ("port", "to_port"):
            value = getattr(self, name)
            if value is None and name == "to_port":
                continue
            if type(value) is not int or not 0 < value < 65536:
                mistakes.append((f"forward: {name} {value!r} is not from 1 to 65535", f"{name}=80"))
        if self.protocol not in ("tcp", "udp"):
            mistakes.append((f"forward: protocol {self.protocol!r} is unknown", 'protocol="tcp"'))
        if not isinstance(to, str | IPv4Address | IPv6Address | Destination):
            mistakes.append((f"forward: to={self.to!r} is of a wrong type", 'to="web"'))
        return tuple(
            Mistake(what=what, remedy=remedy, place=self.place) for what, remedy in mistakes
        )
