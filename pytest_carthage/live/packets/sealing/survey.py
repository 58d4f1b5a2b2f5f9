"""What a trial of a seal knows."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
from collections import Counter
from collections.abc import (
    Iterable,
    Sequence,
)
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pytest_carthage.fabric.wire import channel
from pytest_carthage.live.packets.packets import Owners
from pytest_carthage.live.packets.taps import Seen, Tap

if TYPE_CHECKING:
    from pytest_carthage.handles.channel import Channel
    from pytest_carthage.planning.plan import Plan, PlannedLink


__all__ = ["HOST", "AnyAddress", "Probe", "Survey", "Watch", "address_in", "raw_mac"]

AnyAddress: TypeAlias = IPv4Address | IPv6Address

#: what the host itself is called in messages
HOST = "this host"
#: what each packet carries: what this trial has chosen by chance, and the packet's number
TOKEN = struct.Struct("!8sI")
#: number of the last packet, which every watch must see
CANARY = 0xFFFFFFFF
NO_MAC = bytes(6)
#: how ports of spans begin
SPAN = "span."


class Probe(NamedTuple):
    """A packet that was sent."""

    machine: str
    protocol: str
    destination: str


@dataclass(slots=True)
class Watch:
    """A place that is watched, and what is wrong there."""

    where: str
    tap: Tap
    #: the fabric that it is in; None: the host's own namespace
    fabric: Channel | None
    is_alive: asyncio.Event = field(default_factory=asyncio.Event)
    frames: int = 0


class Survey:
    """What a trial knows: the layout, what it sent, and what was seen where it must not be."""

    def __init__(self, plan: Plan, fabric: Channel, stations: Sequence[str]) -> None:
        self._plan = plan
        self._fabric = fabric
        self._stations = stations
        self._owners = Owners(self._plan)
        self._nonce = os.urandom(8)
        #: the same as a name in the DNS
        self._hex = self._nonce.hex().encode()
        self.sent: list[Probe] = []
        self._counts: Counter[str] = Counter()
        self._destinations: dict[AnyAddress, str] = {}
        self._resolvers: list[AnyAddress] = []
        self._watches: list[Watch] = []
        self._watched: dict[str, str] = {}
        #: where something was seen to what that was
        self._leaks: dict[str, dict[str, None]] = {}
        self._own: set[bytes] = {NO_MAC, *map(raw_mac, self._owners.macs)}
        self._ports = _ports(plan)
        self._spanned = False
        #: machine of which nothing can be seen, to why
        self._unobserved: dict[str, str] = {}
        #: links of which something was heard inside
        self._heard: set[tuple[str, str]] = set()
        self._frame_probes: dict[int, tuple[str, str]] = {}
        self._port = 49152 + int.from_bytes(os.urandom(2), "big") % 16000
        #: address of the host to the ports on which it is listened there
        self._listening: dict[AnyAddress, tuple[int, int]] = {}
        self._sockets: list[socket.socket] = []
        self._channels: list[channel.AsyncChannel] = []

    def close(self) -> None:
        """Let go of everything that it opened."""
        loop = asyncio.get_running_loop()
        for watch in self._watches:
            loop.remove_reader(watch.tap.fileno())
            watch.tap.close()
        for sock in self._sockets:
            loop.remove_reader(sock.fileno())
            sock.close()
        for opened in self._channels:
            opened.close()

    def _who(self, seen: Seen) -> str:
        mac = seen.data[6:12].hex(":")
        machine = self._owners.of_mac(mac)
        return f"machine {machine!r}" if machine is not None else f"the layout ({mac})"

    def _leak(self, probe: Probe, where: str) -> None:
        target = self._destinations.get(ip_address(probe.destination), "resolver of the layout")
        self._note(
            where,
            f"a packet of machine {probe.machine!r} to {probe.destination} ({target}) "
            f"by {probe.protocol} {where}",
        )

    def _note(self, where: str, text: str) -> None:
        self._leaks.setdefault(where, {}).setdefault(text)

    def _number_of(self, data: bytes) -> int | None:
        at = data.find(self._nonce)
        if at >= 0 and len(data) >= at + TOKEN.size:
            return int(TOKEN.unpack_from(data, at)[1])
        at = data.lower().find(self._hex)
        if at < 0:
            return None
        digits = data[at + 16 : at + 24]
        return int(digits, 16) if re.fullmatch(rb"[0-9A-Fa-f]{8}", digits) else None

    def _probe_of(self, data: bytes, watch: Watch | None = None) -> Probe | None:
        number = self._number_of(data)
        if number is None:
            return None
        if number == CANARY:
            if watch is not None:
                watch.is_alive.set()
            return None
        return self.sent[number] if number < len(self.sent) else None

    def _next(self, machine: str, protocol: str, destination: AnyAddress) -> bytes:
        self.sent.append(Probe(machine, protocol, str(destination)))
        return TOKEN.pack(self._nonce, len(self.sent) - 1)


def raw_mac(mac: str) -> bytes:
    """A hardware address as it is in frames."""
    return bytes.fromhex(mac.replace(":", ""))


def address_in(text: str) -> AnyAddress | None:
    """The address in a text, without prefix length and zone; None: it is none."""
    try:
        return ip_address(text.partition("%")[0].partition("/")[0])
    except ValueError:
        return None


def _ports(plan: Plan) -> dict[str, str]:
    """Interfaces in the fabric that are the layout's, and their networks."""
    names = {network.bridge: network.name for network in plan.networks.values()}
    links: Iterable[PlannedLink] = [
        *(link for machine in plan.machines.values() for link in machine.links),
        *plan.stations.values(),
    ]
    for link in links:
        names[link.port] = link.network
        names |= {vlan.port: vlan.network for vlan in link.vlans}
        names |= {port: link.network for _, port in link.members}
    return names
