"""Twins: two copies of one layout at the same time, with the same names, addresses and MACs.

``python -m tests.endurance.twins --pairs 100`` builds a hundred pairs, one after the other. All
machines of both copies send what machines send: ARP, neighbours of IPv6, multicast, broadcast, DNS,
TCP, UDP, echoes. Whatever has room for it says which copy it is of. All that passes any interface
of either fabric, and of the host, is looked at: the exit status says whether a packet was astray,
or was not looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.live.packets.taps import open_socket
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from tests.support.layouts import Build, building, end

__all__ = ["COPIES", "KINDS", "Ear", "Report", "judge", "main", "try_pairs"]

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
#: how each packet says whose it is: this, and the name of the copy
MARK = b"twin:"
COPIES = ("A", "B")
#: what each machine sends that carries the mark
KINDS = ("arp", "nd", "udp", "tcp", "dns", "echo", "echo6", "broadcast", "multicast", "multicast6")


class Twin(Layout):
    """A router between two networks."""

    lan = Network("10.0.0.0/24")
    dmz = Network("192.0.2.0/24")
    gw = Machine(
        links={
            "lan0": lan.at(".1", mac="02:00:00:00:01:01"),
            "dmz0": dmz.at(".1", mac="02:00:00:00:02:01"),
        },
        forward=True,
    )
    db = Machine(links={"eth0": lan.at(".10", gateway=".1", mac="02:00:00:00:01:10")})
    web = Machine(links={"eth0": dmz.at(".20", gateway=".1", mac="02:00:00:00:02:20")})


#: is given the mark, the seconds, the interface, its own address, and those of others
TALK = r"""
import socket, struct, sys, threading, time
mark, seconds, interface, own, *others = sys.argv[1:]
end = time.monotonic() + float(seconds)
index = socket.if_nametoindex(interface)
mac = bytes.fromhex(open(f"/sys/class/net/{interface}/address").read().strip().replace(":", ""))


def tagged(kind):
    return f"{mark}{kind};".encode().ljust(48, b".")


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def serve():
    listener = socket.create_server(("", 7000), reuse_port=True)
    while True:
        client, _ = listener.accept()
        client.sendall(client.recv(100))
        client.close()


threading.Thread(target=serve, daemon=True).start()
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind((interface, 0))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
echo = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
echo6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
link = bytes.fromhex("fe80000000000000") + bytes([mac[0] ^ 2, *mac[1:3], 0xFF, 0xFE, *mac[3:]])
everybody = socket.inet_pton(socket.AF_INET6, "ff02::1")
number = 0
while time.monotonic() < end:
    number += 1
    target = others[number % len(others)]
    asks = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, mac, socket.inet_aton(own), bytes(6),
                       socket.inet_aton(target))
    raw.send(b"\xff" * 6 + mac + b"\x08\x06" + asks + tagged("arp"))
    # who has a neighbour's address? with the mark in an option that nobody knows, RFC 4861
    body = struct.pack("!BBHI16s", 135, 0, 0, 0, everybody)
    body += bytes([253, 7]) + tagged("nd") + bytes(6)
    pseudo = link + everybody + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    header = struct.pack("!IHBB16s16s", 6 << 28, len(body), 58, 255, link, everybody)
    raw.send(bytes.fromhex("333300000001") + mac + b"\x86\xdd" + header + body)
    for address, port, kind in (
        (target, 4000, "udp"),
        ("255.255.255.255", 4001, "broadcast"),
        ("239.9.9.9", 4002, "multicast"),
    ):
        try:
            udp.sendto(tagged(kind), (address, port))
        except OSError:
            pass
    name = tagged("dns")[:48]
    query = struct.pack("!6H", number & 0xFFFF, 0x100, 1, 0, 0, 0)
    query += bytes([48]) + name + bytes([0, 0, 1, 0, 1])
    udp.sendto(query, (target, 53))
    try:
        six.sendto(tagged("multicast6"), ("ff02::1", 4003, 0, index))
        packet = struct.pack("!BBHHH", 8, 0, 0, 77, number & 0xFFFF) + tagged("echo")
        echo.sendto(packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:], (target, 0))
        packet = struct.pack("!BBHHH", 128, 0, 0, 77, number & 0xFFFF) + tagged("echo6")
        echo6.sendto(packet, ("ff02::1", 0, 0, index))
    except OSError:
        pass
    if number % 5 == 0:
        try:
            with socket.create_connection((others[0], 7000), 0.5) as door:
                door.sendall(tagged("tcp"))
                door.recv(100)
        except OSError:
            pass
    time.sleep(0.01)
"""


@dataclass(slots=True)
class Report:
    """What was seen of some pairs."""

    pairs: int = 0
    #: frames of both copies
    frames: int = 0
    #: copy and kind to how often a packet of it was seen where it belongs
    marked: Counter[str] = field(default_factory=Counter)
    #: what was where it does not belong, in words
    astray: list[str] = field(default_factory=list)
    #: frames on the host's own interfaces meanwhile, of whomever
    on_host: int = 0
    #: frames that the kernel could not show us
    unseen: int = 0

    @property
    def is_good(self) -> bool:
        """Whether all was looked at, everything was sent, and nothing was astray."""
        everything = {f"{copy}/{kind}" for copy in COPIES for kind in KINDS}
        return not self.astray and not self.unseen and everything <= set(self.marked)


class Ear:
    """Hears all that passes any interface of a network namespace; of a packet keeps its marks."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.frames = 0
        #: mark (copy and kind) to how often it was seen
        self.marks: Counter[str] = Counter()
        sock.settimeout(0.1)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                frame = self._sock.recv(1 << 16)
            except TimeoutError:
                if self._is_over.is_set():
                    return
                continue
            self.take(frame)

    def take(self, frame: bytes) -> None:
        """Look at a frame."""
        self.frames += 1
        for part in frame.split(MARK)[1:]:
            self.marks[part.partition(b";")[0][:40].decode(errors="replace")] += 1

    def lost(self) -> int:
        """How many frames the kernel had no room for."""
        statistics = self._sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        count: int = struct.unpack("=II", statistics)[1]
        return count

    def stop(self) -> None:
        """Take what is there, and stop."""
        self._is_over.set()
        self._thread.join()
        self._sock.close()


def judge(report: Report, copy: str, ear: Ear) -> None:
    """Take in what was heard in a copy, or, without a name, on the host."""
    for mark, times in ear.marks.items():
        owner, _, kind = mark.partition("/")
        if owner == copy:
            report.marked[mark] += times
        else:
            where = f"copy {copy}" if copy else "the host"
            report.astray.append(f"{times} x {kind} of copy {owner} in {where}")


async def _ear_in(layout: AsyncLayout) -> Ear:
    sock = await open_socket(
        layout.fabric, None, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)
    )
    return Ear(sock)


def _ear_on_host() -> Ear | None:
    try:
        return Ear(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)))
    except PermissionError:
        return None  # an ordinary user's fabric could not reach it either


async def _talk(layout: AsyncLayout, copy: str, seconds: float) -> None:
    mark = f"{MARK.decode()}{copy}/"
    links = [
        ("gw", "lan0", "10.0.0.1", ["10.0.0.10", "10.0.0.99"]),
        ("gw", "dmz0", "192.0.2.1", ["192.0.2.20", "192.0.2.99"]),
        ("db", "eth0", "10.0.0.10", ["10.0.0.1", "192.0.2.20", "10.0.0.99"]),
        ("web", "eth0", "192.0.2.20", ["192.0.2.1", "10.0.0.10", "192.0.2.99"]),
    ]
    async with asyncio.TaskGroup() as group:
        for machine, interface, own, others in links:
            argv = ["python3", "-I", "-S", "-c", TALK, mark, str(seconds), interface, own, *others]
            group.create_task(layout[machine].run(argv, timeout_s=120))


def _try_pair(portal: Portal, build: Build, report: Report, seconds: float) -> None:
    twins = {name: build(Twin) for name in COPIES}

    async def go() -> dict[str, Ear]:
        ears = {name: await _ear_in(twin.aio) for name, twin in twins.items()}
        async with asyncio.TaskGroup() as group:
            for name, twin in twins.items():
                group.create_task(_talk(twin.aio, name, seconds))
        await asyncio.sleep(0.2)
        return ears

    host = _ear_on_host()
    ears: dict[str, Ear] = {}
    try:
        ears = portal.call(go)
    finally:
        for name, ear in [*ears.items(), *([("", host)] if host is not None else [])]:
            report.unseen += ear.lost()
            ear.stop()
            judge(report, name, ear)
            if name:
                report.frames += ear.frames
            else:
                report.on_host += ear.frames
        for twin in twins.values():
            end(twin)
    report.pairs += 1


@contextlib.contextmanager
def _own_state() -> Iterator[None]:
    before = os.environ.get("CARTHAGE_STATE")
    with tempfile.TemporaryDirectory(prefix="twins-") as folder:
        os.environ["CARTHAGE_STATE"] = folder
        try:
            yield
        finally:
            del os.environ["CARTHAGE_STATE"]
            if before is not None:
                os.environ["CARTHAGE_STATE"] = before


def try_pairs(count: int, *, seconds: float) -> Report:
    """Build so many pairs, one after the other, each of which talks for so long."""
    report = Report()
    with _own_state(), contextlib.closing(Portal()) as portal:
        for _ in range(count):
            with building(portal, {"netns": NetnsProvider}) as build:
                _try_pair(portal, build, report, seconds)
            if report.astray:
                break
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each pair talks")
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    report = try_pairs(options.pairs, seconds=options.seconds)
    kinds = ", ".join(
        f"{kind} {sum(report.marked[f'{copy}/{kind}'] for copy in COPIES)}" for kind in KINDS
    )
    print(
        f"{report.pairs} pairs in {time.monotonic() - begun:.0f} s: {report.frames} frames in the "
        f"copies, {report.on_host} on the host meanwhile, {report.unseen} unseen; marked: {kinds}; "
        f"{len(report.astray)} astray"
    )
    for line in report.astray:
        print(f"  {line}")
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
