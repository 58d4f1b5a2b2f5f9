"""The plan: everything about a layout that can be known before anything exists.

All values are frozen, made once by :func:`pytest_carthage.planning.make_plan`, and hold
no reference to the classes that the author wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from types import MappingProxyType
from typing import Any

from pytest_carthage.model.image import Image
from pytest_carthage.model.machine import Condition, Limits
from pytest_carthage.model.role import Role

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
AnyNetwork = IPv4Network | IPv6Network


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedNetwork:
    """One network: a bridge in the fabric."""

    name: str
    subnet: AnyNetwork
    #: name of the bridge in the fabric, at most 15 bytes
    bridge: str
    mtu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRoute:
    """One static route of a machine."""

    destination: AnyNetwork
    via: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLink:
    """One interface of a machine, and where it ends."""

    #: name in the machine, at most 15 bytes
    interface: str
    network: str
    bridge: str
    #: name of the fabric's end of the veth, unique in the fabric, at most 15 bytes
    port: str
    address: Interface | None
    #: next hop of the default route through this link
    gateway: Address | None
    mac: str
    mtu: int | None = None
    masquerade: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMachine:
    """One machine, its addresses decided."""

    name: str
    hostname: str
    #: kind of the provider: netns, podman, ...
    target: str
    image: Image | None
    links: tuple[PlannedLink, ...]
    routes: tuple[PlannedRoute, ...] = ()
    roles: tuple[Role, ...] = ()
    #: the machine's main process; None: it only waits to be told what to do
    command: tuple[str, ...] | None = None
    #: "systemd", or None for the target's own small init
    init: str | None = None
    env: Mapping[str, str] = field(default_factory=_empty)
    forward: bool = False
    wait_for: tuple[Condition, ...] = ()
    ready_timeout_s: float = 60.0
    limits: Limits | None = None
    #: Ansible groups and host variables
    groups: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=_empty)
    #: names of machines that must be ready before this one is created
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole layout, planned."""

    #: name of the layout class
    layout: str
    networks: Mapping[str, PlannedNetwork]
    machines: Mapping[str, PlannedMachine]
    #: distinct images that must exist before their machines are created, by content key
    images: Mapping[str, Image] = field(default_factory=dict)
    #: target of the machines that do not choose; None: podman with an image, netns without
    target: str | None = None
    #: kinds of the providers that there are; None: not known
    known_targets: tuple[str, ...] | None = None

    @property
    def hosts(self) -> Mapping[str, tuple[str, ...]]:
        """Address to the host names that stand for it in every machine's ``/etc/hosts``."""
        table: dict[str, tuple[str, ...]] = {}
        for machine in self.machines.values():
            for link in machine.links:
                if link.address is not None:
                    names = dict.fromkeys((machine.hostname, machine.name))
                    table[str(link.address.ip)] = tuple(names)
        return table

    @property
    def hosts_file(self) -> str:
        """Text of every machine's ``/etc/hosts``."""
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
        lines += [f"{address} {' '.join(names)}" for address, names in self.hosts.items()]
        return "\n".join(lines) + "\n"
