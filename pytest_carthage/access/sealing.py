"""The proof by observation that a layout is sealed.

Every machine sends packets that carry a token, by every way in which one could leave; meanwhile
packet sockets watch the host's own network namespace, all other live layouts and this one. A token
outside is a leak; so is, inside, a frame that nobody of the layout has sent.

Nothing is sent from the host's namespace but to its own loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pytest_carthage.access import probes
from pytest_carthage.access.packets import Owners, dissect
from pytest_carthage.access.taps import Interface, Seen, Tap, interfaces_of, open_socket
from pytest_carthage.errors import FabricError, TimeLimitError
from pytest_carthage.fabric import channel, netlink

if TYPE_CHECKING:
    from pytest_carthage.access.surroundings import Surroundings
    from pytest_carthage.planning.plan import PlannedLink
    from pytest_carthage.provider import Channel

__all__ = ["Neighbour", "SealReport", "assert_sealed"]

AnyAddress: TypeAlias = IPv4Address | IPv6Address

#: how long what was sent may take to get anywhere: it may wait for an ARP answer
_SETTLE_S = 0.25
#: how long another layout's fabric may take to open its doors
_NEIGHBOUR_S = 3.0
#: more than so many machines times addresses of other layouts, and each such address is probed
#: from one machine instead of from all
_MOST_PAIRS = 2000
_MOST_TOLD = 10
_AT_A_TIME = 100
_HOST = "this host"
_RESOLV_CONF = Path("/etc/resolv.conf")
_TOKEN = struct.Struct("!8sI")
_CANARY = 0xFFFFFFFF
_NONE = bytes(6)
_DNS_PORT = 53
#: linux/in6.h
_IPV6_CHECKSUM = 7
#: what the fabric makes for itself; names of links and bridges have no dot
_OWN = re.compile(r"lo|[a-z]+\.[0-9]+")
_SPAN = "span."


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Another live layout."""

    #: name of its environment
    name: str
    #: socket of its fabric
    socket: Path
    addresses: Sequence[str]
    macs: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealReport:
    """What was done to find a hole, without finding one."""

    layout: str
    #: protocol to the number of packets that were sent
    probes: Mapping[str, int]
    #: address to what it is, as in ``"this host"``, ``"resolver"``
    destinations: Mapping[str, str]
    #: what was watched to how
    watched: Mapping[str, str]
    #: frames that were looked at
    frames: int
    #: links that sent nothing, as they are down
    silent: tuple[str, ...]
    duration_s: float

    def __str__(self) -> str:
        sent = ", ".join(f"{count} {protocol}" for protocol, count in self.probes.items())
        watched = "".join(f"\n  {what}: {how}" for what, how in self.watched.items())
        silent = f"\n  sent nothing: {', '.join(self.silent)}" if self.silent else ""
        return (
            f"layout {self.layout!r} is sealed: {sent or 'nothing'} sent to "
            f"{len(self.destinations)} addresses, {self.frames} frames looked at, "
            f"{self.duration_s:.2f} s{watched}{silent}"
        )


class _Probe(NamedTuple):
    machine: str
    protocol: str
    destination: str


@dataclass(slots=True)
class _Watch:
    """A place that is watched, and what is wrong there."""

    where: str
    tap: Tap
    #: the fabric that it is in; None: the host's own namespace
    fabric: Channel | None
    is_alive: asyncio.Event = field(default_factory=asyncio.Event)
    frames: int = 0


async def assert_sealed(surroundings: Surroundings, *, timeout_s: float) -> SealReport:
    """Prove by observation that nothing leaves a layout and nothing enters.

    :raises AssertionError: something does.
    :raises TimeLimitError: it took too long.
    """
    trial = _Trial(surroundings)
    try:
        async with asyncio.timeout(timeout_s):
            return await trial.run()
    except TimeoutError:
        raise TimeLimitError(
            f"layout {surroundings.plan.layout!r}: no proof that it is sealed after {timeout_s:g} "
            f"s ({len(trial.sent)} packets sent); try: assert_sealed(timeout_s=...) with more"
        ) from None
    finally:
        trial.close()


class _Trial:
    """One attempt to get out of a layout."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._plan = surroundings.plan
        self._owners = Owners(self._plan)
        self._nonce = os.urandom(8)
        #: the same as a name in the DNS
        self._hex = self._nonce.hex().encode()
        self.sent: list[_Probe] = []
        self._counts: Counter[str] = Counter()
        self._destinations: dict[AnyAddress, str] = {}
        self._resolvers: list[AnyAddress] = []
        self._watches: list[_Watch] = []
        self._watched: dict[str, str] = {}
        #: where something was seen to what that was
        self._leaks: dict[str, dict[str, None]] = {}
        self._own: set[bytes] = {_NONE, *map(_raw, self._owners.macs)}
        self._ports = _ports(surroundings)
        self._spanned = False
        #: links of which something was heard inside
        self._heard: set[tuple[str, str]] = set()
        self._frame_probes: dict[int, tuple[str, str]] = {}
        self._port = 49152 + int.from_bytes(os.urandom(2), "big") % 16000
        #: address of the host to the ports on which it is listened there
        self._listening: dict[AnyAddress, tuple[int, int]] = {}
        self._sockets: list[socket.socket] = []
        self._channels: list[channel.AsyncChannel] = []

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for watch in self._watches:
            loop.remove_reader(watch.tap.fileno())
            watch.tap.close()
        for sock in self._sockets:
            loop.remove_reader(sock.fileno())
            sock.close()
        for opened in self._channels:
            opened.close()

    async def run(self) -> SealReport:
        begin = time.monotonic()
        neighbours = await self._surroundings.neighbours()
        self._find_destinations(neighbours)
        interfaces = await self._look_inside()
        await self._watch_inside()
        await self._watch_host()
        await asyncio.gather(*(self._watch_neighbour(one) for one in neighbours))
        await self._send_all(neighbours, interfaces)
        await asyncio.sleep(_SETTLE_S)  # that nothing comes can only be seen by waiting
        await self._prove_watching()
        lost = [watch.where for watch in self._watches if watch.tap.lost]
        if self._leaks:
            # of every place something, before more of one
            rows = zip_longest(*self._leaks.values())
            told = [text for row in rows for text in row if text is not None]
            more = len(told) - _MOST_TOLD
            lines = [*told[:_MOST_TOLD], *([f"and {more} more"] if more > 0 else [])]
            raise AssertionError(
                f"layout {self._plan.layout!r} is not sealed:" + "".join(f"\n  {t}" for t in lines)
            )
        silent = {
            (name, one.name) for name, ones in interfaces.items() for one in ones if not one.is_up
        }
        mute = set(self._frame_probes.values()) - self._heard
        if lost or (mute and not self._heard):
            why = (
                f"packets came faster than they could be looked at in: {', '.join(lost)}"
                if lost
                else "none of the packets that it sent was seen on its own networks"
            )
            raise AssertionError(
                f"layout {self._plan.layout!r}: that it is sealed is not proved: {why}; try again"
            )
        return SealReport(
            layout=self._plan.layout,
            probes=dict(self._counts),
            destinations={str(address): what for address, what in self._destinations.items()},
            watched=self._watched,
            frames=sum(watch.frames for watch in self._watches),
            silent=tuple(sorted(f"{name}.{interface}" for name, interface in silent | mute)),
            duration_s=time.monotonic() - begin,
        )

    # what there is

    def _find_destinations(self, neighbours: Sequence[Neighbour]) -> None:
        def add(text: str, what: str) -> AnyAddress | None:
            address = _address(text)
            if address is None or address.is_loopback or address.is_unspecified:
                return None
            self._destinations.setdefault(address, what)
            return address

        for row in netlink.addresses():
            if row["address"] is not None:
                add(str(ip_interface(row["address"]).ip), _HOST)
        with contextlib.suppress(OSError):
            for line in _RESOLV_CONF.read_text(errors="replace").splitlines():
                words = line.split()
                if words[:1] == ["nameserver"] and len(words) > 1:
                    address = add(words[1], "resolver of this host")
                    self._resolvers += [address] if address is not None else []
        for route in netlink.routes():
            if route["destination"] == "default" and route["via"]:
                add(route["via"], "gateway of this host")
        for neighbour in neighbours:
            for text in neighbour.addresses:
                add(text, f"machine of {neighbour.name}")
        # those of the layout itself: they may ask others in turn
        for machine in self._plan.machines.values():
            for link in machine.links:
                for one in link.addressings:
                    self._resolvers += [a for a in one.dns_servers if a not in self._resolvers]

    async def _look_inside(self) -> Mapping[str, Sequence[Interface]]:
        """Interfaces of each machine as they are now; learn all hardware addresses."""
        fabric = self._surroundings.fabric
        stations = [f"station:{name}" for name in self._surroundings.stations]
        names: list[str | None] = [*self._plan.machines, *stations, None]
        found: dict[str, Sequence[Interface]] = {}
        for name in names:
            try:
                sock = await open_socket(
                    fabric, name, socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
                )
            except FabricError:
                continue  # not there, or not yet
            with sock:
                interfaces = interfaces_of(sock)
            self._own.update(one.mac for one in interfaces)
            if name is None:
                self._ports |= {
                    # what a fault puts in a port's place, see fabric.cable
                    f"cg{part}{one.number}": self._ports[one.name]
                    for one in interfaces
                    if one.name in self._ports
                    for part in "ris"
                }
                self._spanned = any(one.name.startswith(_SPAN) for one in interfaces)
            elif name in self._plan.machines:
                found[name] = [one for one in interfaces if one.is_ethernet]
        return found

    # watching

    def _add_watch(
        self,
        where: str,
        tap: Tap,
        fabric: Channel | None,
        judge: Callable[[_Watch, Seen], None],
    ) -> None:
        watch = _Watch(where, tap, fabric)
        self._watches.append(watch)

        def readable() -> None:
            for seen in tap.read(500):
                watch.frames += 1
                judge(watch, seen)

        asyncio.get_running_loop().add_reader(tap.fileno(), readable)

    async def _watch_inside(self) -> None:
        fabric = self._surroundings.fabric
        tap = await Tap.open(fabric, None, None)
        self._add_watch("its own networks", tap, fabric, self._judge_inside)
        self._watched["its own networks"] = "packet socket on all bridges and their ports"

    async def _watch_host(self) -> None:
        try:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError:
            self._listen_on_host()
            return
        # a plan may give a machine a hardware address that this host has, too
        taken = {_raw(row["mac"]) for row in netlink.addresses() if row["mac"]}
        judge = self._judge_outside(frozenset(self._own) - taken - {_NONE})
        self._add_watch(_HOST, Tap.on(sock, None), None, judge)
        self._watched[_HOST] = "packet socket on all interfaces"

    def _listen_on_host(self) -> None:
        """Without privileges, what can be seen on the host is what arrives at a socket."""
        loop = asyncio.get_running_loop()
        addresses = [
            address
            for address, what in self._destinations.items()
            if what == _HOST and not address.is_link_local
        ]
        for address in addresses:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            datagrams = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._sockets.append(datagrams)
            streams = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self._sockets.append(streams)
            try:
                for sock in (datagrams, streams):
                    sock.bind((str(address), 0))
            except OSError:  # an address that is not in use yet, or not any more
                continue
            streams.listen(128)
            ports = datagrams.getsockname()[1], streams.getsockname()[1]
            self._listening[address] = ports

            def heard(sock: socket.socket = datagrams) -> None:
                with contextlib.suppress(BlockingIOError):
                    data, peer = sock.recvfrom(2048)
                    probe = self._probe_of(data)
                    if probe is not None:
                        self._leak(probe, f"arrived there from {peer[0]}")

            def called(sock: socket.socket = streams, to: AnyAddress = address) -> None:
                with contextlib.suppress(BlockingIOError):
                    connection, peer = sock.accept()
                    connection.close()
                    self._note(
                        f"TCP {to}",
                        f"a TCP connection to {to} ({_HOST}) from {peer[0]} arrived there, "
                        "at a port that nobody else knows",
                    )

            loop.add_reader(datagrams.fileno(), heard)
            loop.add_reader(streams.fileno(), called)
        self._watched[_HOST] = (
            "no privileges for packet sockets: UDP and TCP sockets that listen on "
            f"{', '.join(map(str, self._listening)) or 'no address'}"
        )

    async def _watch_neighbour(self, neighbour: Neighbour) -> None:
        where = f"environment {neighbour.name}"
        try:
            async with asyncio.timeout(_NEIGHBOUR_S):
                opened = await channel.connect(str(neighbour.socket), where)
                self._channels.append(opened)
                tap = await Tap.open(opened, None, None)
        except (FabricError, OSError):
            return  # it has just ended
        except TimeoutError:
            self._watched[where] = f"not at all: its fabric was busy for {_NEIGHBOUR_S:g} s"
            return
        macs = frozenset(self._own) - {_NONE} - frozenset(map(_raw, neighbour.macs))
        self._add_watch(where, tap, opened, self._judge_outside(macs, may_be_spanned=True))
        self._watched[where] = "packet socket on all bridges and their ports"

    def _judge_outside(
        self, macs: frozenset[bytes], *, may_be_spanned: bool = False
    ) -> Callable[[_Watch, Seen], None]:
        #: probes that came by a declared span: they are seen again wherever they go from there
        legal: set[_Probe] = set()

        def judge(watch: _Watch, seen: Seen) -> None:
            probe = self._probe_of(seen.data, watch)
            if probe is None and seen.data[6:12] not in macs:
                return
            by_span = may_be_spanned and self._spanned and seen.interface.startswith(_SPAN)
            if probe is not None:
                if by_span:
                    legal.add(probe)
                if probe not in legal:
                    self._leak(probe, f"was seen in {watch.where}, on {seen.interface}")
            elif not by_span and not (may_be_spanned and self._spanned):
                self._note(
                    f"{watch.where} {seen.interface} unasked",
                    f"a packet of {self._who(seen)} was seen in {watch.where}, on "
                    f"{seen.interface}: {dissect(seen.data, owners=self._owners)}",
                )

        return judge

    def _judge_inside(self, watch: _Watch, seen: Seen) -> None:
        probe = self._probe_of(seen.data, watch)
        is_known = seen.interface in self._ports or bool(_OWN.fullmatch(seen.interface))
        if probe is not None:
            number = self._number_of(seen.data)
            if number in self._frame_probes:
                self._heard.add(self._frame_probes[number])
            if not is_known and seen.is_outgoing:
                self._leak(probe, f"left by {seen.interface}, which is no part of the layout")
                return
        if seen.is_outgoing or seen.interface == "lo":
            return
        source = seen.data[6:12]
        if self._spanned and seen.interface.startswith(_SPAN):
            self._own.add(source)  # the far side of a declared span
        elif not is_known or source not in self._own:
            network = self._ports.get(seen.interface, seen.interface)
            self._note(
                f"in by {seen.interface}",
                f"a packet of nobody in the layout came in by {seen.interface}: "
                f"{dissect(seen.data, network=network)}",
            )

    def _who(self, seen: Seen) -> str:
        mac = seen.data[6:12].hex(":")
        machine = self._owners.of_mac(mac)
        return f"machine {machine!r}" if machine is not None else f"the layout ({mac})"

    def _leak(self, probe: _Probe, where: str) -> None:
        what = self._destinations.get(ip_address(probe.destination), "resolver of the layout")
        self._note(
            where,
            f"a packet of machine {probe.machine!r} to {probe.destination} ({what}) "
            f"by {probe.protocol} {where}",
        )

    def _note(self, where: str, text: str) -> None:
        self._leaks.setdefault(where, {}).setdefault(text)

    def _number_of(self, data: bytes) -> int | None:
        at = data.find(self._nonce)
        if at >= 0 and len(data) >= at + _TOKEN.size:
            return int(_TOKEN.unpack_from(data, at)[1])
        at = data.lower().find(self._hex)
        if at < 0:
            return None
        digits = data[at + 16 : at + 24]
        return int(digits, 16) if re.fullmatch(rb"[0-9A-Fa-f]{8}", digits) else None

    def _probe_of(self, data: bytes, watch: _Watch | None = None) -> _Probe | None:
        number = self._number_of(data)
        if number is None:
            return None
        if number == _CANARY:
            if watch is not None:
                watch.is_alive.set()
            return None
        return self.sent[number] if number < len(self.sent) else None

    # sending

    def _next(self, machine: str, protocol: str, destination: AnyAddress) -> bytes:
        self.sent.append(_Probe(machine, protocol, str(destination)))
        return _TOKEN.pack(self._nonce, len(self.sent) - 1)

    async def _send_all(
        self,
        neighbours: Sequence[Neighbour],
        interfaces: Mapping[str, Sequence[Interface]],
    ) -> None:
        far = {a for one in neighbours for text in one.addresses if (a := _address(text))}
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
        fabric: Channel = self._surroundings.fabric
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
            sock = await open_socket(self._surroundings.fabric, machine, family, socket.SOCK_STREAM)
            with sock, contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_SETTLE_S):
                    await asyncio.get_running_loop().sock_connect(sock, (str(address), port))

        tcp = {address: ports[1] for address, ports in self._listening.items()}
        await asyncio.gather(*(try_one(address, port) for address, port in tcp.items()))
        self._counts["TCP connections"] += len(tcp)

    # whether it was worth something

    async def _prove_watching(self) -> None:
        """Have every watch see a packet that was sent after all others."""
        token = _TOKEN.pack(self._nonce, _CANARY)
        told: list[_Watch] = []
        for watch in self._watches:
            try:
                if watch.fabric is None:
                    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                else:
                    sock = await open_socket(watch.fabric, None, socket.AF_INET, socket.SOCK_DGRAM)
            except FabricError:
                if watch.fabric is self._surroundings.fabric:
                    raise
                self._watched[watch.where] += ", until it ended"
                continue
            with sock:
                sock.sendto(token, ("127.0.0.1", self._port))
            told.append(watch)
        for watch in told:
            await watch.is_alive.wait()


def _raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _address(text: str) -> AnyAddress | None:
    try:
        return ip_address(text.partition("%")[0].partition("/")[0])
    except ValueError:
        return None


def _ports(surroundings: Surroundings) -> dict[str, str]:
    """Interfaces in the fabric that are the layout's, and their networks."""
    plan = surroundings.plan
    found = {network.bridge: network.name for network in plan.networks.values()}
    links: Iterable[PlannedLink] = [
        *(link for machine in plan.machines.values() for link in machine.links),
        *plan.stations.values(),
    ]
    for link in links:
        found[link.port] = link.network
        found |= {vlan.port: vlan.network for vlan in link.vlans}
        found |= {port: link.network for _, port in link.members}
    return found
