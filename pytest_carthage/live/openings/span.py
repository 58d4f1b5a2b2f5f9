"""One network of two live layouts' networks, as two hosts would make it: by a VXLAN tunnel."""

from __future__ import annotations

import asyncio
import contextlib
import os
import zlib
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from pytest_carthage import clock
from pytest_carthage.bridge import Opening, on_core
from pytest_carthage.errors import FabricError, HostError, LayoutError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from pytest_carthage.handles.channel import Channel
    from pytest_carthage.live.surroundings import Knows, Reaches, Tells
    from pytest_carthage.planning.plan import Plan, PlannedNetwork
    from pytest_carthage.portal import Portal

__all__ = ["AsyncSpan", "Site", "Span"]

#: what VXLAN adds to a frame over IPv4 (RFC 7348): outer Ethernet, IP, UDP and its own header
_OVERHEAD_BYTES = 50
_USUAL_MTU = 1500
#: ends of the cable, alone with each other in namespaces of their own (RFC 3927)
_ENDS = ("169.254.0.1", "169.254.0.2")

#: fabric to network to the fabrics that this network is joined with
_joined: WeakKeyDictionary[Channel, dict[str, WeakSet[Channel]]] = WeakKeyDictionary()


class Site:
    """A live layout whose networks may span it and another one, on whichever loop it lives."""

    def __init__(self, *, tells: Tells, knows: Knows[Any], reaches: Reaches) -> None:
        self.tells = tells
        self.knows = knows
        self.reaches = reaches
        self.portal = reaches.portal

    @property
    def plan(self) -> Plan:
        """What is planned by now."""
        return self.knows.plan

    @property
    def fabric(self) -> Channel:
        """The connection to its fabric."""
        return self.reaches.fabric

    def span(self, other: Site, network: str) -> Opening[AsyncSpan, Span]:
        """Make one network of this live layout's and the other's of the same name."""
        return Opening(AsyncSpan(self, other, network)._open, Span.of)

    @on_core
    async def ask(self, op: str, /, *fds: int, **fields: object) -> list[int]:
        """Ask the fabric; returns the descriptors that came back."""
        return (await self.fabric.request(op, fds=fds, **fields))[1]


class AsyncSpan:
    """A network that spans two live layouts; every operation may be awaited from any loop."""

    def __init__(self, site: Site, other: Site, network: str) -> None:
        #: name of the network, the same in both layouts
        self.network = network
        #: VXLAN network identifier: the network's own, or one that comes from its name
        self.vni = 0
        self.portal: Portal = site.portal
        self._sides = (site, other)
        self._name = f"{site.tells.name}+{other.tells.name}:{network}"
        self._begin = 0.0
        self._open_now = False

    def __repr__(self) -> str:
        return f"<span of {self.network} between {' and '.join(self._environments)}>"

    @property
    def is_open(self) -> bool:
        """Whether it has not been closed."""
        return self._open_now

    @property
    def _environments(self) -> tuple[str, str]:
        first, second = self._sides
        return first.tells.name, second.tells.name

    @on_core
    async def _open(self) -> AsyncSpan:
        first, second = self._sides
        planned = _check(self.network, first, second)
        await _check_host(self.network)
        self._begin = clock.monotonic_s()
        self.vni = planned.vni or zlib.crc32(self.network.encode()) % (2**24 - 1) + 1
        mtu = planned.mtu or _USUAL_MTU
        _join(self.network, first.fabric, second.fabric)
        self._tell("start", f"VXLAN {self.vni}")
        try:
            (near,) = await first.ask("underlay", name=self._name)
            try:
                (far,) = await second.ask("underlay", name=self._name)
                try:
                    await first.ask("cable", far, name=self._name, mtu=mtu + _OVERHEAD_BYTES)
                finally:
                    os.close(far)
            finally:
                os.close(near)
            for number, side in enumerate(self._sides):
                await side.ask(
                    "tunnel",
                    name=self._name,
                    local=f"{_ENDS[number]}/30",
                    remote=_ENDS[1 - number],
                    vni=self.vni,
                    bridge=side.plan.networks[self.network].bridge,
                    mtu=mtu,
                )
        except BaseException:
            await asyncio.shield(self._remove())
            self._tell("failed")
            raise
        self._open_now = True
        return self

    @on_core
    async def aclose(self) -> None:
        """Part the two again; whichever environment is gone meanwhile is no error."""
        if not self._open_now:
            return
        self._open_now = False
        await self._remove()
        self._tell("done")

    async def _remove(self) -> None:
        first, second = self._sides
        for side in self._sides:
            with contextlib.suppress(FabricError):  # gone, and all that it had with it
                await side.ask("untunnel", name=self._name)
        _part(self.network, first.fabric, second.fabric)

    def _tell(self, kind: Any, text: str = "") -> None:
        for side, other in zip(self._sides, reversed(self._environments), strict=True):
            side.tells.tell(
                f"span {self.network}",
                kind,
                f"to {other}{': ' if text else ''}{text}",
                None if kind == "start" else self._begin,
            )


class Span:
    """A network that spans two live layouts, until it is closed; also a context manager."""

    def __init__(self, aio: AsyncSpan) -> None:
        #: the same, to be awaited
        self.aio = aio

    @classmethod
    def of(cls, opening: Opening[AsyncSpan, Span], portal: Portal) -> Span:
        """Open it now."""

        async def begin() -> AsyncSpan:
            return await opening

        return cls(portal.call(begin))

    @property
    def network(self) -> str:
        """Name of the network, the same in both layouts."""
        return self.aio.network

    @property
    def vni(self) -> int:
        """VXLAN network identifier: the network's own, or one that comes from its name."""
        return self.aio.vni

    @property
    def is_open(self) -> bool:
        """Whether it has not been closed."""
        return self.aio.is_open

    def close(self) -> None:
        """Part the two again; whichever layout is gone meanwhile is no error."""
        self.aio.portal.call(self.aio.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self.aio)


def _check(network: str, first: Site, second: Site) -> PlannedNetwork:
    """Refuse what cannot be one network.

    :raises LookupError: one of them has no such network; LayoutError: they do not fit.
    """
    if first is second or first.fabric is second.fabric:
        raise LayoutError(
            f"span of network {network!r}: layout {first.plan.layout!r} cannot be joined with "
            "itself; try: a second live layout, from a fixture of its own"
        )
    for side in (first, second):
        if network not in side.plan.networks:
            raise LookupError(
                f"span of network {network!r}: layout {side.plan.layout!r} has no such network; "
                f"it has {', '.join(side.plan.networks) or 'none'}"
            )
    near, far = first.plan.networks[network], second.plan.networks[network]
    for side, planned in ((first, near), (second, far)):
        if planned.external is not None:
            raise LayoutError(
                f"span of network {network!r}: in layout {side.plan.layout!r} it is external "
                f"({planned.external}), and nothing of the layout is on it; try: a bridged network"
            )
        if planned.kind != "bridged":
            raise LayoutError(
                f"span of network {network!r}: in layout {side.plan.layout!r} it is of kind "
                f"{planned.kind}, whose ends are all in machines; try: a bridged network"
            )
    for what, left, right in _differences(near, far):
        raise LayoutError(
            f"span of network {network!r}: {what} {left} in layout {first.plan.layout!r} and "
            f"{right} in layout {second.plan.layout!r}; try: the same in both"
        )
    _check_apart(network, first.plan, second.plan)
    if _is_joined(network, first.fabric, second.fabric):
        raise LayoutError(
            f"span of network {network!r}: {first.tells.name} and {second.tells.name} are joined "
            "there already; a second way would be a loop, in which frames never end"
        )
    return near if near.vni is not None else far


def _differences(near: PlannedNetwork, far: PlannedNetwork) -> Iterator[tuple[str, Any, Any]]:
    for name, family in (("v4", "IPv4"), ("v6", "IPv6")):
        here, there = (
            subnet.network if subnet is not None else "none"
            for subnet in (getattr(near, name), getattr(far, name))
        )
        if here != there:
            yield f"its {family} addresses are", here, there
    if (near.mtu or _USUAL_MTU) != (far.mtu or _USUAL_MTU):
        yield "its MTU is", near.mtu or _USUAL_MTU, far.mtu or _USUAL_MTU
    if near.vni is not None and far.vni is not None and near.vni != far.vni:
        yield "its VNI is", near.vni, far.vni


def _check_apart(network: str, near: Plan, far: Plan) -> None:
    """Refuse an address, of IP or of hardware, that is on both sides."""
    there = dict(_addresses(network, far))
    for address, who in _addresses(network, near):
        if address in there:
            raise LayoutError(
                f"span of network {network!r}: {address} is both {who} of layout "
                f"{near.layout!r} and {there[address]} of layout {far.layout!r}; "
                "try: another address on one side"
            )


def _addresses(network: str, plan: Plan) -> Iterator[tuple[str, str]]:
    for machine in plan.machines.values():
        for link in machine.links:
            if link.network == network:
                subject = f"{link.interface} of machine {machine.name!r}"
                for address in link.addresses:
                    yield str(address.ip), subject
    for machine in plan.machines.values():
        for link in machine.links:
            if link.network == network and link.kind not in ("gre", "trunk"):
                yield link.mac, f"{link.interface} of machine {machine.name!r}"


async def _check_host(network: str) -> None:
    """Refuse a span that this host cannot make.

    :raises HostError: with what is lacking.
    """
    from pytest_carthage.fabric.host import capability, privilege

    if not privilege.is_privileged():
        problem = Problem(
            who="span",
            what=f"network {network!r} cannot span two layouts without privileges: "
            "each is in a user namespace of its own",
            remedy="run as root, or declare both sites in one layout",
        )
        raise HostError([problem])
    needs = {"vxlan": f"the span of network {network!r}"}
    problems = await asyncio.to_thread(capability.problems, "span", needs)
    if problems:
        raise HostError(problems)


def _is_joined(network: str, fabric: Channel, other: Channel) -> bool:
    """Whether frames get from one fabric's network to the other's already."""
    channels: set[Channel] = set()
    waiting = [fabric]
    while waiting:
        here = waiting.pop()
        if here is other:
            return True
        if here in channels or getattr(here, "closed", False):
            continue
        channels.add(here)
        waiting += _joined.get(here, {}).get(network, ())
    return False


def _join(network: str, fabric: Channel, other: Channel) -> None:
    for one, two in ((fabric, other), (other, fabric)):
        _joined.setdefault(one, {}).setdefault(network, WeakSet()).add(two)


def _part(network: str, fabric: Channel, other: Channel) -> None:
    for one, two in ((fabric, other), (other, fabric)):
        _joined.get(one, {}).get(network, WeakSet()).discard(two)
