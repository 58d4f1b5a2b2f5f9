"""Sending from every machine, by every way in which a packet could leave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import (
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import TYPE_CHECKING

from pytest_carthage.errors import FabricError
from pytest_carthage.live.packets import probes
from pytest_carthage.live.packets.sealing.report import Neighbour
from pytest_carthage.live.packets.sealing.survey import AnyAddress, Survey, address_in
from pytest_carthage.live.packets.taps import Interface, open_socket

if TYPE_CHECKING:
    pass


#: how long what was sent may take to get anywhere: it may wait for an ARP answer
_SETTLE_S = 0.25
#: more than so many machines times addresses of other layouts, and each such address is probed
#: from one machine instead of from all
_MOST_PAIRS = 2000
_AT_A_TIME = 100
_DNS_PORT = 53
#: linux/in6.h
_IPV6_CHECKSUM = 7


class Sending(Survey):
    """Packets of every kind that a machine can send."""

    async def _send_all(
        self,
        neighbours: Sequence[Neighbour],
        interfaces: Mapping[str, Sequence[Interface]],
    ) -> None:
        far = {a for one in neighbours for text in one.addresses if (a := address_in(text))}
        near = [address for address in self._destinations if address not in far]
        names = list(interfaces)
        for number, name in enumerate(names):
            others = sorted(far, key=str)
            if len(names) * len(others) > _MOST_PAIRS:
                others = others[number :: len(names)]
            async with self._doors(name) as doors:
                await self._send(name, doors, interfaces[name], [*near, *others])

    @contextlib.asynccontextmanager
    async def _doors(self, machine: str) -> AsyncIterator[Mapping[str, socket.socket]]:
        """Sockets of a machine, by protocol and version."""
        fabric = self._fabric
        wanted = {
            "frame": (socket.AF_PACKET, socket.SOCK_RAW, 0),
            "icmp4": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
            "icmp6": (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
            "udp4": (socket.AF_INET, socket.SOCK_DGRAM, 0),
            "udp6": (socket.AF_INET6, socket.SOCK_DGRAM, 0),
            "tcp4": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP),
            "tcp6": (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_TCP),
        }
        with contextlib.ExitStack() as stack:
            doors = {}
            for name, kind in wanted.items():
                with contextlib.suppress(FabricError):  # a kernel without IPv6
                    doors[name] = stack.enter_context(await open_socket(fabric, machine, *kind))
            yield doors

    async def _send(
        self,
        machine: str,
        doors: Mapping[str, socket.socket],
        interfaces: Sequence[Interface],
        destinations: Sequence[AnyAddress],
    ) -> None:
        """Send everything that a machine can to some addresses."""
        links = {link.interface: link for link in self._plan.machines[machine].links}
        count = 0
        for address in destinations:
            for protocol, door, packet, to in self._routed(machine, doors, address):
                count += self._carry(machine, protocol, door, packet, to, address)
            for one in interfaces:
                if one.is_up and "frame" in doors:
                    link = links.get(one.name)
                    own = [known.ip for known in link.addresses] if link is not None else []
                    port = self._listening.get(address, (self._port,))[0]
                    framed = probes.framed(one.mac, own, address, port)
                    for protocol, make in framed:
                        self._frame_probes[len(self.sent)] = machine, one.name
                        where = (one.name, 0)
                        count += self._carry(
                            machine, protocol, doors["frame"], make, where, address
                        )
            if count > _AT_A_TIME:
                count = 0
                await asyncio.sleep(0)  # let the watches take in what came
        for address in self._resolvers:
            if asking := doors.get(f"udp{address.version}"):
                to = (str(address), _DNS_PORT)
                self._carry(machine, "DNS", asking, probes.dns, to, address)
        if self._listening:
            await self._call(machine)

    def _routed(
        self, machine: str, doors: Mapping[str, socket.socket], address: AnyAddress
    ) -> Iterator[tuple[str, socket.socket, Callable[[bytes], bytes], tuple[str, int]]]:
        version = address.version
        if address.is_link_local:  # means something else on each link: frames alone
            return
        udp_port, tcp_port = self._listening.get(address, (self._port, self._port))
        to = str(address)
        if door := doors.get(f"icmp{version}"):
            yield f"ICMP over IPv{version}", door, lambda t: probes.echo(t, version), (to, 0)
        if door := doors.get(f"udp{version}"):
            source = probes.source_of(door, to)
            yield f"UDP over IPv{version}", door, lambda t: t, (to, udp_port)
            raw = doors.get(f"tcp{version}")
            if source is not None and raw is not None:
                if version == 6:
                    raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_CHECKSUM, 16)
                yield (
                    f"TCP over IPv{version}",
                    raw,
                    lambda t: probes.syn(t, source, address, tcp_port),
                    (to, 0),
                )

    def _carry(
        self,
        machine: str,
        protocol: str,
        door: socket.socket,
        make: Callable[[bytes], bytes],
        to: tuple[str, int],
        address: AnyAddress,
    ) -> int:
        """Send one packet; returns whether that was possible."""
        packet = make(self._next(machine, protocol, address))
        try:
            try:
                door.sendto(packet, to)
            except ConnectionRefusedError:  # what an earlier packet met is told now
                door.sendto(packet, to)
        except OSError:  # no route, link down: that is a seal, too
            return 0
        self._counts[protocol] += 1
        return 1

    async def _call(self, machine: str) -> None:
        """Connect as a program would, where a connection can be noticed."""

        async def try_one(address: AnyAddress, port: int) -> None:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            sock = await open_socket(self._fabric, machine, family, socket.SOCK_STREAM)
            with sock, contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_SETTLE_S):
                    await asyncio.get_running_loop().sock_connect(sock, (str(address), port))

        tcp = {address: ports[1] for address, ports in self._listening.items()}
        await asyncio.gather(*(try_one(address, port) for address, port in tcp.items()))
        self._counts["TCP connections"] += len(tcp)
