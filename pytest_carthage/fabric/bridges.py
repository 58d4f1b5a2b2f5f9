"""The networks of a fabric: a bridge each, and what stands on it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.fabric import netlink
from pytest_carthage.fabric.pairs import Pairs
from pytest_carthage.fabric.wire.steps import Steps, pause

if TYPE_CHECKING:
    from pytest_carthage.fabric.spec import LinkSpec, NetworkSpec

_UP_S = 15.0


def until_up(ports: Iterable[str], limit_s: float = _UP_S) -> Steps[None]:
    """Wait until packets pass these ports, whose other ends have been set up."""
    deadline = clock.monotonic_s() + limit_s
    waiting = netlink.not_yet_up(ports)
    while waiting and clock.monotonic_s() < deadline:
        yield from pause(0.01)
        waiting = netlink.not_yet_up(waiting)


def _make(networks: Iterable[NetworkSpec], *, snoops: bool) -> None:
    batch = netlink.Batch()
    for network in networks:
        is_wire = network["kind"] == "point-to-point"
        batch.bridge(network["bridge"], mtu=network["mtu"], is_wire=is_wire, snoops=snoops)
    batch.commit()


class Bridges:
    """The networks of a fabric, by the names of their bridges."""

    def __init__(self, watch: Callable[[int, Callable[[], None]], None]) -> None:
        #: name to index
        self._indices: dict[str, int] = {}
        #: MTU of each that has one of its own
        self._mtus: dict[str, int | None] = {}
        #: those of point-to-point networks
        self._wires: set[str] = set()
        #: name to the interface that the macvlans of the network are made of
        self._parents: dict[str, int] = {}
        #: takes ports in and out of service
        self.pairs = Pairs(watch)

    @property
    def names(self) -> list[str]:
        """All there are."""
        return list(self._indices)

    def add(self, networks: list[NetworkSpec]) -> None:
        """Make bridges.

        :raises OSError: the kernel refused; none was made.
        """
        try:
            _make(networks, snoops=False)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            _make(networks, snoops=True)  # by name: this kernel's bridges never do
        for network in networks:
            name = network["bridge"]
            self._indices[name] = netlink.index_of(name)
            self._mtus[name] = network["mtu"]
            if network["kind"] == "point-to-point":
                self._wires.add(name)

    def index(self, bridge: str) -> int:
        """The index of a bridge.

        :raises LookupError: there is none of this name.
        """
        try:
            return self._indices[bridge]
        except KeyError:
            names = ", ".join(self._indices) or "none"
            raise LookupError(f"no network on bridge {bridge!r}; there are: {names}") from None

    def is_wire(self, bridge: str) -> bool:
        """Whether it is that of a point-to-point network."""
        return bridge in self._wires

    def parent_index(self, bridge: str) -> int:
        """The one interface of a network that is the parent of all its macvlans."""
        return self._parents[bridge]

    def make_parent(self, link: LinkSpec) -> Steps[None]:
        """Have :meth:`parent_index` for the network of a macvlan."""
        bridge = link["bridge"]
        if bridge in self._parents:
            return
        index = self.index(bridge)
        # names of links and bridges have no dot
        port, parent = f"port.{index}", f"macvlan.{index}"
        batch = netlink.Batch()
        batch.veth(
            port,
            bridge_index=index,
            peer=parent,
            peer_namespace_fd=-1,
            mac=None,
            mtu=self._mtus[bridge] or link["mtu"],
        )
        batch.commit()
        batch = netlink.Batch()
        batch.up(parent)
        batch.commit()
        self._parents[bridge] = netlink.index_of(parent)
        yield from until_up([port])
