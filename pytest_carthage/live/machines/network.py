"""What the kernel of a live machine says of its network, as values."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any, Protocol

from pytest_carthage.bridge import Blocks, TwoFaced, operation
from pytest_carthage.errors import FabricError
from pytest_carthage.handles.network import (
    Counters,
    InterfaceAddress,
    InterfaceState,
    Neighbour,
    NextHop,
    Route,
)
from pytest_carthage.live.machines.iproute import async_iproute, library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_carthage.model.network import Address
    from pytest_carthage.portal import Portal

__all__ = ["AsyncNetworkView", "NetworkView"]

_MAIN = 254
#: rtnetlink(7), rt_scope_t
_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
#: rtnetlink(7), and FRR's own numbers
_PROTOCOLS = {
    0: "unspecified",
    1: "redirect",
    2: "kernel",
    3: "boot",
    4: "static",
    9: "ra",
    11: "zebra",
    12: "bird",
    16: "dhcp",
    18: "keepalived",
    42: "babel",
    186: "bgp",
    187: "isis",
    188: "ospf",
    189: "rip",
    190: "ripng",
    192: "eigrp",
    196: "static",
}
_KINDS = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
}
#: rtnetlink(7), NUD_*; who needs no answers is left out, as ip-neighbour(8) does
_STATES = {
    0: "none",
    1: "incomplete",
    2: "reachable",
    4: "stale",
    8: "delay",
    16: "probe",
    32: "failed",
    128: "permanent",
}
_NEEDS_NO_ANSWER = 64
_IS_ROUTER = 0x80
_UP, _LOWER_UP = 1, 1 << 16
_TENTATIVE = 0x40
#: a table that changes while it is told is told anew, as often as this
_TRIES = 20


class Kernel(Protocol):
    """The machine that is looked at."""

    portal: Portal

    @property
    def who(self) -> str:
        """It, for messages."""
        ...

    async def netlink(self) -> int:
        """A netlink socket of its network: a descriptor."""
        ...


class NetworkViews:
    """Questions to the kernel of a live machine, by netlink: nothing is run in the machine."""

    def __init__(self, machine: Kernel) -> None:
        self._machine = machine
        self.portal: Portal = machine.portal

    @operation
    async def interfaces(self) -> tuple[InterfaceState, ...]:
        """Its interfaces, in the order of their numbers.

        :raises UnsupportedError: its target gives no sockets.
        """
        messages = await self._dump("link")
        names = {message["index"]: message.get("ifname") for message in messages}
        return tuple(
            InterfaceState(
                name=message.get("ifname"),
                index=message["index"],
                mac=message.get("address") or None,
                mtu=message.get("mtu"),
                is_up=bool(message["flags"] & _UP),
                has_carrier=bool(message["flags"] & _LOWER_UP),
                kind=message.get(("linkinfo", "kind")) or "",
                master=names.get(message.get("master")),
            )
            for message in messages
        )

    @operation
    async def addresses(self, interface: str | None = None) -> tuple[InterfaceAddress, ...]:
        """The addresses that it has now, whoever gave them.

        :param interface: of this one alone.
        """
        names = await self._names()
        addresses = []
        for message in await self._dump("addr"):
            own = message.get("local") or message.get("address")
            far = message.get("address")
            flags = message.get("flags") or 0
            addresses.append(
                InterfaceAddress(
                    interface=names.get(message["index"], str(message["index"])),
                    address=ip_interface(f"{own}/{message['prefixlen']}"),
                    scope=_SCOPES.get(message["scope"], str(message["scope"])),
                    peer=ip_address(far) if far not in (None, own) else None,
                    is_tentative=bool(flags & _TENTATIVE),
                )
            )
        return tuple(one for one in addresses if interface in (None, one.interface))

    @operation
    async def routes(self, table: int | None = _MAIN) -> tuple[Route, ...]:
        """Its routes, IPv4 first.

        :param table: number of the table; None: those of all.
        """
        names = await self._names()
        messages = await self._dump("route", family=socket.AF_INET)
        messages += await self._dump("route", family=socket.AF_INET6)
        routes = (_route(message, names) for message in messages)
        return tuple(route for route in routes if table in (None, route.table))

    @operation
    async def route_to(self, address: str | Address) -> Route | None:
        """The route that a packet of its own to this address takes; None: there is no way.

        Its destination is the address itself, as in ``ip route get``.
        """
        names = await self._names()
        try:
            messages = await self._ask("route", "get", dst=str(address))
        except OSError as error:
            nowhere = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL)
            if error.errno not in nowhere:
                raise
            return None
        return _route(messages[0], names) if messages else None

    @operation
    async def neighbours(self) -> tuple[Neighbour, ...]:
        """Whom it knows on its links, by ARP and neighbour discovery."""
        names = await self._names()
        messages = await self._dump("neigh", family=socket.AF_INET)
        messages += await self._dump("neigh", family=socket.AF_INET6)
        return tuple(
            Neighbour(
                address=ip_address(message.get("dst")),
                interface=names.get(message["ifindex"], str(message["ifindex"])),
                mac=message.get("lladdr") or None,
                state=_STATES.get(message["state"], str(message["state"])),
                is_router=bool(message["flags"] & _IS_ROUTER),
            )
            for message in messages
            if message.get("dst") and not message["state"] & _NEEDS_NO_ANSWER
        )

    @operation
    async def counters(self, interface: str) -> Counters:
        """What has passed an interface.

        :raises LookupError: it has no such interface.
        """
        messages = await self._dump("link")
        for message in messages:
            if message.get("ifname") == interface:
                counts = message.get("stats64") or message.get("stats")
                return Counters(
                    interface=interface,
                    received_bytes=counts["rx_bytes"],
                    received_packets=counts["rx_packets"],
                    received_errors=counts["rx_errors"],
                    received_dropped=counts["rx_dropped"],
                    sent_bytes=counts["tx_bytes"],
                    sent_packets=counts["tx_packets"],
                    sent_errors=counts["tx_errors"],
                    sent_dropped=counts["tx_dropped"],
                )
        having = ", ".join(str(message.get("ifname")) for message in messages)
        raise LookupError(f"{self._machine.who}: no interface {interface!r}; it has {having}")

    async def _names(self) -> dict[int, str]:
        return {one["index"]: one.get("ifname") for one in await self._dump("link")}

    async def _dump(self, what: str, **wanted: Any) -> list[Any]:
        return await self._ask(what, "dump", **wanted)

    async def _ask(self, what: str, command: str, **wanted: Any) -> list[Any]:
        """What the kernel answers.

        :raises OSError: it refused.
        """
        exceptions = library(self._machine.who).netlink.exceptions
        for attempt in range(_TRIES):
            ipr = async_iproute(self._machine.who, await self._machine.netlink())
            try:
                answer = await getattr(ipr, what)(command, **wanted)
                if hasattr(answer, "__aiter__"):
                    return [message async for message in answer]
                return list(answer)
            except exceptions.NetlinkDumpInterrupted as error:
                if attempt == _TRIES - 1:
                    raise FabricError(
                        f"{self._machine.who}: its table of {what}s changed {_TRIES} times while "
                        "it was told; try: again, when its routers have come to rest"
                    ) from error
            except exceptions.NetlinkError as error:
                raise OSError(error.code, f"{self._machine.who}: {what} {command}: {error}") from (
                    error
                )
            finally:
                ipr.close()
        raise AssertionError("the last attempt returns or raises")

    def __repr__(self) -> str:
        return f"<network of {self._machine.who}>"


def _route(message: Any, names: dict[int, str]) -> Route:
    zero = "0.0.0.0" if message["family"] == socket.AF_INET else "::"
    source = message.get("prefsrc")
    return Route(
        destination=ip_network(f"{message.get('dst') or zero}/{message['dst_len']}"),
        hops=tuple(_hops(message, names)),
        protocol=_PROTOCOLS.get(message["proto"], str(message["proto"])),
        metric=message.get("priority") or 0,
        kind=_KINDS.get(message["type"], str(message["type"])),
        table=message.get("table") or 0,
        source=ip_address(source) if source else None,
    )


def _hops(message: Any, names: dict[int, str]) -> Iterator[NextHop]:
    several = message.get("multipath")
    for hop in several or (message,):
        index = hop.get("oif")
        gateway, other = hop.get("gateway"), hop.get("via")
        if not gateway and other:  # RFC 8950: IPv4 by a next hop of IPv6
            gateway = other["addr"]
        if gateway is None and index is None:
            continue
        yield NextHop(
            via=ip_address(gateway) if gateway else None,
            interface=names.get(index, str(index)) if index is not None else None,
            weight=hop.get("hops", 0) + 1 if several else 1,
        )


class AsyncNetworkView(NetworkViews, TwoFaced["NetworkView"]):
    """A live machine's network; every coroutine may be awaited from any event loop."""

    @property
    def sync(self) -> NetworkView:
        """The same for callers that wait."""
        return NetworkView(self)


class NetworkView(Blocks, NetworkViews):
    """A live machine's network, for callers that wait; :attr:`aio` is the same as awaitables."""

    aio: AsyncNetworkView

    def __init__(self, aio: AsyncNetworkView) -> None:
        self.aio = aio
