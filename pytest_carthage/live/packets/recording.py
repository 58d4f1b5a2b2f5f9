"""Recordings: the last packets of whole networks, for as long as a layout lives.

The kernel writes frames into memory that it shares with this process (PACKET_RX_RING, version 3,
packet(7)); whole blocks of it are put aside, the oldest are forgotten. Nothing is taken apart
before somebody asks, so that a recording costs a test next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import LayoutError
from pytest_carthage.live.packets import pcapng
from pytest_carthage.live.packets.capture import Place, places
from pytest_carthage.live.packets.packets import Owners, dissect
from pytest_carthage.live.packets.taps import index_of, open_socket

if TYPE_CHECKING:
    from pytest_carthage.live.surroundings import Knows, Reaches
    from pytest_carthage.planning.plan import Plan

__all__ = ["FILE", "Recording", "Slice", "recordable"]

#: name of a kept recording, in the environment's folder
FILE = "packets.pcapng"

#: linux/if_packet.h
_SOL_PACKET, _ETH_P_ALL = 263, 0x0003
_ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION = 1, 5, 6, 10
_MR_PROMISC, _V3 = 1, 2
_BLOCK = struct.Struct("=IIIIIIQIIII")
_STATUS_OFFSET, _COUNT_OFFSET = 8, 12
_STATUS_USER = 1
_PACKET = struct.Struct("=IIIIIIHHIIH")
_VLAN_VALID, _VLAN_TPID_VALID = 0x10, 0x40
#: what the kernel fills while this process does something else, per network
_BLOCKS, _BLOCK_BYTES, _FRAME_BYTES = 16, 1 << 18, 2048
#: how soon a block that is not full is handed over
_HAND_OVER_MS = 50
_SETTLE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What a file holds of one network."""

    network: str
    packets: int
    #: what is not there, and why; empty: all is there
    lost: str


@dataclass(frozen=True, slots=True)
class _Block:
    """Frames as the kernel laid them out, the first one at ``first``."""

    data: bytes
    count: int
    first: int
    from_ns: int
    to_ns: int


def recordable(plan: Plan) -> Sequence[str]:
    """Networks that can be recorded.

    A tunnel has no wire of its own: its packets are within those of the network below.
    """
    return [
        network.name
        for network in plan.networks.values()
        if network.kind in ("bridged", "point-to-point")
    ]


class _Ring:
    """The last packets of one place."""

    def __init__(self, place: Place, sock: socket.socket, most_bytes: int) -> None:
        self.place = place
        self._most = most_bytes
        self._blocks: deque[_Block] = deque()
        self._bytes = 0
        #: time of the last frame that was forgotten; how many there were
        self._forgotten_ns, self._forgotten = 0, 0
        #: frames that the kernel had no room for: when that was noticed, and how many
        self._dropped: list[tuple[int, int]] = []
        self._last_ns = 0
        self._sock = sock
        sock.setsockopt(_SOL_PACKET, _VERSION, _V3)
        sock.setsockopt(
            _SOL_PACKET,
            _RX_RING,
            struct.pack(
                "=7I",
                _BLOCK_BYTES,
                _BLOCKS,
                _FRAME_BYTES,
                _BLOCK_BYTES // _FRAME_BYTES * _BLOCKS,
                _HAND_OVER_MS,
                0,
                0,
            ),
        )
        self._memory = mmap.mmap(sock.fileno(), _BLOCK_BYTES * _BLOCKS)
        request = struct.pack("=iHH8s", index_of(sock, place.interface), _MR_PROMISC, 0, bytes(8))
        sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)
        sock.bind((place.interface, _ETH_P_ALL))
        self._next = 0
        self._loop = asyncio.get_running_loop()
        self._took = asyncio.Event()
        self._lock = threading.Lock()
        self._loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # told once, as ENETDOWN
        with self._lock:
            while self._take_block():
                pass
            self._note_drops()
        self._took.set()

    def _take_block(self) -> bool:
        """Put the next block aside, if the kernel is done with it."""
        offset = self._next * _BLOCK_BYTES
        _, _, status, count, first, size, _, sec, nsec, last_sec, last_nsec = _BLOCK.unpack_from(
            self._memory, offset
        )
        if not status & _STATUS_USER:
            return False
        if count:
            block = _Block(
                self._memory[offset : offset + size],
                count,
                first,
                sec * 10**9 + nsec,
                last_sec * 10**9 + last_nsec,
            )
            self._blocks.append(block)
            self._bytes += size
            self._last_ns = block.to_ns
        struct.pack_into("=I", self._memory, offset + _STATUS_OFFSET, 0)
        self._next = (self._next + 1) % _BLOCKS
        while self._bytes > self._most and len(self._blocks) > 1:
            oldest = self._blocks.popleft()
            self._bytes -= len(oldest.data)
            self._forgotten_ns = oldest.to_ns
            self._forgotten += oldest.count
        return True

    def _note_drops(self) -> None:
        counts = self._sock.getsockopt(_SOL_PACKET, _STATISTICS, 12)
        _, drops, _ = struct.unpack("=III", counts)
        if drops:
            self._dropped.append((self._last_ns, drops))

    async def settle(self) -> None:
        """Wait until what was sent by now has been put aside."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_S):
                while self._is_filling():
                    self._took.clear()
                    await self._took.wait()

    def _is_filling(self) -> bool:
        with self._lock:
            if self._memory.closed:
                return False
            while self._take_block():
                pass
            offset = self._next * _BLOCK_BYTES
            return bool(struct.unpack_from("=I", self._memory, offset + _COUNT_OFFSET)[0])

    def frames(self, since_ns: int, until_ns: int) -> Iterator[tuple[int, bytes, int]]:
        """Frames of a span of time: time, what was kept of it, and its length."""
        with self._lock:
            blocks = list(self._blocks)
        for block in blocks:
            if block.to_ns < since_ns or block.from_ns > until_ns:
                continue
            for time_ns, data, length in _frames(block):
                if since_ns <= time_ns <= until_ns:
                    yield time_ns, data, length

    def lost(self, since_ns: int, until_ns: int) -> str:
        """What is missing of a span of time."""
        parts = []
        with self._lock:
            if self._forgotten and self._forgotten_ns >= since_ns:
                at = datetime.fromtimestamp(self._forgotten_ns / 1e9).strftime("%H:%M:%S.%f")[:-3]
                parts.append(
                    f"packets until {at} made room for later ones "
                    f"(all {self._most >> 20} MiB were in use; more: carthage_pcap_mib)"
                )
            drops = sum(count for at_ns, count in self._dropped if since_ns <= at_ns)
            if drops:
                parts.append(f"{drops} packets came faster than they could be taken")
        return "; ".join(parts)

    def close(self) -> None:
        """Stop; what was put aside stays."""
        with self._lock:
            if self._sock.fileno() >= 0:
                self._loop.remove_reader(self._sock.fileno())
                self._sock.close()
                self._memory.close()


def _frames(block: _Block) -> Iterator[tuple[int, bytes, int]]:
    offset = block.first
    for _ in range(block.count):
        following, sec, nsec, kept, length, status, start, _, _, tag, ethertype = (
            _PACKET.unpack_from(block.data, offset)
        )
        data = block.data[offset + start : offset + start + kept]
        if status & _VLAN_VALID and len(data) >= 12:  # the kernel has taken the tag off
            protocol = ethertype if status & _VLAN_TPID_VALID else 0x8100
            data = data[:12] + struct.pack("!HH", protocol, tag & 0xFFFF) + data[12:]
            length += 4
        yield sec * 10**9 + nsec, data, length
        if not following:
            return
        offset += following


class Recording:
    """The last packets of an environment's networks."""

    def __init__(self, knows: Knows[Any], rings: Sequence[_Ring]) -> None:
        self._knows = knows
        self._rings = list(rings)

    @classmethod
    async def begin(
        cls, knows: Knows[Any], reaches: Reaches, networks: Sequence[str], *, most_bytes: int
    ) -> Recording:
        """Begin; when it returns, what is sent is recorded.

        :param most_bytes: what is held of each network.
        :raises LayoutError: there is no such network.
        """
        plan = knows.plan
        possible = recordable(plan)
        for network in networks:
            if network not in possible:
                raise LayoutError(
                    f"recording: layout {plan.layout!r} has no network {network!r} of its own "
                    f"wires; there are: {', '.join(possible) or 'none'}"
                )
        recording = cls(knows, [])
        try:
            for network in networks:
                (place,) = places(plan, network)
                sock = await open_socket(reaches.fabric, None, socket.AF_PACKET, socket.SOCK_RAW)
                try:
                    recording._rings.append(_Ring(place, sock, most_bytes))
                except BaseException:
                    sock.close()
                    raise
        except BaseException:
            recording.close()
            raise
        return recording

    @property
    def networks(self) -> Sequence[str]:
        """What is recorded."""
        return [ring.place.network for ring in self._rings]

    async def write(
        self, path: Path, *, since_s: float = 0.0, until_s: float | None = None
    ) -> Sequence[Slice]:
        """Write a span of time (seconds since the epoch) as one pcapng file."""
        await asyncio.gather(*(ring.settle() for ring in self._rings))
        since_ns = int(since_s * 1e9)
        until_ns = int(until_s * 1e9) if until_s is not None else 1 << 63
        owners = Owners(self._knows.plan)
        return await asyncio.to_thread(self._write, path, since_ns, until_ns, owners)

    def _write(self, path: Path, since_ns: int, until_ns: int, owners: Owners) -> Sequence[Slice]:
        counts = [0] * len(self._rings)

        def of(number: int, ring: _Ring) -> Iterator[pcapng.Frame]:
            for time_ns, data, length in ring.frames(since_ns, until_ns):
                counts[number] += 1
                packet = dissect(data, network=ring.place.network, owners=owners)
                yield pcapng.Frame(time_ns, number, data, length, owners.remark(packet))

        streams = [of(number, ring) for number, ring in enumerate(self._rings)]
        with path.open("wb") as file:
            pcapng.write(
                file,
                merge(*streams, key=lambda frame: frame.time_ns),
                networks=self.networks,
                names=owners.names(),
            )
        return [
            Slice(
                network=ring.place.network,
                packets=count,
                lost=ring.lost(since_ns, until_ns),
            )
            for ring, count in zip(self._rings, counts, strict=True)
        ]

    def close(self) -> None:
        """Stop; to stop twice is no error."""
        for ring in self._rings:
            ring.close()
